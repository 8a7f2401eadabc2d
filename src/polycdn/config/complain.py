"""The schema's complaints as faults that an operator can act on."""

import typing
from difflib import get_close_matches
from typing import Any, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from polycdn.config.dialect import Spelling, allowed_keys, short_keys, table_of, toml_text, toml_type
from polycdn.config.locate import Path as KeyPath
from polycdn.config.quantity import unit_of
from polycdn.config.table import Table
from polycdn.errors import Fault


def faults_of(error: ValidationError, spelling: Spelling, root: type[Table]) -> list[Fault]:
    """One fault for each thing that the schema does not take; `root` is the table of the whole tree."""
    return [
        _fault(details, spelling, root)
        for details in error.errors(include_url=False)
        if spelling.tree.is_whole or details["type"] != "missing" or len(details["loc"]) > 1
    ]


def _fault(details: ErrorDetails, spelling: Spelling, root: type[Table]) -> Fault:
    path: KeyPath = details["loc"]
    kind, found = details["type"], details["input"]
    table, info = _field_at(path, root)
    if kind == "extra_forbidden":
        return _unknown_key(spelling.place(path), str(path[-1]), table)
    if kind == "missing":
        return _missing_key(spelling.place(path[:-1]), str(path[-1]), info)
    allowed, remedy = _allowed(info, str(path[-1])), ""
    if kind == "polycdn":
        context = details["ctx"]
        allowed, remedy = str(context["allowed"]), str(context["remedy"])
    text = toml_text(_written(found, path, spelling))
    if kind.endswith("_type") or isinstance(found, dict | list):
        text = f"{text} ({toml_type(found)})"
    return Fault(spelling.place(path), text, allowed, remedy or _remedy(info, found, path))


def _written(found: Any, path: KeyPath, spelling: Spelling) -> Any:
    """The value as the operator wrote it: "130%", not the 13000 that the schema saw."""
    if not isinstance(found, int) or isinstance(found, bool):
        return found
    value: Any = spelling.tree.values
    for step in spelling.written_path(path):
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return found
    return value


def _field_at(path: KeyPath, root: type[Table]) -> tuple[type[Table], FieldInfo | None]:
    """The table in which a path ends, and its field there, if it has one of that name."""
    table = root
    info: FieldInfo | None = None
    for index, step in enumerate(path):
        if not isinstance(step, str):
            continue
        info = table.model_fields.get(step)
        inner = table_of(info) if info else None
        if inner is None or index == len(path) - 1:
            break
        table = inner
    return table, info


def _unknown_key(place: str, key: str, table: type[Table]) -> Fault:
    keys = allowed_keys(table)
    full = [name for names in short_keys(table).values() for name, _unit in names]
    close = get_close_matches(key.lower(), [*keys, *full], n=1, cutoff=0.6)
    remedy = f"did you mean `{close[0]}`?" if close else "remove it"
    return Fault(place, f"unknown key `{key}`", ", ".join(keys), remedy)


def _missing_key(place: str, key: str, info: FieldInfo | None) -> Fault:
    description = (info.description or "") if info else ""
    return Fault(
        place,
        f"no `{key}`",
        f"{_allowed(info, key)}. {description}".removesuffix("."),
        f"add [[{key}]]" if info is not None and table_of(info) else f"add `{key}`",
    )


def _allowed(info: FieldInfo | None, key: str) -> str:
    """What a field takes, in words."""
    if info is None:
        return "a text"
    bounds = _bounds(info)
    annotation = _without_none(info.annotation)
    if typing.get_origin(annotation) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in typing.get_args(annotation))
    if unit := unit_of(key):
        short, spoken = unit
        limits = _between(*(None if bound is None else spoken.tell(bound) for bound in bounds))
        return f'`{short}` {spoken.noun} like "{spoken.example}"{limits}'
    return _noun(annotation, info) + _between(*(None if bound is None else str(bound) for bound in bounds))


def _noun(annotation: Any, info: FieldInfo) -> str:
    if table := table_of(info):
        is_list = typing.get_origin(annotation) is list
        what = f"a table with {', '.join(allowed_keys(table)[:4])}, ..."
        return f"a list of tables, each {what}" if is_list else what
    if typing.get_origin(annotation) is list:
        is_short = any(isinstance(rule, MinLen) for rule in info.metadata)
        inner = typing.get_args(annotation)[0]
        of = "whole numbers" if int in (inner, *typing.get_args(inner)[:1]) else "texts"
        return f"a list of {of}" + (", not empty" if is_short else "")
    nouns = {int: "a whole number", bool: "true or false", str: "a text, not empty"}
    return nouns.get(annotation, "a table of texts" if typing.get_origin(annotation) is dict else "a text")


def _without_none(annotation: Any) -> Any:
    leaves = [leaf for leaf in typing.get_args(annotation) if leaf is not type(None)]
    is_optional = len(leaves) == 1 and type(None) in typing.get_args(annotation)
    annotation = leaves[0] if is_optional else annotation
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _bounds(info: FieldInfo) -> tuple[int | None, int | None]:
    least = next((typing.cast(int, rule.ge) for rule in info.metadata if isinstance(rule, Ge)), None)
    most = next((typing.cast(int, rule.le) for rule in info.metadata if isinstance(rule, Le)), None)
    return least, most


def _between(least: str | None, most: str | None) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    return f" of at least {least}" if least is not None else ""


def _remedy(info: FieldInfo | None, found: Any, path: KeyPath) -> str:
    annotation = _without_none(info.annotation) if info else str
    if typing.get_origin(annotation) is Literal and isinstance(found, str):
        close = get_close_matches(found.lower(), typing.get_args(annotation), n=1)
        return f'did you mean "{close[0]}"?' if close else "choose one of these"
    if info and table_of(info) and typing.get_origin(annotation) is list and isinstance(found, dict):
        return "write [[...]] with two brackets"
    if typing.get_origin(annotation) is list and not isinstance(found, list) and isinstance(path[-1], str):
        return "put it in square brackets"
    if annotation is str and not isinstance(found, str):
        return "put it in quotes"
    return "write another value"
