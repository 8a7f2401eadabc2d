"""Findings about names: operators, carriers, TTLs, the apex, consoles. Pure."""
# ruff: noqa: E501

from collections.abc import Iterator
from typing import Final

from polycdn.audit.build import host_id, provider_id
from polycdn.audit.carriers import carriage, is_private, origins
from polycdn.audit.case import Case
from polycdn.audit.domains import registrable
from polycdn.audit.evidence import DnsLook, DnsStatus, RegistrationLook, Role
from polycdn.audit.finding import Finding, Kind, Severity
from polycdn.audit.graph import listed
from polycdn.audit.names import host_of
from polycdn.audit.table.provider import Table
from polycdn.audit.table.suffix import SuffixIndex
from polycdn.audit.view import Party

HOUR_S: Final = 3_600
PRIVATE_LINKS: Final = SuffixIndex(
    [
        ("cfargotunnel.com", "Cloudflare Tunnel"),
        ("vpce.amazonaws.com", "AWS PrivateLink"),
        ("privatelink.azurewebsites.net", "Azure Private Link"),
        ("privatelink.blob.core.windows.net", "Azure Private Link"),
        ("privatelink.azurefd.net", "Azure Private Link"),
        ("flycast", "Fly.io private network"),
        ("internal", "a private network"),
        ("railway.internal", "Railway private network"),
        ("akamai-siteshield.net", "Akamai Site Shield"),
    ]
)
"""Ends of names that only one provider's private link leads to."""


def one_operator(case: Case) -> Iterator[Finding]:
    """A zone of the service with one DNS operator."""
    for zone, operators in case.operators():
        if len(operators) == 1:
            only = operators[0]
            yield case.finding(
                Kind.ONE_DNS, Severity.HIGH, zone, f"{only.name} alone answers for {host_of(zone)}",
                f"All nameservers of {host_of(zone)} are {only.name}'s. When they do not answer, no name in it is found, "
                "whatever stands behind it.",
                "add a second DNS operator with its own nameservers and keep both in step (zone transfer, or a tool "
                "that writes to both); check that it shares nothing with the first",
                only.evidence, (provider_id(only.id),), role="dns",
            )  # fmt: skip


def one_carrier(case: Case) -> Iterator[Finding]:
    """A host with one way to it."""
    for host, found in case.carriages.items():
        if found.parallel or not found.serial:
            continue
        last = found.serial[-1]
        names = listed(party.name for party in found.serial)
        yield case.finding(
            Kind.ONE_CDN, Severity.HIGH, host, f"{host_of(host)} is reached through {names} only",
            f"Every request to {host_of(host)} goes through {names}; there is no second way when it fails.",
            "set up a second provider that can carry the traffic, with its own certificate and DNS, and something "
            "that moves the traffic (polycdn up)",
            tuple(line for party in found.serial for line in party.evidence),
            tuple(provider_id(party.id) for party in reversed(found.serial)),
            role=_role_of(case, last),
        )  # fmt: skip


def _role_of(case: Case, party: Party) -> str:
    row = case.view.table.providers.get(party.id)
    if row is None:
        return "cdn"
    return "cdn" if "cdn" in row.roles else "cloud"


def long_ttls(case: Case) -> Iterator[Finding]:
    """Records that clients keep for longer than it should take to leave."""
    limit_s = case.bounds.ttl_s
    for host in case.hosts:
        for rtype in ("A", "AAAA"):
            look = case.view.evidence.dns(host, rtype)
            own = [each for each in look.records if each.owner == host] if look else []
            worst = max(own, key=lambda each: each.ttl_s, default=None)
            if worst is not None and worst.ttl_s > limit_s:
                severity = Severity.HIGH if worst.ttl_s > HOUR_S else Severity.MEDIUM
                yield case.finding(
                    Kind.TTL_LONG, severity, host, f"{host_of(host)} is kept for {worst.ttl_s} s",
                    f"Resolvers keep the {worst.rtype} record of {host_of(host)} for {worst.ttl_s} s, so that many "
                    f"users still go to a dead provider after the switch; the limit is {limit_s} s.",
                    f"lower its TTL to {limit_s} s or less now: doing it in the outage is too late",
                    (f"{host_of(host)} {worst.ttl_s} {worst.rtype} {worst.value}",), (host_id(host),),
                    affected_bp=min(10_000, worst.ttl_s * 10_000 // (2 * HOUR_S)), role="cdn",
                )  # fmt: skip
                break


def long_delegations(case: Case) -> Iterator[Finding]:
    """Nameserver records that outlive a day at resolvers, of a zone that has one operator only."""
    for zone, operators in case.operators():
        look = case.view.evidence.dns(zone, "NS")
        said = (*look.records, *look.authority) if look else ()
        ttl_s = max((each.ttl_s for each in said if each.rtype == "NS" and each.owner == zone), default=0)
        if len(operators) == 1 and ttl_s > case.bounds.ns_ttl_s:
            yield case.finding(
                Kind.NS_TTL_LONG, Severity.LOW, zone, f"the nameservers of {host_of(zone)} are kept for {ttl_s} s",
                f"A change of the DNS operator reaches users only after {ttl_s} s; the limit is "
                f"{case.bounds.ns_ttl_s} s. With one operator that is the only way out.",
                "lower the TTL of the NS records where the registry lets you; better, have a second operator in the "
                "delegation already",
                (f"{host_of(zone)} {ttl_s} NS",), (provider_id(operators[0].id),), affected_bp=2_000, role="dns",
            )  # fmt: skip


def fixed_apex(case: Case) -> Iterator[Finding]:
    """An apex whose addresses are one provider's: it cannot be an alias, so that moving it needs whoever sets them."""
    for host in case.hosts:
        zone = case.view.zone_of(host)
        found = case.carriages[host]
        if zone != host or case.view.chain(host) or found.parallel or not found.serial:
            continue
        if not case.view.addresses(host):
            continue
        carrier = found.serial[-1]
        operators = case.view.operators(host) or ()
        is_same = len(operators) == 1 and carrier.is_known and operators[0].company == carrier.company
        table = case.view.table.providers
        is_cdn = carrier.id in table and "cdn" in table[carrier.id].roles
        if not is_same and not is_cdn and carrier.is_known:
            continue
        why = (
            f"and its DNS is {operators[0].name}: while that company fails, neither the addresses nor the nameservers "
            "can be changed"
            if is_same
            else "which an apex cannot leave by an alias"
        )
        yield case.finding(
            Kind.APEX_FIXED, Severity.HIGH if is_same else Severity.MEDIUM, host,
            f"{host_of(host)} is fixed to addresses of {carrier.name}",
            f"{host_of(host)} is the apex of its zone, where no CNAME may be. Its addresses are {carrier.name}'s, {why}.",
            "let the apex redirect to www from addresses that you can move (two providers, or your own prefix), or use "
            "an operator that answers with fresh addresses of any provider (ALIAS, ANAME), not the CDN's own DNS",
            carrier.evidence, (provider_id(carrier.id), host_id(host)), affected_bp=2_000, role="cdn",
        )  # fmt: skip


def consoles(case: Case) -> Iterator[Finding]:
    """A DNS console, a login or a status page that fails together with the service."""
    table = case.view.table
    carriers = {party.company: party for party in case.carriers() if party.is_known}
    for zone, operators in case.operators():
        if len(operators) != 1 or not operators[0].is_known:
            continue
        only = operators[0]
        uses = [use for use in table.providers[only.id].uses if use.role == "console" and use.is_critical]
        behind = {only.company: only.id, **{table.company_of(use.provider): use.provider for use in uses}}
        both = [company for company in behind if company in carriers]
        if both:
            yield case.finding(
                Kind.CONSOLE, Severity.HIGH, zone, f"the DNS console of {host_of(zone)} fails with {carriers[both[0]].name}",
                f"{host_of(zone)} is steered at {', '.join(table.providers[only.id].console) or only.name}, which depends "
                f"on the company that carries the traffic. When {carriers[both[0]].name} fails, you may not be able to "
                "log in and leave.",
                "keep DNS with another company than the CDN, and keep a way to change it that needs no console "
                "(an API key elsewhere, a secondary operator, a switch of your own)",
                tuple(f"{use.why}" for use in uses) or only.evidence,
                (provider_id(carriers[both[0]].id), provider_id(only.id)), role="cdn",
            )  # fmt: skip
    yield from _logins(case)
    yield from _registrars(case)


def _registrars(case: Case) -> Iterator[Finding]:
    """A registrar of the company that carries the traffic, or that alone answers for the zone."""
    parties = {party.company: party for party in case.carriers() if party.is_known}
    for _, operators in case.operators():
        if len(operators) == 1 and operators[0].is_known:
            parties.setdefault(operators[0].company, operators[0])
    domains = dict.fromkeys(f"{registrable(host)}." for host in case.hosts)
    for look in filter(None, map(case.view.evidence.registrations.get, domains)):
        row = registrar_row(case.view.table, look)
        other = parties.get(case.view.table.company_of(row)) if row else None
        if row is None or other is None:
            continue
        yield case.finding(
            Kind.CONSOLE, Severity.HIGH, look.domain, f"the registrar of {host_of(look.domain)} fails with {other.name}",
            f"{host_of(look.domain)} is registered at {look.registrar}, of the company that the service depends on "
            f"already. When {other.name} fails, the nameservers may not be changed where it would help.",
            "move the domain to a registrar that carries nothing else of the service",
            (f"registrar {look.registrar} (RDAP)",), (provider_id(other.id), provider_id(row)), affected_bp=5_000,
            role="dns",
        )  # fmt: skip


def registrar_row(table: Table, look: RegistrationLook) -> str | None:
    """The table's row of a registrar: by its number in IANA's list, else by the first word of its name."""
    numbered = table.by_registrar(look.registrar_id)
    if numbered:
        return numbered[0]
    words = {word.strip(",.") for word in look.registrar.casefold().split()}
    for row in table.providers.values():
        if "registrar" in row.roles and row.name.casefold().split()[0] in words:
            return row.id
    return None


def _logins(case: Case) -> Iterator[Finding]:
    carriers = {party.id: party for party in case.carriers()}
    carriers |= {party.id: party for _, each in case.operators() for party in each if len(each) == 1}
    companies = {party.company: party for party in carriers.values()}
    words = {Role.IDENTITY: "login", Role.STATUS: "status page"}
    for target in case.view.evidence.asked:
        if target.depth or target.parent or target.role not in words:
            continue
        found = carriage(case.view, target.name)
        below = {*found.serial, *(case.view.operators(target.name) or ())}
        for party in sorted(below, key=lambda each: each.id):
            other = carriers.get(party.id) or companies.get(party.company)
            if other is None:
                continue
            word = words[target.role]
            yield case.finding(
                Kind.CONSOLE, Severity.HIGH if target.role is Role.IDENTITY else Severity.MEDIUM, target.name,
                f"the {word} {host_of(target.name)} fails with {other.name}",
                f"The {word} at {host_of(target.name)} depends on {party.name}, as the service does. When "
                f"{other.name} fails, it is gone in the moment in which it is needed.",
                f"move the {word} to a company that carries nothing else of the service",
                party.evidence, (provider_id(party.id), host_id(target.name)), affected_bp=5_000, role="cdn",
            )  # fmt: skip
            break


def private_origins(case: Case) -> Iterator[Finding]:
    """An origin that only one provider's private link leads to."""
    for host in case.hosts:
        for origin in origins(case.view, host):
            names = (origin, *case.view.chain(origin))
            links = [owner for name in names for owner, _ in PRIVATE_LINKS.find(name)]
            look = case.view.evidence.dns(origin, "A")
            if not links and not _is_out_of_reach(look):
                continue
            link = links[0] if links else "a private network"
            yield case.finding(
                Kind.PRIVATE_ORIGIN, Severity.HIGH, origin, f"the origin of {host_of(host)} is reached through {link} only",
                f"{host_of(origin)} is not on the Internet: only {link} leads there. No second provider can fetch from it.",
                "give the origin a second, protected way in (mutual TLS, an allow-list of the second provider's "
                "prefixes, a second tunnel), and test it",
                (f"{' -> '.join(map(host_of, names))}",), (host_id(origin),), role="cdn",
            )  # fmt: skip


def _is_out_of_reach(look: DnsLook | None) -> bool:
    if look is None:
        return False
    if look.status is DnsStatus.NXDOMAIN:
        return True
    return bool(look.values) and all(is_private(value) for value in look.values)
