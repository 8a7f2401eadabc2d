"""What a small internet is made of. Plain values; nothing here opens a socket.

Addresses are fictional (198.18.0.0/15, RFC 2544, and 2001:db8::/32); `Internet` serves them on free ports of
loopback and tells which is where.
"""

from dataclasses import dataclass, field
from typing import Final

ROOT_ADDRESS: Final = "198.18.0.1"
TLD_ADDRESS: Final = "198.18.0.2"
TTL_S: Final = 300
DELEGATION_TTL_S: Final = 86_400
SERVERS: Final = 2
"""Nameservers of an operator."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record in presentation text; names with their last dot."""

    owner: str
    rtype: str
    ttl_s: int
    value: str


@dataclass(slots=True)
class Zone:
    """A zone, its records, and the addresses that serve it."""

    origin: str
    served_by: tuple[str, ...]
    records: list[Record] = field(default_factory=list)

    def add(self, owner: str, rtype: str, value: str, ttl_s: int = TTL_S) -> None:
        """One more record."""
        self.records.append(Record(owner, rtype, ttl_s, value))


@dataclass(frozen=True, slots=True)
class Operator:
    """A DNS operator: a domain of its own, and nameservers in it (`servers`: name and address)."""

    domain: str
    servers: tuple[tuple[str, str], ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of all its nameservers."""
        return tuple(address for _name, address in self.servers)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority; `ocsp_host` and `crl_host` are in its certificates, "" = none."""

    name: str
    ocsp_host: str = ""
    crl_host: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """What answers HTTPS for a host. `days` until its certificate ends; `names` more names in it.

    `location` redirects all requests; `is_stapling` sends an OCSP response in the handshake. `drip_ms`: the
    body comes byte by byte, so far apart; 0 = at once. `paths`: other bodies, by path.
    """

    host: str
    authority: str
    names: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b"<!doctype html><title>lab</title><p>hello"
    content_type: str = "text/html; charset=utf-8"
    days: int = 80
    is_stapling: bool = True
    location: str = ""
    drip_ms: int = 0
    paths: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True)
class Plan:
    """Everything that exists. Its methods add what is usual; the parts can be changed until it is started.

    `authority_at`: addresses that show certificates of another authority than their site's.
    """

    zones: dict[str, Zone] = field(default_factory=dict)
    operators: dict[str, Operator] = field(default_factory=dict)
    authorities: dict[str, Authority] = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    networks: list[tuple[str, str, int, str]] = field(default_factory=list)
    authority_at: dict[str, str] = field(default_factory=dict)
    _networks_made: int = 0

    def address(self, network: str = "") -> str:
        """A new address: in a /24 of its own, and in a network of its own when that has a name."""
        self._networks_made += 1
        number = self._networks_made
        first = f"198.18.{number}" if number < 256 else f"198.19.{number - 256}"
        assert number < 512, "198.18.0.0/15 has 512 networks"
        if network:
            self.announce(f"{first}.0", f"{first}.255", network)
        return f"{first}.10"

    def announce(self, first: str, last: str, network: str) -> None:
        """Gives a range to a network; each name has one AS number."""
        known = {name: asn for _first, _last, asn, name in self.networks}
        asn = known.get(network, 64_512 + len(known))
        self.networks.append((first, last, asn, network))

    def operator(self, domain: str, *, hosted_by: str = "", network: str = "") -> Operator:
        """A DNS operator with a zone of its own, which another one may host."""
        servers = tuple(
            (f"ns{number}.{domain}", self.address(network or domain)) for number in range(1, SERVERS + 1)
        )
        made = Operator(domain, servers)
        self.operators[domain] = made
        zone = self.zone(domain, hosted_by or domain, contact=domain)
        for name, address in servers:
            zone.add(name, "A", address)
        return made

    def zone(self, origin: str, *operators: str, ttl_s: int = TTL_S, contact: str = "") -> Zone:
        """A zone at some operators, with SOA (`contact`: whose it is, "" = the operator's) and NS records."""
        hosts = [server for each in operators for server in self.operators[each].servers]
        zone = Zone(origin, tuple(address for _name, address in hosts))
        primary = hosts[0][0]
        contact = contact or self.operators[operators[0]].domain
        zone.add(origin, "SOA", f"{primary} hostmaster.{contact} 1 7200 900 1209600 300")
        for name, _address in hosts:
            zone.add(origin, "NS", name, ttl_s)
        self.zones[origin] = zone
        return zone

    def authority(self, name: str, domain: str, *operators: str, network: str = "") -> Authority:
        """A certificate authority with OCSP and CRL hosts in a domain of its own."""
        zone = self.zone(domain, *operators)
        for label in ("ocsp", "crl"):
            zone.add(f"{label}.{domain}", "A", self.address(network or name))
        made = Authority(name, f"ocsp.{domain[:-1]}", f"crl.{domain[:-1]}")
        self.authorities[name] = made
        return made

    def site(self, site: Site) -> Site:
        """What answers for a host."""
        self.sites[site.host] = site
        return site

    def networks_csv(self) -> str:
        """The table for `polycdn data import`."""
        rows = [f'{first},{last},{asn},"{name}"' for first, last, asn, name in self.networks]
        return "\n".join(["start,end,asn,organisation", *rows]) + "\n"
