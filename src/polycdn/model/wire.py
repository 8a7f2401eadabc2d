"""Model values as canonical JSON and back. Pure; every room that writes a file or a socket uses it.

A frozen dataclass is an object with its field names, an enum its value, a tuple a list. Fields that equal
their default are left out, so that adding a field with a default changes no old digest.
"""

import dataclasses
import hashlib
import json
import types
import typing
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union

T = TypeVar("T")
Json = Any


class WireError(ValueError):
    """The JSON does not have the shape of the type; the message names the field."""


def to_json(value: Any) -> Json:
    """Plain lists, dicts, ints and strings for a model value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.default is dataclasses.MISSING or getattr(value, field.name) != field.default
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    return value


def canonical(value: Any) -> bytes:
    """The one byte string of a value: sorted keys, no spaces, UTF-8, no floats."""
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any) -> str:
    """Hex SHA-256 of the canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def from_json(cls: type[T], raw: Json, place: str = "$") -> T:
    """A model value from plain JSON. Raises WireError naming the place of the first misfit."""
    return typing.cast(T, _build(cls, raw, place))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(kind: Any, raw: Json, place: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        return _build_union(kind, raw, place)
    if origin is tuple:
        return _build_tuple(typing.get_args(kind), raw, place)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(typing.cast(type, kind), raw, place)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(raw)
        except ValueError:
            raise WireError(f"{place}: {raw!r} is none of {[member.value for member in kind]}") from None
    if type(raw) is not kind:
        raise WireError(f"{place}: expected {kind.__name__}, found {type(raw).__name__}")
    return raw


def _build_union(kind: Any, raw: Json, place: str) -> Any:
    choices = [choice for choice in typing.get_args(kind) if choice is not type(None)]
    if raw is None:
        return None
    assert len(choices) == 1, f"{kind} is not an optional; tagged unions are decoded by their reader"
    return _build(choices[0], raw, place)


def _build_tuple(args: tuple[Any, ...], raw: Json, place: str) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise WireError(f"{place}: expected a list, found {type(raw).__name__}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_build(args[0], item, f"{place}[{index}]") for index, item in enumerate(raw))
    if len(args) != len(raw):
        raise WireError(f"{place}: expected {len(args)} items, found {len(raw)}")
    return tuple(
        _build(arg, item, f"{place}[{index}]")
        for index, (arg, item) in enumerate(zip(args, raw, strict=True))
    )


def _build_dataclass(kind: type, raw: Json, place: str) -> Any:
    if not isinstance(raw, dict):
        raise WireError(f"{place}: expected an object, found {type(raw).__name__}")
    hints = _hints(kind)
    unknown = sorted(set(raw) - set(hints))
    if unknown:
        raise WireError(f"{place}.{unknown[0]}: unknown field of {kind.__name__}")
    values = {name: _build(hints[name], raw[name], f"{place}.{name}") for name in hints if name in raw}
    for field in dataclasses.fields(kind):
        if field.name not in values and field.default is dataclasses.MISSING:
            raise WireError(f"{place}.{field.name}: missing")
    return kind(**values)
