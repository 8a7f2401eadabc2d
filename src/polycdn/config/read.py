"""Files into one tree of plain values, in which every key still knows where it was written.

Order of what wins: environment over `conf.d/*.toml` and the main file, which may not contradict each other.
"""

import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from polycdn.config.locate import Path as KeyPath
from polycdn.config.locate import line_of, lines_of
from polycdn.errors import ConfigError, Fault

FILE_BYTES_MAX: Final = 1_048_576
FILES_MAX: Final = 1_000
DEPTH_MAX: Final = 16
FILE_NAME: Final = "polycdn.toml"
SYNTAX_LINE: Final = re.compile(r" \(at line (\d+), column (\d+)\)$")


@dataclass(frozen=True)
class Source:
    """One file, or one environment variable (`lines` empty)."""

    name: str
    folder: Path
    lines: Mapping[KeyPath, int]

    def place(self, path: KeyPath) -> str:
        """`file:line` of a key in this source; the variable's name for the environment."""
        return f"{self.name}:{line_of(self.lines, path)}" if self.lines else self.name


@dataclass
class Tree:
    """Everything that was read. `origins` says of a path which source it, and all below it, is from.

    `is_whole` is False when a file could not be read: what seems to be missing may stand there.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, tuple[Source, KeyPath]] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)
    is_whole: bool = True

    def source(self, path: KeyPath) -> tuple[Source, KeyPath]:
        """Where a path of the tree is from, and its path there; the main file for what is nowhere."""
        for length in range(len(path), 0, -1):
            if origin := self.origins.get(path[:length]):
                return origin[0], (*origin[1], *path[length:])
        return self.sources[0], path

    def place(self, path: KeyPath) -> str:
        """Where a key is written, for a person to look it up."""
        source, inner = self.source(path)
        return source.place(inner)


def find(path: str | None, env: Mapping[str, str], folder: Path) -> Path:
    """The main config file: named, or the first of the search path. Raises ConfigError when there is none."""
    found = Path(path) if path is not None else search(env, folder)
    if found is None:
        places = ", ".join(map(str, _homes(env)))
        fault = Fault(
            place=str(folder / FILE_NAME),
            found="no config",
            allowed=f"-c FILE, ./{FILE_NAME}, $POLYCDN_CONFIG, {places}",
            remedy="write one with `polycdn init`",
        )
        raise ConfigError((fault,))
    return found


def search(env: Mapping[str, str], folder: Path) -> Path | None:
    """The first config of the search path; the one that $POLYCDN_CONFIG names need not exist to count."""
    if (folder / FILE_NAME).exists():
        return folder / FILE_NAME
    if env.get("POLYCDN_CONFIG"):
        return Path(env["POLYCDN_CONFIG"])
    return next((place for place in _homes(env) if place.exists()), None)


def _homes(env: Mapping[str, str]) -> tuple[Path, Path]:
    home = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or "/") / ".config")
    return home / "polycdn" / FILE_NAME, Path("/etc/polycdn") / FILE_NAME


def read_tree(main: Path, faults: list[Fault], *, is_alone: bool = False) -> Tree:
    """The main file and `conf.d/*.toml` beside it as one tree; what cannot be read is a fault instead.

    With `is_alone` only the file itself.
    """
    tree = Tree()
    extra = [] if is_alone else sorted((main.parent / "conf.d").glob("*.toml"))
    if len(extra) > FILES_MAX:
        faults.append(
            Fault(
                f"{main.parent / 'conf.d'}",
                f"{len(extra)} files",
                f"at most {FILES_MAX}",
                "join some of them",
            )
        )
    for file in [main, *extra[:FILES_MAX]]:
        text = _read_text(file, faults)
        values = None if text is None else _parse(file, text, faults)
        is_known = text is not None and values is not None
        source = Source(str(file), file.parent, lines_of(text) if is_known and text else {(): 1})
        tree.sources.append(source)
        if values is None:
            tree.is_whole = False
        else:
            _merge(tree, source, values, faults)
    return tree


def _read_text(file: Path, faults: list[Fault]) -> str | None:
    try:
        size_bytes = _size_of_regular(file)
        content = b"" if size_bytes > FILE_BYTES_MAX else file.read_bytes()
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        faults.append(Fault(str(file), words, "a readable file", "check the path and its permissions"))
        return None
    if size_bytes > FILE_BYTES_MAX:
        faults.append(
            Fault(
                place=f"{file}:1",
                found=f"{size_bytes} bytes",
                allowed=f"at most {FILE_BYTES_MAX} bytes (1 MiB)",
                remedy="split it into conf.d/*.toml; check that this is the config at all",
            )
        )
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02x}, which is not UTF-8"
        faults.append(Fault(f"{file}:{line}", found, "UTF-8 text", "save the file as UTF-8"))
        return None


def _size_of_regular(file: Path) -> int:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    return status.st_size


def _parse(file: Path, text: str, faults: list[Fault]) -> dict[str, Any] | None:
    try:
        values = tomllib.loads(text)
        if not _is_deeper(values, DEPTH_MAX):
            return values
        faults.append(_too_deep(file))
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        match = SYNTAX_LINE.search(message)
        line = int(match.group(1)) if match else text.count("\n") + 1
        column = f", column {match.group(2)}" if match else ""
        found = SYNTAX_LINE.sub("", message).removesuffix(" (at end of document)")
        faults.append(
            Fault(f"{file}:{line}", f"{found}{column}", "TOML 1.0", "mend the syntax; text goes in quotes")
        )
    except RecursionError:
        faults.append(_too_deep(file))
    return None


def _is_deeper(values: Any, levels: int) -> bool:
    """Whether tables and lists lie deeper in each other than so many levels."""
    layer = [values]
    for _level in range(levels):
        tables = [item.values() if isinstance(item, dict) else item for item in layer]
        layer = [inner for items in tables for inner in items if isinstance(inner, dict | list)]
    return bool(layer)


def _too_deep(file: Path) -> Fault:
    return Fault(f"{file}:1", "values nested too deep", f"at most {DEPTH_MAX} levels", "flatten them")


def _merge(tree: Tree, source: Source, values: dict[str, Any], faults: list[Fault]) -> None:
    """Arrays of tables are strung together, tables are joined, and nothing may be said twice."""
    for key, value in values.items():
        known = tree.values.get(key)
        if known is None:
            tree.values[key] = list(value) if isinstance(value, list) else value
            _remember(tree, source, (key,), value)
        elif isinstance(known, list) and isinstance(value, list):
            for index, item in enumerate(value):
                tree.origins[(key, len(known))] = (source, (key, index))
                known.append(item)
        elif isinstance(known, dict) and isinstance(value, dict):
            tree.values[key] = known | {k: v for k, v in value.items() if k not in known}
            for inner in value:
                _join(tree, source, (key, inner), inner in known, faults)
        else:
            _join(tree, source, (key,), True, faults)


def _remember(tree: Tree, source: Source, path: KeyPath, value: Any) -> None:
    tree.origins[path] = (source, path)
    if isinstance(value, list):
        for index in range(len(value)):
            tree.origins[(*path, index)] = (source, (*path, index))


def _join(tree: Tree, source: Source, path: KeyPath, is_known: bool, faults: list[Fault]) -> None:
    if not is_known:
        tree.origins[path] = (source, path)
        return
    name = ".".join(map(str, path))
    faults.append(
        Fault(
            place=source.place(path),
            found=f"`{name}` a second time",
            allowed=f"once; it is set in {tree.place(path)}",
            remedy="remove one of the two",
        )
    )
