"""Which dependencies follow from what was seen of a name. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from polycdn.audit.evidence import DnsLook, Resource, Role, Target, TlsLook, Unseen
from polycdn.audit.names import name_of_host


@dataclass(frozen=True, slots=True)
class Lead:
    """A target to look at next; `url` is what a page loads from it, "" = nothing known."""

    target: Target
    url: str = ""


WEB_ROLES: Final = frozenset({Role.SERVICE, Role.IDENTITY, Role.STATUS, Role.THIRD_PARTY})
"""Roles that are reached over HTTPS, so that their certificate and headers matter."""
PAGE_ROLES: Final = frozenset({Role.SERVICE, Role.IDENTITY, Role.STATUS})
"""Roles whose page is read for what it loads."""


def is_web(target: Target) -> bool:
    """Whether a target is reached over HTTPS: by its role, or because it was asked for."""
    return target.role in WEB_ROLES or not target.parent


def aliases(target: Target, look: DnsLook | None) -> list[Lead]:
    """The names that a name is an alias of. Those of an alias were told by whoever led there."""
    if look is None or target.role is Role.CDN:
        return []
    owners = (look.name, *look.chain)
    return [
        _lead(target, name, Role.CDN, f"CNAME of {before}")
        for before, name in zip(owners, look.chain, strict=False)
    ]


def nameservers(target: Target, look: DnsLook | None) -> list[Lead]:
    """The nameservers of the zone that a name lies in."""
    if look is None:
        return []
    return [_lead(target, name, Role.DNS, f"nameserver of {look.name}") for name in look.values]


def mail_hosts(target: Target, look: DnsLook | None) -> list[Lead]:
    """The hosts that take a name's mail; the null MX (RFC 7505) is none."""
    if look is None:
        return []
    hosts = [value.partition(" ")[2] for value in look.values]
    return [_lead(target, host, Role.MAIL, f"mail host of {look.name}") for host in hosts if host != "."]


def authorities(target: Target, looks: Iterable[TlsLook]) -> list[Lead]:
    """The hosts that browsers may ask about the certificates of a name."""
    leads = []
    for look in looks:
        for seen in look.chain:
            kinds = (("OCSP", seen.ocsp_urls), ("CRL", seen.crl_urls), ("issuer", seen.aia_urls))
            for word, urls in kinds:
                leads += [_host_lead(target, url, Role.CA, f"{word} host of {look.host}") for url in urls]
    return [lead for lead in leads if lead]


def loaded(target: Target, page_url: str, resources: Iterable[Resource]) -> list[Lead]:
    """The other hosts that a page loads from; those that block rendering come first."""
    ordered = sorted(resources, key=lambda resource: not resource.blocking)
    leads = [
        _host_lead(target, each.url, Role.THIRD_PARTY, f"resource of {page_url}", each.url)
        for each in ordered
    ]
    return [lead for lead in leads if lead]


def followed(target: Target, leads: Iterable[Lead], per_role_max: int) -> tuple[list[Lead], list[Unseen]]:
    """Each dependency once, none on itself, at most so many of a role; and what is left out."""
    kept: dict[tuple[str, Role], Lead] = {}
    counts: dict[Role, int] = defaultdict(int)
    left_out: dict[Role, set[str]] = defaultdict(set)
    for lead in leads:
        key = (lead.target.name, lead.target.role)
        if key in kept or lead.target.name == target.name:
            continue
        if counts[lead.target.role] >= per_role_max:
            left_out[lead.target.role].add(lead.target.name)
            continue
        counts[lead.target.role] += 1
        kept[key] = lead
    unseen = [
        Unseen(target.name, "dependencies", f"too large: {len(names)} more of role {role} were not followed")
        for role, names in left_out.items()
    ]
    return list(kept.values()), unseen


def _lead(target: Target, name: str, role: Role, why: str, url: str = "") -> Lead:
    return Lead(Target(name, role, why, target.depth + 1, target.name), url)


def _host_lead(target: Target, url: str, role: Role, why: str, loads: str = "") -> Lead | None:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None
    name = name_of_host(host)
    return _lead(target, name, role, why, loads) if name else None
