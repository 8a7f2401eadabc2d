"""Evidence read through the provider table: who serves a name, answers for its zone, certifies it. Pure."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, TypeVar
from urllib.parse import urlsplit

from polycdn.audit.detect import Detection, HostMarks, detect
from polycdn.audit.domains import is_same_site, registrable
from polycdn.audit.evidence import (
    CertificateSeen,
    DnsLook,
    DnsStatus,
    Evidence,
    HttpLook,
    PageLook,
    Role,
    Target,
    TlsLook,
)
from polycdn.audit.names import name_of_host, parents_of
from polycdn.audit.table.provider import Table

Look = TypeVar("Look", HttpLook, PageLook)

SEEN: Final = (DnsStatus.NOERROR, DnsStatus.NXDOMAIN)


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody whom a name depends on. `id` is a row of the table, a registered domain, or "AS of ...".

    `hosts` are the names or addresses by which it was met; `evidence` says how it was recognised.
    """

    id: str
    name: str
    company: str
    hosts: tuple[str, ...]
    evidence: tuple[str, ...]
    is_known: bool = False


class View:
    """One evidence with one table. Asks are cheap when repeated."""

    def __init__(self, evidence: Evidence, table: Table) -> None:
        self.evidence = evidence
        self.table = table
        self._detections: dict[str, tuple[Detection, ...]] = {}
        self._operators: dict[str, tuple[Party, ...] | None] = {}
        self._zones: dict[str, str | None] = {}

    @cached_property
    def answers(self) -> dict[str, tuple[HttpLook, ...]]:
        """The requests by host."""
        return self._by_host(self.evidence.all_of(HttpLook))

    @cached_property
    def pages(self) -> dict[str, tuple[PageLook, ...]]:
        """The pages by host."""
        return self._by_host(self.evidence.all_of(PageLook))

    @staticmethod
    def _by_host(looks: tuple[Look, ...]) -> dict[str, tuple[Look, ...]]:
        found: dict[str, list[Look]] = {}
        for look in looks:
            host = host_of_url(look.url)
            if host:
                found.setdefault(host, []).append(look)
        return {host: tuple(each) for host, each in found.items()}

    @cached_property
    def companions(self) -> dict[str, tuple[str, ...]]:
        """The names that were asked for beside others, by `why` up to a colon ("provider of NAME")."""
        found: dict[str, list[str]] = {}
        for target in self.evidence.asked:
            names = found.setdefault(target.why.partition(": ")[0], [])
            if target.name not in names[-1:]:
                names.append(target.name)
        return {why: tuple(dict.fromkeys(names)) for why, names in found.items()}

    def chain(self, name: str) -> tuple[str, ...]:
        """The names that a name leads through by CNAME records."""
        look = self.evidence.dns(name, "A") or self.evidence.dns(name, "AAAA")
        return look.chain if look else ()

    def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of a name, IPv4 first."""
        looks = (self.evidence.dns(name, "A"), self.evidence.dns(name, "AAAA"))
        return tuple(dict.fromkeys(value for look in looks if look for value in look.values))

    def is_address_seen(self, name: str) -> bool:
        """Whether the look-up of the addresses ended in an answer."""
        looks = (self.evidence.dns(name, "A"), self.evidence.dns(name, "AAAA"))
        return any(look is not None and look.status in SEEN for look in looks)

    def detections(self, name: str) -> tuple[Detection, ...]:
        """Who serves a host, by all detectors."""
        if name not in self._detections:
            addresses = self.addresses(name)
            marks = HostMarks(
                (name, *self.chain(name)),
                addresses,
                tuple(self.evidence.networks[each] for each in addresses if each in self.evidence.networks),
                self.evidence.tls(name),
                self.answers.get(name, ()),
            )
            self._detections[name] = detect(marks, self.table)
        return self._detections[name]

    def zone_of(self, name: str) -> str | None:
        """The zone that a name lies in; None when nobody told."""
        if name not in self._zones:
            self._zones[name] = self._zone_of(name)
        return self._zones[name]

    def _zone_of(self, name: str) -> str | None:
        for above in parents_of(name):
            look = self.evidence.dns(above, "SOA")
            if look is not None and look.status in SEEN and not look.chain:
                owners = [each.owner for each in (*look.records, *look.authority) if each.rtype == "SOA"]
                around = [owner for owner in owners if name == owner or name.endswith("." + owner)]
                if around:
                    return around[0]
            servers = self.evidence.dns(above, "NS")
            if servers is not None and servers.values and not servers.chain:
                return above
        return None

    def soa(self, zone: str) -> str:
        """ "mname rname" of a zone, "" = not seen."""
        look = self.evidence.dns(zone, "SOA")
        for record in (*look.records, *look.authority) if look else ():
            if record.rtype == "SOA" and record.owner == zone:
                return " ".join(record.value.split()[:2])
        return ""

    def nameservers(self, name: str) -> DnsLook | None:
        """The look at the nameservers of the zone that a name lies in."""
        zone = self.zone_of(name)
        return self.evidence.dns(zone, "NS") if zone else None

    def operators(self, name: str) -> tuple[Party, ...] | None:
        """Who answers for the zone of a name, one party for each operator; None when it was not seen.

        Nameservers belong together when the table gives them to one provider, when they lie in one registered
        domain, or when the zones they lie in have the same SOA (MNAME and RNAME): the rules of Kashaf, Sekar
        and Agarwal (IMC 2020 §3.1), with the table in front.
        """
        if name not in self._operators:
            look = self.nameservers(name)
            found = None if look is None or not look.values else self._grouped(look)
            self._operators[name] = found
        return self._operators[name]

    def _grouped(self, look: DnsLook) -> tuple[Party, ...]:
        groups: dict[str, list[str]] = {}
        first_of_soa: dict[str, str] = {}
        for server in sorted(set(look.values)):
            key, soa = self._operator_key(server, look.name)
            if soa:
                key = first_of_soa.setdefault(soa, key)
            groups.setdefault(key, []).append(server)
        return tuple(self._operator(key, tuple(groups[key])) for key in sorted(groups))

    def _operator_key(self, server: str, zone: str) -> tuple[str, str]:
        """The operator's id, and the SOA by which it may be another's ("" when the table knows it)."""
        known = self.table.by_nameserver(server) or self._of_a_cdn(server)
        if known:
            return known[0][0], ""
        if is_same_site(server, zone):
            hidden = self._operator_by_address(server)
            if hidden:
                return hidden, ""
        own_zone = self.zone_of(server)
        return registrable(server), self.soa(own_zone) if own_zone else ""

    def _of_a_cdn(self, server: str) -> tuple[tuple[str, str], ...]:
        """A nameserver under a CDN's own names is the CDN's."""
        found = self.table.by_cname(server)
        return tuple(each for each in found if "cdn" in self.table.providers[each[0]].roles)

    def _operator_by_address(self, server: str) -> str:
        """Whom a nameserver under the customer's own name belongs to, "" = cannot be told."""
        for address in self.addresses(server):
            for provider, _ in self.table.by_address(address):
                company = self.table.company_of(provider)
                for row in self.table.providers.values():
                    if "dns" in row.roles and self.table.company_of(row.id) == company:
                        return row.id
        return ""

    def _operator(self, key: str, servers: tuple[str, ...]) -> Party:
        shown = ", ".join(server.rstrip(".") for server in servers[:4]) + (
            ", ..." if len(servers) > 4 else ""
        )
        return self.party(key, servers, (f"nameservers {shown}",))

    def party(self, key: str, hosts: tuple[str, ...], evidence: tuple[str, ...]) -> Party:
        """The table's row of that id, or somebody whom only a domain or a network names."""
        row = self.table.providers.get(key)
        if row is None:
            return Party(key, key, key, hosts, evidence)
        return Party(key, row.name, self.table.company_of(key), hosts, evidence, is_known=True)

    def leaves(self, name: str) -> tuple[tuple[TlsLook, CertificateSeen], ...]:
        """The handshakes with a host that showed a certificate, with the leaf."""
        return tuple((look, look.chain[0]) for look in self.evidence.tls(name) if look.chain)

    def issuer(self, certificate: CertificateSeen) -> Party:
        """The CA of a certificate; one whom the table does not know is named by its organisation."""
        organisation = certificate.issuer_org or certificate.issuer_cn or "an unnamed CA"
        known = self.table.by_issuer(organisation)
        evidence = (f"issuer {organisation}",)
        return self.party(known[0] if known else organisation, (organisation,), evidence)

    def children(self, name: str, role: Role) -> tuple[Target, ...]:
        """The dependencies of a name that were met in a role."""
        return tuple(target for target in self.evidence.children(name) if target.role is role)


@lru_cache(maxsize=65_536)
def host_of_url(url: str) -> str | None:
    """The canonical name in a URL; None for an address or for what is no URL."""
    try:
        return name_of_host(urlsplit(url).hostname or "")
    except ValueError:
        return None
