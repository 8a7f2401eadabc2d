"""The environment: `POLYCDN_*` overrides keys, `${VAR}` inside a text stands for a variable's value.

`POLYCDN_STATE_DIR` is the key `state_dir`; two underscores step into a table: `POLYCDN_POLICY__DWELL=30s`.
A table of an array is chosen by its name, in capitals, other characters as `_`:
`POLYCDN_PROVIDER__CDN_A__WEIGHT=3`.
"""

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from polycdn.config.locate import Path as KeyPath
from polycdn.config.quantity import UNITS, unit_of
from polycdn.config.read import Source, Tree
from polycdn.errors import Fault

PREFIX: Final = "POLYCDN_"
SCALARS: Final = ("STATE_DIR",)
TABLES: Final = ("policy", "listen")
ARRAYS: Final = ("service", "provider", "region", "vantage", "surface")
VARIABLE: Final = re.compile(r"\$(\$|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})")


def apply_environment(tree: Tree, env: Mapping[str, str], faults: list[Fault]) -> None:
    """Puts every override into the tree, in the order of the variables' names."""
    for name in sorted(env):
        words = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and (words in SCALARS or "__" in words):
            _override(tree, name, words.split("__"), env[name], faults)


def _override(tree: Tree, name: str, words: list[str], text: str, faults: list[Fault]) -> None:
    table, path = _table(tree, words)
    if table is None:
        faults.append(_unknown(tree, name, words))
        return
    key = words[-1].lower()
    for twin in _twins(key):
        table.pop(twin, None)
    table[key] = _value(text)
    tree.origins[(*path, key)] = (Source(f"${name}", Path.cwd(), {}), (key,))


def _table(tree: Tree, words: list[str]) -> tuple[dict[str, Any] | None, KeyPath]:
    """The table that a variable speaks of; None when there is no such table."""
    first = words[0].lower()
    if len(words) == 1:
        return tree.values, ()
    if first in TABLES and len(words) == 2:
        table = tree.values.setdefault(first, {})
        return (table if isinstance(table, dict) else None), (first,)
    if first in ARRAYS and len(words) >= 3:
        for index, item in enumerate(_tables(tree, first)):
            if isinstance(item, dict) and spelled(str(item.get("name", ""))) == words[1]:
                return _below(item, (first, index), words[2:-1])
    return None, ()


def _below(table: dict[str, Any], path: KeyPath, words: list[str]) -> tuple[dict[str, Any] | None, KeyPath]:
    for word in words:
        inner = table.setdefault(word.lower(), {})
        if not isinstance(inner, dict):
            return None, path
        table, path = inner, (*path, word.lower())
    return table, path


def _tables(tree: Tree, key: str) -> list[Any]:
    tables = tree.values.get(key)
    return tables if isinstance(tables, list) else []


def spelled(name: str) -> str:
    """A name as it is written inside a variable's name."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _twins(key: str) -> list[str]:
    """Other spellings of the same key: with the unit in its name, or without."""
    with_unit = unit_of(key)
    return [with_unit[0]] if with_unit else [f"{key}_{unit.suffix}" for unit in UNITS]


def _value(text: str) -> Any:
    """A whole number, a truth value or a list if it reads as one in TOML; else the text itself."""
    try:
        value = tomllib.loads(f"v = {text}").get("v")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return value if isinstance(value, int | list | str) else text


def _unknown(tree: Tree, name: str, words: list[str]) -> Fault:
    known = [f"{PREFIX}{word}" for word in SCALARS]
    known += [f"{PREFIX}{table.upper()}__<KEY>" for table in TABLES]
    named = [
        f"{PREFIX}{array.upper()}__{spelled(str(item.get('name', '')))}__<KEY>"
        for array in ARRAYS
        for item in _tables(tree, array)
        if isinstance(item, dict)
    ]
    stem = "__".join([PREFIX + words[0], *words[1:-1], "<KEY>"])
    close = get_close_matches(stem, known + named, n=1)
    return Fault(
        place=f"${name}",
        found="a variable that names no table of the config",
        allowed=", ".join([*known, *named[:8]]),
        remedy=f"did you mean {close[0]}?" if close else "unset it",
    )


def expand_variables(tree: Tree, env: Mapping[str, str], faults: list[Fault]) -> None:
    """Puts variables' values for `${VAR}` and `${VAR:-default}` in every text; `$$` stands for one `$`."""
    tree.values = _expanded(tree, tree.values, (), env, faults)


def _expanded(tree: Tree, value: Any, path: KeyPath, env: Mapping[str, str], faults: list[Fault]) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(tree, item, (*path, key), env, faults) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(tree, item, (*path, index), env, faults) for index, item in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value

    def replaced(match: re.Match[str]) -> str:
        if match.group(1) == "$":
            return "$"
        name, default = match.group(2), match.group(3)
        if name not in env and default is None:
            faults.append(
                Fault(
                    place=tree.place(path),
                    found=f"${{{name}}}, which is not set",
                    allowed="a variable of the environment",
                    remedy=f"set {name}, or write ${{{name}:-default}}",
                )
            )
        return env.get(name, default or "")

    return VARIABLE.sub(replaced, value)
