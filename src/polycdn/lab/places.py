"""Addresses for a lab: one loopback address for each name, and one port that is free on all of them.

DNS answers carry addresses and no ports, so everything that a steered name may point to (CDNs, the own edge)
has to listen on the same port of different addresses.
"""

import os
import socket
from dataclasses import dataclass
from itertools import count
from typing import Final

from polycdn.errors import UnavailableError
from polycdn.model.chance import chance_ppm

TRIES_MAX: Final = 50
FIRST_HOST: Final = 10


@dataclass(frozen=True, slots=True)
class Places:
    """`addresses` pairs each name with its own 127.x.y.z; `port` was free on all of them."""

    port: int
    addresses: tuple[tuple[str, str], ...]

    def address(self, name: str) -> str:
        """The address of one name; KeyError when the lab has no such name."""
        return dict(self.addresses)[name]

    def listen(self, name: str) -> str:
        """`address:port` of one name."""
        return f"{self.address(name)}:{self.port}"


def choose_places(names: tuple[str, ...]) -> Places:
    """Places in a /24 of 127/8 of this process's own. Raises UnavailableError if none is free."""
    assert len(set(names)) == len(names) <= 200, "names are different, and fit into one /24"
    for attempt in range(TRIES_MAX):
        net = chance_ppm(os.getpid(), "places", attempt, *names)
        prefix = f"127.{1 + net // 256 % 254}.{net % 256}"
        addresses = [f"{prefix}.{host}" for host, _ in zip(count(FIRST_HOST), names, strict=False)]
        port = _free_port(addresses)
        if port is not None:
            return Places(port, tuple(zip(names, addresses, strict=True)))
    raise UnavailableError(f"no port is free on {len(names)} loopback addresses after {TRIES_MAX} tries")


def _free_port(addresses: list[str]) -> int | None:
    """A port that binds on every address, or None when another program has it on one of them."""
    held: list[socket.socket] = []
    port = 0
    try:
        for address in addresses:
            probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.append(probe)
            probe.bind((address, port))
            port = probe.getsockname()[1]
    except OSError:
        return None
    finally:
        for probe in held:
            probe.close()
    return port


def split_listen(listen: str) -> tuple[str, int]:
    """Address and port of `127.0.0.1:8443`."""
    address, _, port = listen.rpartition(":")
    return address, int(port)
