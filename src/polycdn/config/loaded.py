"""What a config says, as frozen values. Built by `load.py`; nobody else makes one."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from polycdn.model.policy import Policy
from polycdn.model.settings import Certificate, Limits, Zone
from polycdn.model.topology import Service, Vantage

DEFAULT_LIMITS: Final = Limits()


class EngineRole(StrEnum):
    EDGE = "edge"
    DNS = "dns"


class SurfaceKind(StrEnum):
    MEMORY = "memory"
    ZONEFILE = "zonefile"
    FEED = "feed"


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine process that `up` starts. `services` empty = all of them.

    `http`, `https` and `dns` are addresses to listen on, `127.0.0.1:8080` or `[::1]:8080`; port 0 = any free
    one.
    `zone` is what a dns engine is authoritative for; `certificates` are those of an edge.
    """

    name: str
    role: EngineRole
    http: tuple[str, ...] = ()
    https: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    workers: int = 1
    services: tuple[str, ...] = ()
    zone: Zone | None = None
    certificates: tuple[Certificate, ...] = ()
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True, slots=True)
class SurfaceSpec:
    """One surface that is not an engine. `services` empty = all of them.

    `path` and `zone` belong to a zone file, `listen` (an address) to a feed.
    """

    name: str
    kind: SurfaceKind
    services: tuple[str, ...] = ()
    path: str = ""
    listen: str = ""
    zone: Zone | None = None


@dataclass(frozen=True, slots=True)
class VantageSite:
    """A vantage and how it is run. `up` starts those that are not remote.

    `key_file` holds the secret that its reports are signed with; None = `up` makes one in the state
    directory.
    """

    vantage: Vantage
    key_file: str | None = None
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the decider listens. `observations`: an address, `127.0.0.1:8460`, where vantages post."""

    observations: str = "127.0.0.1:8460"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A whole valid config. Paths are absolute; `sources` are the files read, the main one first."""

    services: tuple[tuple[Service, Policy], ...]
    engines: tuple[EngineSpec, ...] = ()
    surfaces: tuple[SurfaceSpec, ...] = ()
    vantages: tuple[VantageSite, ...] = ()
    listen: Listen = Listen()
    state_dir: str = ""
    sources: tuple[str, ...] = ()
