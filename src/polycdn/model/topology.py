"""What there is: services, the providers that can carry them, origins, regions and vantages."""

from dataclasses import dataclass
from enum import StrEnum

from polycdn.model.units import ANYWHERE


class ProviderKind(StrEnum):
    CDN = "cdn"
    CLOUD = "cloud"
    EDGE = "edge"


@dataclass(frozen=True, slots=True)
class Expect:
    """What a good answer for an object looks like; None or empty means "not checked"."""

    status: int = 200
    body_bytes: int | None = None
    sha256: str | None = None
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    contains: str | None = None


@dataclass(frozen=True, slots=True)
class ProbedObject:
    """A path that vantages fetch through every provider and from the origin."""

    path: str
    expect: Expect = Expect()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to connect. `host` is sent as SNI and, unless a service says otherwise, as Host.

    `addresses` are IP literals without port; when empty, `host` is resolved.
    """

    host: str
    port: int = 443
    tls: bool = True
    addresses: tuple[str, ...] = ()
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """A company, or an edge of yours, that can carry the service.

    `capacity_rps` and `capacity_mbps` are what it can carry of this service in all regions; None = no limit.
    `cost_micros_per_gib` is in millionths of the operator's currency. `regions` empty = everywhere.
    `cname` is the name that DNS steering answers with when the provider is reached by name, not by address.
    """

    name: str
    kind: ProviderKind
    endpoint: Endpoint
    company: str = ""
    cname: str | None = None
    capacity_rps: int | None = None
    capacity_mbps: int | None = None
    cost_micros_per_gib: int = 0
    weight: int = 1
    floor_bp: int = 0
    ceiling_bp: int = 10_000
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Region:
    """A set of users. Longest matching prefix wins; then country, then network; else the default region.

    `demand_rps` and `demand_mbps` come from the config until `Measured` events replace them; 0 = not known.
    """

    name: str = ANYWHERE
    prefixes: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    asns: tuple[int, ...] = ()
    demand_rps: int = 0
    demand_mbps: int = 0


@dataclass(frozen=True, slots=True)
class Vantage:
    """A place that looks at the providers from outside. `regions` empty = its word counts for all regions.

    `resolver` (`address:port`) is whom it asks for providers' names; None = the machine's own.
    """

    name: str
    regions: tuple[str, ...] = ()
    source_address: str | None = None
    resolver: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """One steered service with everything that decisions about it need; each service stands alone.

    `providers` are in the operator's order of preference. The first region is the default one.
    `nameservers` (`address:port`) are those of ours that vantages ask for the hostname.
    """

    name: str
    hostname: str
    providers: tuple[Provider, ...]
    origin: Endpoint | None = None
    objects: tuple[ProbedObject, ...] = (ProbedObject("/"),)
    regions: tuple[Region, ...] = (Region(),)
    vantages: tuple[Vantage, ...] = ()
    aliases: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
