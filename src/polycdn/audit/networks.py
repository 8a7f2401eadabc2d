"""Whose an address is: a table that the user imports once, searched on disk.

File: magic, then the counts of IPv4 rows, IPv6 rows and organisations (u32 each); IPv4 rows of 16 bytes
(first, last, asn, organisation), IPv6 rows of 40, sorted by their first address; where each organisation's
text ends (u32), then the texts. Big-endian, so that the order of bytes is the order of addresses.
"""

import mmap
import os
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from polycdn.audit.evidence import NetworkLook
from polycdn.errors import ConfigError, Fault

MAGIC: Final = b"polycdn-net\x00\x00\x00\x01"
HEAD: Final = struct.Struct(">15s3I")
TAIL: Final = struct.Struct(">II")
ADDRESS_BYTES: Final = {4: 4, 6: 16}


def default_table() -> Path:
    """Where `polycdn data import` puts the table: the user's data directory (XDG Base Directory)."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "polycdn" / "networks.bin"


@dataclass(frozen=True, slots=True)
class _Part:
    """Where the rows of one address family lie."""

    at: int
    rows: int
    address_bytes: int

    @property
    def row_bytes(self) -> int:
        return 2 * self.address_bytes + TAIL.size


class Networks:
    """A table on disk. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError when the file is no table."""
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            magic, rows4, rows6, self._organisations = HEAD.unpack_from(self._map)
        except (OSError, ValueError, struct.error) as error:
            raise ConfigError((_fault(path, str(error)),)) from None
        self._parts = {4: _Part(HEAD.size, rows4, 4)}
        self._parts[6] = _Part(HEAD.size + rows4 * self._parts[4].row_bytes, rows6, 16)
        self._ends_at: int = self._parts[6].at + rows6 * self._parts[6].row_bytes
        self._texts_at: int = self._ends_at + 4 * self._organisations
        if magic != MAGIC or self._texts_at > len(self._map) or self._text_end(self._organisations) is None:
            self._map.close()
            raise ConfigError((_fault(path, "no table, or only a part of one"),))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file."""
        self._map.close()

    def look(self, address: str) -> NetworkLook:
        """Whose an address is; ASN 0 when the table has no row for it."""
        try:
            key = ip_address(address).packed
        except ValueError:
            return NetworkLook(address, 0)
        part = self._parts[4 if len(key) == 4 else 6]
        at = self._row_before(part, key)
        if at is None:
            return NetworkLook(address, 0)
        size = part.address_bytes
        first, last = self._map[at : at + size], self._map[at + size : at + 2 * size]
        if not first <= key <= last:
            return NetworkLook(address, 0)
        asn, organisation = TAIL.unpack_from(self._map, at + 2 * size)
        return NetworkLook(address, asn, self._text(organisation), f"{ip_address(first)}-{ip_address(last)}")

    def _row_before(self, part: _Part, key: bytes) -> int | None:
        """Where the last row lies that begins at or before an address."""
        low, high = 0, part.rows
        while low < high:
            middle = (low + high) // 2
            at = part.at + middle * part.row_bytes
            if self._map[at : at + part.address_bytes] <= key:
                low = middle + 1
            else:
                high = middle
        return part.at + (low - 1) * part.row_bytes if low else None

    def _text_end(self, number: int) -> int | None:
        if number == 0:
            return self._texts_at
        at = self._ends_at + 4 * (number - 1)
        place = self._texts_at + int.from_bytes(self._map[at : at + 4])
        return place if place <= len(self._map) else None

    def _text(self, number: int) -> str:
        if number >= self._organisations:
            return ""
        start, end = self._text_end(number), self._text_end(number + 1)
        return self._map[start:end].decode("utf-8", "replace") if start and end else ""


Row = tuple[bytes, bytes, int, str]
"""First and last address, AS number, organisation."""


def write_table(rows: list[Row], path: Path) -> None:
    """Writes a table of rows that do not overlap, in any order, whole or not at all. Raises OSError."""
    numbers = {name: number for number, name in enumerate(sorted({row[3] for row in rows}))}
    texts = [name.encode() for name in numbers]
    parts = [sorted(row for row in rows if len(row[0]) == size) for size in (4, 16)]
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(HEAD.pack(MAGIC, len(parts[0]), len(parts[1]), len(texts)))
        for part in parts:
            file.writelines(first + last + TAIL.pack(asn, numbers[name]) for first, last, asn, name in part)
        end = 0
        for text in texts:
            end += len(text)
            file.write(struct.pack(">I", end))
        file.writelines(texts)
    beside.replace(path)


def packed(text: str) -> bytes:
    """An address in its bytes, also one written as a number. Raises ValueError."""
    if text.isascii() and text.isdecimal():
        number = int(text)
        return (IPv4Address(number) if number < 2**32 else IPv6Address(number)).packed
    return ip_address(text).packed


def _fault(path: Path, found: str) -> Fault:
    return Fault(str(path), found, "a table of networks", "make it: polycdn data import FILE...")
