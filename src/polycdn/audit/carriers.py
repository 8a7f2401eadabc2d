"""Who carries the traffic of a name, and which of several can take over from each other. Pure."""
# ruff: noqa: E501

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from polycdn.audit.domains import is_same_site, registrable
from polycdn.audit.evidence import Role
from polycdn.audit.view import Party, View, host_of_url

PROVIDER_OF = "provider of "
"""How `why` of a target says that a configured provider's end point was asked for: "provider of NAME: a"."""
AT = " at "
"""Before the address of a provider that the config names by address only: "provider of NAME: a at 192.0.2.1"."""
ORIGIN_OF = "origin of "
"""The same for the origin behind the providers."""


@dataclass(frozen=True, slots=True)
class Carriage:
    """`serial`: all of them are in the way. `parallel`: any one of them is enough (two or more, or none).

    `host_of` tells at which host a party of `parallel` is met: the name itself, or the end point of a
    configured provider.
    """

    serial: tuple[Party, ...] = ()
    parallel: tuple[Party, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()

    @property
    def is_seen(self) -> bool:
        """Whether anybody was recognised."""
        return bool(self.serial or self.parallel)

    def host_of(self, party: str) -> str:
        """The host at which a party is met, "" = not known."""
        return dict(self.hosts).get(party, "")


def carriage(view: View, name: str) -> Carriage:
    """The carriers of a name: those of the config when it names them, else those that were seen."""
    configured, by_address = configured_hosts(view, name), _configured_addresses(view, name)
    if configured or by_address:
        return _of_several(view, name, configured, by_address)
    return _of_one(view, name)


def configured_hosts(view: View, name: str) -> tuple[str, ...]:
    """The end points of the providers that the config names for a service."""
    found = view.companions.get(f"{PROVIDER_OF}{name}", ())
    return tuple(host for host in found if host != name)


def _configured_addresses(view: View, name: str) -> tuple[Party, ...]:
    """The providers that the config names by address ("provider of NAME: label at ADDRESS")."""
    if name not in view.companions.get(f"{PROVIDER_OF}{name}", ()):
        return ()
    return tuple(
        _by_configured_address(view, label, address)
        for label, host, address in _configured(view, name)
        if host == name
    )


def configured_parties(view: View, name: str) -> tuple[tuple[str, Party], ...]:
    """(name in the config, whose it is) for each provider that the config names for a service."""
    return tuple(
        (label, _by_configured_address(view, label, address) if host == name else _of_end_point(view, host))
        for label, host, address in _configured(view, name)
    )


def _configured(view: View, name: str) -> Iterator[tuple[str, str, str]]:
    """(label, host, address) of what was asked for as a provider; the address only if it has no host of its own."""
    start = f"{PROVIDER_OF}{name}: "
    for target in view.evidence.asked:
        if target.why.startswith(start):
            said = target.why.removeprefix(start)
            if target.name != name:
                yield said, target.name, ""
            elif AT in said:
                label, _, address = said.rpartition(AT)
                yield label, name, address


def _by_configured_address(view: View, label: str, address: str) -> Party:
    said = (f"the config says that {label} is at {address}",)
    party = owner_of(view, address)
    return replace(party, evidence=said) if party else Party(label, label, label, (address,), said)


def origins(view: View, name: str) -> tuple[str, ...]:
    """The origins that the config names for a service."""
    return view.companions.get(f"{ORIGIN_OF}{name}", ())


def _of_several(view: View, name: str, hosts: tuple[str, ...], by_address: tuple[Party, ...]) -> Carriage:
    found: dict[str, Party] = {}
    where = []
    for host in hosts:
        party = _of_end_point(view, host)
        found.setdefault(party.id, party)
        where.append((party.id, host))
    for party in by_address:
        found.setdefault(party.id, party)
        where.append((party.id, name))
    parties = tuple(found.values())
    if len(parties) == 1:
        return Carriage(serial=parties, hosts=tuple(where))
    return Carriage(parallel=parties, hosts=tuple(where))


def _of_end_point(view: View, host: str) -> Party:
    """Whose a configured end point is: a known provider's, else its domain's. Its name leads to what is below."""
    one = _of_one(view, host)
    known = [party for party in one.serial or one.parallel if party.is_known]
    party = known[-1] if known else _by_domain(view, host)
    return replace(party, hosts=tuple(dict.fromkeys((host, *party.hosts))))


def _of_one(view: View, name: str) -> Carriage:
    serial = _by_chain(view, name)
    if serial:
        return Carriage(serial=serial, hosts=tuple((party.id, name) for party in serial))
    by_address = _by_addresses(view, name)
    if len(by_address) > 1:
        return Carriage(parallel=by_address, hosts=tuple((party.id, name) for party in by_address))
    sure = by_address or _by_rest(view, name)
    return Carriage(serial=sure, hosts=tuple((party.id, name) for party in sure))


def _by_chain(view: View, name: str) -> tuple[Party, ...]:
    """Those whom the CNAME records lead through, in order; the service's own names are nobody."""
    found: dict[str, Party] = {}
    for alias in view.chain(name):
        known = view.table.by_cname(alias)
        if known:
            found.setdefault(known[0][0], view.party(known[0][0], (alias,), (f"CNAME {alias}",)))
        elif not is_same_site(alias, name):
            key = registrable(alias)
            found.setdefault(key, view.party(key, (alias,), (f"CNAME {alias}",)))
    known = view.table.by_cname(name)
    if known and not found:
        found[known[0][0]] = view.party(known[0][0], (name,), (f"{name} is a name of theirs",))
    return tuple(found.values())


def _by_addresses(view: View, name: str) -> tuple[Party, ...]:
    found: dict[str, Party] = {}
    for address in view.addresses(name):
        party = owner_of(view, address)
        if party is not None:
            found.setdefault(party.id, party)
    return tuple(found.values())


def owner_of(view: View, address: str) -> Party | None:
    """Whose an address is: by the providers' prefixes, then by network, then by the network's organisation."""
    if is_private(address):
        return None
    ranked = sorted(
        view.table.by_address(address),
        key=lambda each: (
            view.table.providers[each[0]].ranges_are_shared,
            "cdn" not in view.table.providers[each[0]].roles,
            -each[1].prefixlen,
            each[0],
        ),
    )
    if ranked:
        provider, network = ranked[0]
        return view.party(provider, (address,), (f"{address} is in {network}",))
    look = view.evidence.networks.get(address)
    if look is None or not look.asn:
        return None
    known = view.table.by_asn(look.asn)
    said = f"{address} is announced by AS{look.asn} {look.organisation}".rstrip()
    return view.party(
        known[0] if known else look.organisation.rstrip(".") or f"AS{look.asn}", (address,), (said,)
    )


def _by_rest(view: View, name: str) -> tuple[Party, ...]:
    """By headers and certificate, when neither name nor address told."""
    for detection in view.detections(name):
        if detection.is_sure:
            evidence = tuple(clue.evidence for clue in detection.clues[:3])
            return (view.party(detection.provider, (name,), evidence),)
    return ()


def _by_domain(view: View, host: str) -> Party:
    key = registrable(host)
    return view.party(key, (host,), (f"end point {host}",))


LAB = tuple(
    ip_network(text) for text in ("127.0.0.0/8", "198.18.0.0/15", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24",
                                  "2001:db8::/32", "::1/128")
)  # fmt: skip
"""Addresses of a lab or of examples (RFC 2544, 5737, 3849): public as far as an audit goes."""


def is_private(address: str) -> bool:
    """Whether an address is one that the Internet does not lead to."""
    try:
        number = ip_address(address)
    except ValueError:
        return True
    return number.is_private and not any(number in network for network in LAB)


def third_parties(view: View, name: str) -> tuple[str, ...]:
    """The other hosts that a name's pages load from: those followed, then those that only a page names."""
    loaded = (host_of_url(resource.url) for page in view.pages.get(name, ()) for resource in page.resources)
    followed = (target.name for target in view.children(name, Role.THIRD_PARTY))
    return tuple(dict.fromkeys(host for host in (*followed, *loaded) if host and host != name))
