"""A provider and its marks, and the table that finds a provider by one of them. Pure."""
# ruff: noqa: E501

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, TypeVar

from polycdn.audit.table.suffix import SuffixIndex

Key = TypeVar("Key")

ROLES: Final = frozenset(
    {"cdn", "dns", "ca", "cloud", "third-party", "mail", "identity", "status", "registrar"}
)
"""What a provider can be to a service. `uses` knows "console" besides: where its customers steer it."""


@dataclass(frozen=True, slots=True)
class Use:
    """One provider depends on another. `critical`: it does not work for its customers without it."""

    provider: str
    role: str
    is_critical: bool
    why: str


@dataclass(frozen=True, slots=True)
class Provider:
    """One row. Suffixes are lower case without dots at the ends; `*` is any text inside one label.

    `cname`: where names that lead to it end; `ns`, `mx`: where its nameservers and mail hosts end; `hosts`:
    names that are its own when a page or a certificate leads there; `headers`, `behaviour`: "name" or
    "name: part of the value", a name that ends in "-" is a beginning; `issuers`: organisations of issuing
    certificates; `caa`: its names in CAA records; `console`: where its customers steer it; `ranges_are_shared`:
    others rent addresses in them; `registrar_ids`: its numbers in IANA's list of registrars; `read`: the day on
    which the row was held against the text of `source`, or of `sources` where those are named; "" = it was not.
    """

    id: str
    name: str
    company: str
    roles: tuple[str, ...]
    source: str
    date: str
    cname: tuple[str, ...] = ()
    ns: tuple[str, ...] = ()
    mx: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    behaviour: tuple[str, ...] = ()
    cert_names: tuple[str, ...] = ()
    issuers: tuple[str, ...] = ()
    caa: tuple[str, ...] = ()
    asns: tuple[int, ...] = ()
    registrar_ids: tuple[int, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    ranges_are_shared: bool = False
    console: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()
    note: str = ""
    read: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Company:
    """Who owns providers. `parent` is the id of the company that owns it, "" = none."""

    id: str
    name: str
    source: str
    date: str
    parent: str = ""


class Table:
    """Providers by id, and by each of their marks. What several share is found for each of them."""

    def __init__(self, providers: Iterable[Provider], companies: Iterable[Company] = ()) -> None:
        self.providers: Mapping[str, Provider] = {row.id: row for row in providers}
        self.companies: Mapping[str, Company] = {row.id: row for row in companies}
        rows = tuple(self.providers.values())
        self._cname = SuffixIndex((suffix, row.id) for row in rows for suffix in row.cname)
        self._ns = SuffixIndex((suffix, row.id) for row in rows for suffix in row.ns)
        self._mx = SuffixIndex((suffix, row.id) for row in rows for suffix in row.mx)
        self._hosts = SuffixIndex((suffix, row.id) for row in rows for suffix in row.hosts)
        self._console = SuffixIndex((suffix, row.id) for row in rows for suffix in row.console)
        self._cert_names = SuffixIndex((suffix, row.id) for row in rows for suffix in row.cert_names)
        self._caa = SuffixIndex((suffix, row.id) for row in rows for suffix in row.caa)
        self._issuers = _by_key((issuer.casefold(), row.id) for row in rows for issuer in row.issuers)
        self._asns = _by_key((asn, row.id) for row in rows for asn in row.asns)
        self._registrars = _by_key((number, row.id) for row in rows for number in row.registrar_ids)
        self._headers = {kind: _by_header(rows, kind) for kind in ("header", "behaviour")}
        self._networks = _by_network(rows)

    def by_cname(self, name: str) -> tuple[tuple[str, str], ...]:
        """(provider, suffix) for the longest suffix that the name ends in; most often one or none."""
        return self._cname.find(name)

    def by_nameserver(self, name: str) -> tuple[tuple[str, str], ...]:
        """The same for the name of a nameserver."""
        return self._ns.find(name)

    def by_mail_host(self, name: str) -> tuple[tuple[str, str], ...]:
        """The same for the host of an MX record."""
        return self._mx.find(name)

    def by_host(self, name: str) -> tuple[tuple[str, str], ...]:
        """The same for a host that a page loads from, or that a certificate or a login names."""
        return self._hosts.find(name)

    def by_console(self, name: str) -> tuple[tuple[str, str], ...]:
        """The providers that are steered at this host."""
        return self._console.find(name)

    def by_certificate_name(self, name: str) -> tuple[tuple[str, str], ...]:
        """The same for a name in a certificate; a leading "*." is passed over."""
        return self._cert_names.find(name.removeprefix("*."))

    def by_caa(self, name: str) -> tuple[str, ...]:
        """The CAs that a CAA record with this name allows."""
        return tuple(provider for provider, _ in self._caa.find(name))

    def by_issuer(self, organisation: str) -> tuple[str, ...]:
        """The CAs whose issuing certificates have exactly this organisation, whatever the case."""
        return self._issuers.get(organisation.strip().casefold(), ())

    def by_asn(self, asn: int) -> tuple[str, ...]:
        """The providers that announce from this network."""
        return self._asns.get(asn, ())

    def by_registrar(self, number: str) -> tuple[str, ...]:
        """The providers that are the registrar of this number in IANA's list."""
        is_number = number.isascii() and number.isdigit() and len(number) < 10
        return self._registrars.get(int(number), ()) if is_number else ()

    def by_header(self, name: str, value: str, kind: str = "header") -> tuple[str, ...]:
        """The providers that send such a header; `kind` "behaviour" for the habits that only support."""
        exact, beginnings = self._headers[kind]
        lower_name, lower_value = name.lower(), value.lower()
        rules = exact.get(lower_name, ()) + tuple(
            rule for start, rule in beginnings if lower_name.startswith(start)
        )
        return tuple(dict.fromkeys(provider for provider, part in rules if part in lower_value))

    def by_address(self, address: str) -> tuple[tuple[str, IPv4Network | IPv6Network], ...]:
        """(provider, prefix) for every prefix around the address, the longest first; () for a non-address."""
        try:
            number = ip_address(address)
        except ValueError:
            return ()
        bits = number.max_prefixlen
        found = []
        for length, blocks in self._networks[number.version]:
            for provider, network in blocks.get(int(number) >> (bits - length), ()):
                found.append((provider, network))
        return tuple(found)

    def company_of(self, provider: str) -> str:
        """The company at the top of those that own the provider: "edgio" is told as "akamai"."""
        company = self.providers[provider].company
        for _ in range(len(self.companies)):
            row = self.companies.get(company)
            if row is None or not row.parent:
                break
            company = row.parent
        return company

    def closure(self, provider: str, *, critical_only: bool = True) -> tuple[str, ...]:
        """All that a provider depends on at any depth, itself left out, nearest first."""
        seen = {provider}
        order: list[str] = []
        queue = [provider]
        while queue:
            for use in self.providers[queue.pop(0)].uses:
                if use.provider not in seen and (use.is_critical or not critical_only):
                    seen.add(use.provider)
                    order.append(use.provider)
                    queue.append(use.provider)
        return tuple(order)


def _by_key(pairs: Iterable[tuple[Key, str]]) -> dict[Key, tuple[str, ...]]:
    found: dict[Key, tuple[str, ...]] = {}
    for key, provider in pairs:
        if provider not in found.get(key, ()):
            found[key] = (*found.get(key, ()), provider)
    return found


def _by_header(
    rows: Iterable[Provider], kind: str
) -> tuple[dict[str, tuple[tuple[str, str], ...]], tuple[tuple[str, tuple[str, str]], ...]]:
    """Name -> (provider, part of the value), and the same for beginnings of names, which end in "-"."""
    exact: dict[str, tuple[tuple[str, str], ...]] = {}
    beginnings = []
    for row in rows:
        for pattern in row.headers if kind == "header" else row.behaviour:
            name, _, part = pattern.partition(":")
            rule = (row.id, part.strip().lower())
            if name.endswith("-"):
                beginnings.append((name, rule))
            else:
                exact[name] = (*exact.get(name, ()), rule)
    return exact, tuple(beginnings)


_Blocks = dict[int, tuple[tuple[str, IPv4Network | IPv6Network], ...]]


def _by_network(rows: Iterable[Provider]) -> dict[int, tuple[tuple[int, _Blocks], ...]]:
    """Version -> (prefix length, leading bits -> rows), the longest prefixes first."""
    found: dict[int, dict[int, _Blocks]] = {4: {}, 6: {}}
    for row in rows:
        for network in row.networks:
            blocks = found[network.version].setdefault(network.prefixlen, {})
            key = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            blocks[key] = (*blocks.get(key, ()), (row.id, network))
    return {version: tuple(sorted(lengths.items(), reverse=True)) for version, lengths in found.items()}
