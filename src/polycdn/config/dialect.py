"""From what operators write to what the schema checks: numbers for "10s", tables for texts, full paths.

Also the other way: from a place in the checked tree to the key as it was written, and what is allowed there.
"""

import os.path
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Union

from pydantic.fields import FieldInfo

from polycdn.config.locate import Path as KeyPath
from polycdn.config.quantity import QuantityError, Unit, unit_of
from polycdn.config.read import Tree
from polycdn.config.table import Table
from polycdn.errors import Fault

FILE_KEYS = ("_file", "state_dir")


@dataclass
class Spelling:
    """The tree as the schema has it. `written` says for a renamed path how the operator wrote it."""

    tree: Tree
    faults: list[Fault]
    written: dict[KeyPath, KeyPath] = field(default_factory=dict)

    def written_path(self, path: KeyPath) -> KeyPath:
        """The path as it stands in the tree that was read."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.written:
                return (*self.written[path[:length]], *path[length:])
        return path

    def place(self, path: KeyPath) -> str:
        """Where the key of a path of the schema is written."""
        return self.tree.place(self.written_path(path))


def table_of(info: FieldInfo) -> type[Table] | None:
    """The table that a field holds, alone or in a list; None if it holds something else."""
    return next((kind for kind in _leaves(info.annotation) if _is_table(kind)), None)


def _leaves(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) in (Union, UnionType, list, typing.Annotated):
        for inner in typing.get_args(annotation):
            yield from _leaves(inner)
    else:
        yield annotation


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Table)


def short_keys(table: type[Table]) -> dict[str, list[tuple[str, Unit]]]:
    """Short key -> the full keys with their units that it may stand for."""
    found: dict[str, list[tuple[str, Unit]]] = {}
    for name in table.model_fields:
        if (short := unit_of(name)) and short[0] not in table.model_fields:
            found.setdefault(short[0], []).append((name, short[1]))
    return found


def allowed_keys(table: type[Table]) -> list[str]:
    """Every key that the table takes; those with a unit as `dwell (or dwell_ms)`."""
    units = short_keys(table)
    full = {name: short for short, names in units.items() for name, _unit in names}
    keys: list[str] = []
    for name in table.model_fields:
        short = full.get(name)
        if short is None:
            keys.append(name)
        elif short not in keys:
            keys.append(short)
    return keys


def spell(spelling: Spelling, table: type[Table], value: Any, path: KeyPath, written: KeyPath) -> Any:
    """`value`, a table as written at `written`, as the schema has it at `path`."""
    if isinstance(value, str) and table.SHORT:
        spelling.written[(*path, table.SHORT)] = written
        value = {table.SHORT: value}
    if not isinstance(value, dict):
        return value
    units = short_keys(table)
    spelled: dict[str, Any] = {}
    for key, item in value.items():
        if key in units:
            _spell_quantity(spelling, units[key], spelled, item, (path, (*written, key)), value)
            continue
        info = table.model_fields.get(key)
        inner, inner_written = (*path, key), (*written, key)
        if inner != inner_written:
            spelling.written[inner] = inner_written
        spelled[key] = _spell_field(spelling, info, key, item, inner, inner_written)
    return spelled


def _spell_field(
    spelling: Spelling, info: FieldInfo | None, key: str, item: Any, path: KeyPath, written: KeyPath
) -> Any:
    inner = table_of(info) if info else None
    if inner is not None and isinstance(item, list):
        return [
            spell(spelling, inner, each, (*path, index), (*written, index)) for index, each in enumerate(item)
        ]
    if inner is not None:
        return spell(spelling, inner, item, path, written)
    if info is not None and isinstance(item, str) and item and (key.endswith(FILE_KEYS) or key == "path"):
        return _full_path(spelling, key, item, written)
    return item


def _full_path(spelling: Spelling, key: str, item: str, written: KeyPath) -> str:
    """A file's path, from the folder of the config that names it. An object's `path` is none."""
    if "\0" in item or (key == "path" and "surface" not in written):
        return item
    folder = spelling.tree.source(written)[0].folder
    return os.path.normpath(folder / Path(item).expanduser())


def _spell_quantity(
    spelling: Spelling,
    choices: list[tuple[str, Unit]],
    spelled: dict[str, Any],
    item: Any,
    paths: tuple[KeyPath, KeyPath],
    table: dict[str, Any],
) -> None:
    path, written = paths
    place = spelling.tree.place(written)
    twin = next((name for name, _unit in choices if name in table), None)
    if twin is not None:
        spelling.faults.append(
            Fault(place, f"both `{written[-1]}` and `{twin}`", "one of them", f"remove `{twin}`")
        )
        return
    error = f"{toml_text(item)} ({toml_type(item)})"
    for name, unit in choices if isinstance(item, str) else []:
        try:
            spelled[name] = unit.parse(item)
        except QuantityError as wrong:
            error = str(wrong)
            continue
        spelling.written[(*path, name)] = written
        return
    spelling.faults.append(_wrong_quantity(place, choices, error))


def _wrong_quantity(place: str, choices: list[tuple[str, Unit]], found: str) -> Fault:
    noun = " or ".join(dict.fromkeys(unit.noun for _name, unit in choices))
    units = ", ".join(unit.names for _name, unit in choices)
    examples = " or ".join(f'"{unit.example}"' for _name, unit in choices)
    keys = " or ".join(f"`{name}`" for name, _unit in choices)
    return Fault(
        place=place,
        found=found,
        allowed=f"{noun} in quotes with its unit ({units}), or {keys} as a whole number",
        remedy=f"write it like {examples}",
    )


def toml_text(value: Any) -> str:
    """A value as it might stand in the file, shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
    if isinstance(value, dict):
        return "{...}"
    if isinstance(value, list):
        return "[...]"
    return str(value)


def toml_type(value: Any) -> str:
    """What TOML calls the type of a value."""
    names = {bool: "true or false", int: "a number", float: "a number with a point", str: "a text"}
    names |= {list: "a list", dict: "a table"}
    return names.get(type(value), "a date or time")
