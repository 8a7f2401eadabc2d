"""Findings about certificates: their end, their CA, stapling, CAA. Pure."""
# ruff: noqa: E501

from collections.abc import Iterator
from typing import Final

from polycdn.audit.build import host_id, provider_id
from polycdn.audit.carriers import configured_hosts
from polycdn.audit.case import Case
from polycdn.audit.evidence import CertificateSeen, DnsStatus, TlsLook
from polycdn.audit.finding import Finding, Kind, Severity
from polycdn.audit.names import host_of, parents_of

DAY_MS: Final = 86_400_000
SHORT_LIVED_DAYS: Final = 10
"""Certificates that live for so few days are renewed every few days; a third of their life is their warning."""


def _leaves(case: Case) -> Iterator[tuple[str, TlsLook, CertificateSeen]]:
    for own in case.hosts:
        for host in (own, *configured_hosts(case.view, own)):
            for look, leaf in case.view.leaves(host):
                yield host, look, leaf


def ending(case: Case) -> Iterator[Finding]:
    """Certificates near their end, or past it."""
    told = set()
    for host, _, leaf in _leaves(case):
        left_ms = leaf.not_after_ms - case.now_ms
        days = left_ms // DAY_MS
        life_days = max((leaf.not_after_ms - leaf.not_before_ms) // DAY_MS, 1)
        warn = life_days // 3 if life_days <= SHORT_LIVED_DAYS else min(case.bounds.days_warn, life_days // 4)
        if days >= warn or (host, leaf.sha256) in told:
            continue
        told.add((host, leaf.sha256))
        severity = Severity.MEDIUM
        if left_ms <= 0:
            severity = Severity.CRITICAL
        elif days < min(case.bounds.days_alarm, warn):
            severity = Severity.HIGH
        when = f"ends in {days} days" if left_ms > 0 else f"ended {-days} days ago"
        yield case.finding(
            Kind.CERT_ENDS, severity, host, f"the certificate of {host_of(host)} {when}",
            f"The certificate that {host_of(host)} shows {when}, of the {life_days} days that it lives. If its CA is "
            "down or the renewal is broken, all clients refuse the service after that.",
            "renew it now; renew at two thirds of its life, watch that, and have a second CA ready",
            (f"{host_of(host)}: {leaf.subject or 'certificate'} of {leaf.issuer_org or leaf.issuer_cn}",),
            (host_id(host),), 10_000 if left_ms <= 0 else 2_000, "ca",
        )  # fmt: skip


def untrusted(case: Case) -> Iterator[Finding]:
    """Certificates that clients do not take."""
    told = set()
    for host, look, _ in _leaves(case):
        if look.verified or not look.why or host in told:
            continue
        told.add(host)
        yield case.finding(
            Kind.CERT_BAD, Severity.HIGH, host, f"clients do not trust the certificate of {host_of(host)}",
            f"The chain that {look.address} shows for {host_of(host)} is not trusted: {look.why}.",
            "install the whole chain, for the right names, of a CA that clients know",
            (f"{look.address}:{look.port}: {look.why}",), (host_id(host),), 5_000, "ca",
        )  # fmt: skip


def stapling(case: Case) -> Iterator[Finding]:
    """Certificates whose CA has an OCSP service, without an answer of it in the handshake."""
    told = set()
    for host, look, leaf in _leaves(case):
        if not leaf.ocsp_urls or host in told:
            continue
        if look.stapled is None:
            told.add(host)
            yield case.unseen(host, "stapling", "not shown by the handshake")
        elif not look.stapled:
            told.add(host)
            issuer = case.view.issuer(leaf)
            is_must = leaf.must_staple
            yield case.finding(
                Kind.NO_STAPLE, Severity.HIGH if is_must else Severity.LOW, host,
                f"{host_of(host)} staples no OCSP answer" + (", which its certificate demands" if is_must else ""),
                f"Clients that check revocation ask {issuer.name} ({', '.join(leaf.ocsp_urls[:2])}) on every new "
                "connection; when it does not answer, they wait or refuse.",
                "turn OCSP stapling on where TLS ends, or use a certificate without an OCSP address",
                (f"{host_of(host)} at {look.address}: no OCSP response in the handshake",),
                (provider_id(issuer.id), host_id(host)), 10_000 if is_must else 300, "ca",
            )  # fmt: skip


def one_authority_allowed(case: Case) -> Iterator[Finding]:
    """CAA records that let one CA issue only."""
    told = set()
    for host in case.hosts:
        for name in parents_of(host):
            look = case.view.evidence.dns(name, "CAA")
            if look is None or look.status not in (DnsStatus.NOERROR, DnsStatus.NXDOMAIN):
                break
            if not look.values:
                continue
            allowed = issuers_of(look.values)
            parties = {provider for each in allowed for provider in (case.view.table.by_caa(each) or (each,))}
            owners = {_owner(case, party) for party in parties}
            if allowed and len(owners) == 1 and name not in told:
                told.add(name)
                yield case.finding(
                    Kind.CAA_ONE_CA, Severity.MEDIUM, name, f"CAA of {host_of(name)} allows {', '.join(allowed)} only",
                    f"No other CA may issue for {host_of(name)}. When {allowed[0]} stops issuing or must revoke, there "
                    "is no certificate until DNS has been changed and caches have run out.",
                    "add the CAA name of a second CA now, and test an issue with it",
                    tuple(f"{host_of(name)} CAA {value}" for value in look.values[:4]),
                    tuple(provider_id(party) for party in sorted(parties)), 500, "ca",
                )  # fmt: skip
            break


def _owner(case: Case, party: str) -> str:
    return case.view.table.company_of(party) if party in case.view.table.providers else party


def issuers_of(values: tuple[str, ...]) -> tuple[str, ...]:
    """The CAs that CAA values let issue (RFC 8659 §4.2): those of "issue", without parameters; ";" is nobody."""
    found = []
    for value in values:
        flags, _, rest = value.partition(" ")
        tag, _, text = rest.partition(" ")
        issuer = text.strip().strip('"').split(";")[0].strip().lower()
        if flags.isdigit() and tag.lower() == "issue" and issuer:
            found.append(issuer)
    return tuple(dict.fromkeys(found))
