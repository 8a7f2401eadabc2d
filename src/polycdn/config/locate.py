"""On which line of a TOML text each key stands; tomllib does not tell.

The text must be one that tomllib has accepted: what is not a key or a bracket is skipped, not checked.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

Path = tuple[str | int, ...]

BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
SPACE: Final = re.compile(r"[ \t]*")
BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
BARE_VALUE: Final = re.compile(r"[^\n#,\]}]*")
STRINGS: Final = (
    re.compile(r'"""(?:[^\\"]|\\.|"(?!""))*"{3,5}', re.S),
    re.compile(r"'''(?:[^']|'(?!''))*'{3,5}", re.S),
    re.compile(r'"(?:[^\\"\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)
ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
ESCAPES: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\", "e": "\x1b"}


def lines_of(text: str) -> Mapping[Path, int]:
    """Line, from 1, of every key, table and array item: path of keys and indices -> line.

    A table that several headers or dotted keys make up has the line where it first appears.
    """
    return MappingProxyType(_Reader(text).read())


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of the longest known beginning of a path; 1 when nothing of it is known."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Reader:
    """Walks the text once; `at` is where it stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.tables_of: dict[Path, int] = {}
        """Arrays of tables: path -> how many tables so far."""
        self._line, self._counted = 1, 0

    def read(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip(BLANK) or self.at < len(self.text):
            if self.at >= len(self.text):
                break
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self.lines

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return match.group() if match else ""

    def _header(self) -> Path:
        is_array = self.text.startswith("[[", self.at)
        line = self._line_here()
        self.at += 2 if is_array else 1
        keys = self._keys()
        self.at += 2 if is_array else 1
        path = self._enter((), keys[:-1], line)
        path = (*path, keys[-1])
        if is_array:
            self.lines.setdefault(path, line)
            count = self.tables_of.get(path, 0)
            self.tables_of[path] = count + 1
            path = (*path, count)
        else:
            path = self._enter(path[:-1], keys[-1:], line)
        self.lines.setdefault(path, line)
        return path

    def _enter(self, table: Path, keys: list[str], line: int) -> Path:
        """The path below `table`; through an array of tables it leads into its newest one."""
        for key in keys:
            table = (*table, key)
            self.lines.setdefault(table, line)
            if count := self.tables_of.get(table):
                table = (*table, count - 1)
        return table

    def _pair(self, table: Path) -> None:
        line = self._line_here()
        keys = self._keys()
        path = (*self._enter(table, keys[:-1], line), keys[-1])
        self.lines.setdefault(path, line)
        self.at += 1  # the "="
        self._skip(SPACE)
        self._value(path)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip(SPACE)
            keys.append(self._key())
            self._skip(SPACE)
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def _key(self) -> str:
        if self.text[self.at] == "'":
            return self._skip(STRINGS[3])[1:-1]
        if self.text[self.at] == '"':
            return ESCAPE.sub(_unescaped, self._skip(STRINGS[2])[1:-1])
        bare = self._skip(BARE_KEY)
        assert bare, f"no key at offset {self.at}: not a text that tomllib accepts"
        return bare

    def _value(self, path: Path) -> None:
        first = self.text[self.at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in "\"'":
            next(filter(None, map(self._skip, STRINGS)))
        else:
            self._skip(BARE_VALUE)

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip(BLANK)
            if self.text[self.at] == "]":
                break
            item = (*path, index)
            self.lines[item] = self._line_here()
            self._value(item)
            self._skip(BLANK)
            if self.text[self.at] == ",":
                self.at += 1
            index += 1
        self.at += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        while True:
            self._skip(BLANK)
            if self.text[self.at] == "}":
                break
            self._pair(path)
            self._skip(BLANK)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1


def _unescaped(match: re.Match[str]) -> str:
    code = match.group(1)
    return chr(int(code[1:], 16)) if code[0] in "uU" else ESCAPES[code]
