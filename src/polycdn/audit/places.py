"""Where to connect for an address and port: there, or where a map says (a lab on free high ports)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from polycdn.errors import ConfigError, Fault

Place = tuple[str, int]
"""An address and a port."""

MAP_BYTES_MAX: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Places:
    """The (address, port) map; empty = everything is where it says.

    A stranger's answer may point anywhere. So what is not in the map is only connected to when it is a public
    address: an audit is no way into the network that it runs in.
    """

    moved: Mapping[Place, Place] = field(default_factory=dict)

    def of(self, address: str, port: int) -> Place | None:
        """Where to connect; None when nobody may."""
        place = self.moved.get((address, port))
        if place is not None:
            return place
        try:
            return (address, port) if ip_address(address).is_global else None
        except ValueError:
            return None


def read_places(path: Path) -> Places:
    """The map of a file: a line each, "198.51.100.53:53 127.0.0.1:40053". Raises ConfigError."""
    try:
        if path.stat().st_size > MAP_BYTES_MAX:
            raise ConfigError((_fault(str(path), f"{path.stat().st_size} bytes"),))
        text = path.read_text("ascii")
    except (OSError, UnicodeError) as error:
        raise ConfigError((_fault(str(path), str(error)[:200]),)) from None
    moved = {}
    faults = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            seen, real = line.split()
            moved[_place(seen)] = _place(real)
        except ValueError:
            faults.append(_fault(f"{path}:{number}", repr(line[:80])))
    if faults:
        raise ConfigError(tuple(faults[:20]))
    return Places(moved)


def written_places(moved: Mapping[Place, Place]) -> str:
    """The text that `read_places` reads."""
    return "".join(f"{_told(seen)} {_told(real)}\n" for seen, real in moved.items())


def _place(text: str) -> Place:
    address, _, port = text.rpartition(":")
    number = int(port)
    if not 0 < number < 65_536:
        raise ValueError(port)
    return str(ip_address(address.strip("[]"))), number


def _told(place: Place) -> str:
    address, port = place
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _fault(place: str, found: str) -> Fault:
    return Fault(place, found, "lines of two address:port", 'write "198.51.100.53:53 127.0.0.1:40053"')
