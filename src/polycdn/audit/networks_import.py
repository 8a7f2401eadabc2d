"""CSV files of networks (first, last, asn, organisation; gzip too) as the rows of a table."""

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from polycdn.audit.networks import Row, packed, write_table
from polycdn.errors import ConfigError, Fault

ROWS_MAX: Final = 20_000_000
LINE_CHARACTERS_MAX: Final = 4_096
FAULTS_MAX: Final = 20
ORGANISATION_CHARACTERS_MAX: Final = 200
ALLOWED: Final = "first address, last address, AS number, organisation"


def import_networks(files: Iterable[Path], table: Path) -> int:
    """Writes the table anew from all files; gives its number of rows.

    Raises ConfigError with every bad line (the first 20); the old table stays then.
    """
    rows: list[Row] = []
    faults: list[Fault] = []
    for path in files:
        _read(path, rows, faults)
    if not rows and not faults:
        faults = [Fault("data import", "no rows", ALLOWED, "name a file that has some")]
    if faults:
        raise ConfigError(tuple(faults[:FAULTS_MAX]))
    made = flat(rows)
    write_table(made, table)
    return len(made)


def _read(path: Path, rows: list[Row], faults: list[Fault]) -> None:
    try:
        for number, line in enumerate(_lines(path), start=1):
            if len(faults) >= FAULTS_MAX:
                return
            try:
                row = _row(line)
            except ValueError as error:
                if number > 1 or not _is_header(line):
                    faults.append(_bad(f"{path}:{number}", str(error)))
                continue
            if row is not None:
                rows.append(row)
            if len(rows) > ROWS_MAX:
                faults.append(_bad(f"{path}:{number}", f"more than {ROWS_MAX} rows"))
                return
    except (OSError, EOFError, UnicodeError, zlib.error) as error:
        faults.append(_bad(str(path), getattr(error, "strerror", None) or str(error)))


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if is_packed else path.open("rb") as file:
        while line := file.readline(LINE_CHARACTERS_MAX + 1):
            if len(line) > LINE_CHARACTERS_MAX:
                raise OSError(f"a line of more than {LINE_CHARACTERS_MAX} bytes")
            yield line.decode("utf-8")


def _row(line: str) -> Row | None:
    """The row of a line, None for an empty one. Raises ValueError, with what is wrong."""
    if not line.strip():
        return None
    try:
        fields = next(csv.reader([line.strip()]))
    except csv.Error as error:
        raise ValueError(f"no CSV: {error}") from None
    if len(fields) < 4:
        raise ValueError(f"{len(fields)} fields")
    first, last = packed(fields[0].strip()), packed(fields[1].strip())
    if len(first) != len(last) or first > last:
        raise ValueError(f"a range from {fields[0]!r} to {fields[1]!r}"[:120])
    digits = fields[2].strip().upper().removeprefix("AS")
    if not (digits.isascii() and digits.isdecimal() and int(digits) < 2**32):
        raise ValueError(f"AS number {fields[2]!r}"[:80])
    return first, last, int(digits), fields[3].strip()[:ORGANISATION_CHARACTERS_MAX]


def _is_header(line: str) -> bool:
    return not any(letter.isdecimal() for letter in line) and line.count(",") >= 3


def flat(rows: list[Row]) -> list[Row]:
    """The same networks without overlaps: inside another one the one that begins later counts, of two that
    begin together the narrower. Tables that are merged from several sources have such rows."""
    made: list[Row] = []
    for size in (4, 16):
        spans = [
            _Span(int.from_bytes(row[0]), int.from_bytes(row[1]), row) for row in rows if len(row[0]) == size
        ]
        spans.sort(key=lambda span: (span.first, -span.last))
        made += _swept(spans)
    return made


class _Span(NamedTuple):
    first: int
    last: int
    row: Row

    def part(self, first: int, last: int) -> Row:
        size = len(self.row[0])
        return (first.to_bytes(size), last.to_bytes(size), *self.row[2:])


def _swept(spans: list[_Span]) -> Iterator[Row]:
    """Goes from the first address up; `around` are the spans that are open, the innermost last."""
    around: list[_Span] = []
    at = 0
    for span in [*spans, None]:
        while around and (span is None or around[-1].last < span.first):
            done = around.pop()
            if at <= done.last:
                yield done.part(max(at, done.first), done.last)
                at = done.last + 1
        if span is None:
            return
        if around and at < span.first:
            yield around[-1].part(max(at, around[-1].first), span.first - 1)
        at = max(at, span.first)
        around.append(span)


def _bad(place: str, found: str) -> Fault:
    return Fault(place, found, ALLOWED, "mend or remove the line, then import again")
