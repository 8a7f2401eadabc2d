"""What a config says, as frozen values. Built by `load.py`; nobody else makes one."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from polycdn.model.policy import Policy
from polycdn.model.purge import PurgeDoor
from polycdn.model.settings import (
    Access,
    CacheRules,
    Certificate,
    ClientLimits,
    Forwarded,
    Limits,
    Reflexes,
    Signing,
    Zone,
)
from polycdn.model.topology import Service, Vantage

DEFAULT_LIMITS: Final = Limits()
DEFAULT_CLIENT_LIMITS: Final = ClientLimits()
NOTHING_SAID: Final = Forwarded()
USUAL: Final = Reflexes()


class EngineRole(StrEnum):
    EDGE = "edge"
    DNS = "dns"


class SurfaceKind(StrEnum):
    MEMORY = "memory"
    ZONEFILE = "zonefile"
    FEED = "feed"


@dataclass(frozen=True, slots=True)
class DiskTier:
    """The disk tier of an edge's cache."""

    folder: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class AccessLog:
    """Where an edge writes a line per request, of this share of the requests.

    `has_prefix`: with the client's network, cut to a /24 or a /48; without it no line tells who asked.
    """

    file: str
    sample_bp: int = 10_000
    has_prefix: bool = False


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin listener of an engine. `token_file` None = `up` makes one in the state directory."""

    listen: str
    token_file: str | None = None


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine process that `up` starts. `services` empty = all of them.

    `http`, `https` and `dns` are addresses to listen on, `127.0.0.1:8080` or `[::1]:8080`; port 0 = any free
    one. `zone` is what a dns engine is authoritative for; `certificates` are those of an edge. `drain_s` is
    how long what is under way may take at the end, `handover_drain_s` after another process took over.
    `clients` is what a client may do to an edge where the service says nothing else, `access` who may
    connect to it.
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
    memory_bytes: int | None = None
    disk: DiskTier | None = None
    access_log: AccessLog | None = None
    admin: Admin | None = None
    drain_s: int | None = None
    handover_drain_s: int | None = None
    clients: ClientLimits = DEFAULT_CLIENT_LIMITS
    access: Access | None = None


@dataclass(frozen=True, slots=True)
class OwnGate:
    """What a service itself says of who gets in; `limits` are fields of `ClientLimits`, before the edge's."""

    service: str
    limits: tuple[tuple[str, int], ...] = ()
    access: Access | None = None
    signing: Signing | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How edges deliver one service. `cache` None = they keep nothing."""

    service: str
    cache: CacheRules | None = None
    forwarded: Forwarded = NOTHING_SAID
    reflexes: Reflexes = USUAL


@dataclass(frozen=True, slots=True)
class ProviderPurge:
    """How one provider of one service is told to forget an object."""

    service: str
    provider: str
    door: PurgeDoor


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
class AuditHosts:
    """What the audit looks at besides the services: where operators log in, and the status pages."""

    logins: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A whole valid config. Paths are absolute; `sources` are the files read, the main one first."""

    services: tuple[tuple[Service, Policy], ...]
    engines: tuple[EngineSpec, ...] = ()
    surfaces: tuple[SurfaceSpec, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    vantages: tuple[VantageSite, ...] = ()
    listen: Listen = Listen()
    audit: AuditHosts = AuditHosts()
    state_dir: str = ""
    sources: tuple[str, ...] = ()
    gates: tuple[OwnGate, ...] = ()
    purges: tuple[ProviderPurge, ...] = ()

    def purge_doors(self, service: str) -> dict[str, PurgeDoor]:
        """Provider -> how it is told to forget an object of the service; only those that can be told."""
        return {one.provider: one.door for one in self.purges if one.service == service}

    def delivery(self, service: str) -> Delivery:
        """How the service is delivered; as it comes when nothing is said of it."""
        return next((one for one in self.deliveries if one.service == service), Delivery(service))

    def own_gate(self, service: str) -> OwnGate:
        """What the service itself says of who gets in."""
        return next((one for one in self.gates if one.service == service), OwnGate(service))
