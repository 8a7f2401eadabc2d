"""What a finding costs: an estimate of user-minutes a year, from the recorded outages. Pure but for reading them once.

    user-minutes a year = users x minutes a year of such an outage x share of requests affected

`users` are those who use the service at one moment. Minutes a year of a kind: the minutes in which a provider of
that kind failed its customers, each phase times the share of its traffic that failed, added over the recorded
outages of the kind, divided by (years from the first to the last record) x (companies on record for the kind).
That is an estimate from few and famous outages: it orders findings and promises nothing.
"""
# ruff: noqa: E501

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from typing import Final

from polycdn.audit.finding import Finding, Kind, Severity
from polycdn.incidents import Effect, FaultKind, Incident, all_ids, load
from polycdn.incidents import Kind as Role

FULL_BP: Final = 10_000
MILLION_PPM: Final = 1_000_000
MINUTE_MS: Final = 60_000
DAYS_OF_YEAR: Final = 365
USERS: Final = 1_000
"""The users at one moment that the estimate takes when nobody says."""

ROLE_OF: Final = {
    "dns": Role.DNS, "cdn": Role.CDN, "cloud": Role.CLOUD, "network": Role.CLOUD, "ca": Role.CA,
    "company": Role.CDN, "third-party": Role.CDN,
}  # fmt: skip
"""Which recorded outages tell how often a node of a role fails: a network as clouds, companies and third parties
as CDNs do."""

RESEMBLES: Final[Mapping[Kind, str]] = {
    Kind.ONE_DNS: "2016-10-21-dyn",
    Kind.ONE_CDN: "2021-06-08-fastly",
    Kind.SHARED_DNS: "2021-07-22-akamai",
    Kind.SHARED_CA: "2025-07-21-letsencrypt",
    Kind.SHARED_CLOUD: "2025-10-20-aws",
    Kind.SHARED_NETWORK: "2022-06-21-cloudflare",
    Kind.SHARED_COMPANY: "2025-10-29-azure",
    Kind.SHARED_CARRIER: "2025-11-18-cloudflare",
    Kind.SAME_CA: "2025-12-16-letsencrypt",
    Kind.CAA_ONE_CA: "2025-07-21-letsencrypt",
    Kind.TTL_LONG: "2021-06-08-fastly",
    Kind.NS_TTL_LONG: "2016-10-21-dyn",
    Kind.APEX_FIXED: "2025-11-18-cloudflare",
    Kind.CONSOLE: "2025-11-18-cloudflare",
    Kind.CERT_ENDS: "2025-07-21-letsencrypt",
    Kind.CERT_BAD: "2025-07-21-letsencrypt",
    Kind.NO_STAPLE: "2017-05-19-letsencrypt",
    Kind.BLOCKING: "2025-12-05-cloudflare",
    Kind.PRIVATE_ORIGIN: "2026-02-20-cloudflare",
    Kind.HIDDEN: "2025-06-12-cloudflare",
}
"""The outage of the past that a kind of finding resembles, when none of the same company does."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Minutes of outage that a provider of a role has in a year, in thousandths, and what that rests on."""

    milliminutes: int
    outages: int
    companies: int
    years_hundredths: int


@cache
def recorded() -> tuple[Incident, ...]:
    """The outages that are shipped, those at resolvers left out: no service chooses its users' resolver."""
    return tuple(each for each in map(load, all_ids()) if each.effect is Effect.OPERATOR)


@cache
def rate_of(role: Role) -> Rate:
    """How many minutes a year a provider of a role fails."""
    outages = [each for each in recorded() if role in each.kinds]
    days = [date.fromisoformat(each.id[:10]).toordinal() for each in recorded()]
    years_hundredths = max((max(days) - min(days)) * 100 // DAYS_OF_YEAR, 100)
    companies = max(len({each.provider for each in outages}), 1)
    total = sum(lost_milliminutes(each, role) for each in outages)
    return Rate(total * 100 // (years_hundredths * companies), len(outages), companies, years_hundredths)


def lost_milliminutes(incident: Incident, role: Role) -> int:
    """Minutes of full outage that an outage amounts to for customers of a role, in thousandths."""
    lost = 0
    for phase in incident.phases:
        if phase.fault is not FaultKind.SLOW and phase.hits(role):
            lost += phase.duration_ms * phase.share_ppm // MILLION_PPM * phase.reach_bp // FULL_BP
    return lost * 1_000 // MINUTE_MS


def priced(finding: Finding, users: int = USERS) -> Finding:
    """The finding with its user-minutes and the outage that it resembles."""
    incident = finding.incident or resembling(finding)
    if finding.severity is Severity.UNKNOWN:
        return replace(finding, incident="")
    rate = rate_of(ROLE_OF.get(finding.role, Role.CDN))
    minutes = users * rate.milliminutes * finding.affected_bp // (FULL_BP * 1_000)
    basis = (
        f"{users:,} users x {rate.milliminutes / 1_000:.1f} minutes a year ({rate.outages} outages of "
        f"{rate.companies} companies in {rate.years_hundredths / 100:.1f} years) x {finding.affected_bp / 100:.1f} %"
    )
    return replace(finding, incident=incident, user_minutes=minutes, minutes_basis=basis)


def resembling(finding: Finding) -> str:
    """The worst recorded outage of a company that the finding names, in the same role; else that of its kind.

    For a console only those outages count in which customers could not change anything.
    """
    role = ROLE_OF.get(finding.role)
    names = {word for node in finding.nodes for word in _words(node)}
    alike = [
        each
        for each in recorded()
        if each.provider.lower() in names
        and (role is None or role in each.kinds)
        and not (finding.kind is Kind.CONSOLE and each.control_plane_available)
    ]
    if not alike:
        return RESEMBLES.get(finding.kind, "")
    return max(alike, key=lambda each: (lost_milliminutes(each, role or each.kinds[0]), each.id)).id


OWNED: Final = {
    "cloudfront": "aws", "route53": "aws", "google-cdn": "google-cloud", "azure-front-door": "azure",
    "azure-dns": "azure", "entra": "azure", "cloudflare-dns": "cloudflare", "akamai-dns": "akamai",
    "lets-encrypt": "letsencrypt", "meta-cdn": "facebook", "amazon": "aws", "microsoft": "azure", "google": "google-cloud",
    "isrg": "letsencrypt", "meta": "facebook",
}  # fmt: skip
"""Rows and companies of the table by the name that the records have for them."""


def _words(node: str) -> tuple[str, ...]:
    name = node.partition(":")[2].lower()
    return (name, OWNED.get(name, name))
