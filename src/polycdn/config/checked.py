"""The tree under check, and what every rule needs to read it without tripping over wrong types."""

from dataclasses import dataclass
from typing import Any

from polycdn.config.dialect import Spelling
from polycdn.config.locate import Path as KeyPath
from polycdn.errors import Fault

Found = tuple[KeyPath, dict[str, Any]]
"""A table and where it is."""


@dataclass(frozen=True)
class Checked:
    """The tree under check, and where its faults go."""

    root: dict[str, Any]
    spelling: Spelling

    def complain(self, path: KeyPath, found: str, allowed: str, remedy: str) -> None:
        """Adds a fault at the key with this path."""
        self.spelling.faults.append(Fault(self.spelling.place(path), found, allowed, remedy))

    def place(self, path: KeyPath) -> str:
        """Where a key is written."""
        return self.spelling.place(path)

    def tables(self, key: str, below: Found | None = None) -> list[Found]:
        """The tables of an array of tables."""
        path, table = below or ((), self.root)
        items = table.get(key)
        return [
            ((*path, key, index), item)
            for index, item in enumerate(items if isinstance(items, list) else [])
            if isinstance(item, dict)
        ]


def texts_in(value: Any) -> list[tuple[int, str]]:
    """The texts of a list with their places in it."""
    items = value if isinstance(value, list) else []
    return [(index, item) for index, item in enumerate(items) if isinstance(item, str)]


def whole_number(value: Any, default: int) -> int:
    """The value if it is a whole number, else the default."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def names_of(checked: Checked, key: str) -> list[str]:
    """The names of all tables of an array."""
    return [item["name"] for _path, item in checked.tables(key) if isinstance(item.get("name"), str)]


def check_unique(checked: Checked, noun: str, named: list[tuple[KeyPath, str]]) -> None:
    """Complains of every name that was there before."""
    first: dict[str, KeyPath] = {}
    for path, name in named:
        if name in first:
            checked.complain(
                path,
                f'{noun} "{name}" a second time',
                f"each {noun} once; the first is in {checked.place(first[name])}",
                "rename or remove one of the two",
            )
        first.setdefault(name, path)


def named(tables: list[Found]) -> list[tuple[KeyPath, str]]:
    """Where each table says its name, and the name."""
    return [((*path, "name"), table["name"]) for path, table in tables if isinstance(table.get("name"), str)]


def all_providers(checked: Checked) -> list[Found]:
    """Those of the whole config, then those of single services."""
    inline = [found for service in checked.tables("service") for found in checked.tables("provider", service)]
    return checked.tables("provider") + inline


def table_in(value: Any) -> dict[str, Any]:
    """The value if it is a table, else an empty one."""
    return value if isinstance(value, dict) else {}
