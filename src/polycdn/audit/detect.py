"""Who serves a host, by detectors that do not know of each other, and how sure that makes us. Pure.

Each detector gives `Clue`s with a confidence of its own; `combined` adds those of different methods as
independent ones (1 - product of the doubts) and of one method counts only the best. A provider counts as
detected from `SURE_BP` on; below that it is told as a suspicion and nothing is built on it.
"""
# ruff: noqa: E501

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from polycdn.audit.evidence import HttpLook, NetworkLook, TlsLook
from polycdn.audit.table.provider import Table

FULL_BP: Final = 10_000
SURE_BP: Final = 5_000


class Method(StrEnum):
    """What a clue is read from."""

    CNAME = "cname"
    RANGE = "range"
    NETWORK = "network"
    HEADER = "header"
    CERTIFICATE = "certificate"
    BEHAVIOUR = "behaviour"


CONFIDENCE_BP: Final = {
    Method.CNAME: 9_800,
    Method.RANGE: 9_500,
    Method.NETWORK: 8_000,
    Method.HEADER: 9_000,
    Method.CERTIFICATE: 6_000,
    Method.BEHAVIOUR: 2_000,
}
"""How far one clue is believed. Estimates of ours, after `bench/audit/detection.py`: names and the provider's own
list of prefixes are almost never wrong, a network also carries others, a header is copied by who proxies it on,
a certificate may be the customer's, behaviour only supports."""
SHARED_BP: Final = 6_000
"""The same for prefixes in which others rent addresses."""


@dataclass(frozen=True, slots=True, order=True)
class Clue:
    """One sign that `provider` serves the host: by which method, how sure (basis points), and what was seen."""

    provider: str
    method: Method
    confidence_bp: int
    evidence: str


@dataclass(frozen=True, slots=True)
class Detection:
    """One provider of a host with all clues for it, the surest first."""

    provider: str
    confidence_bp: int
    clues: tuple[Clue, ...]

    @property
    def is_sure(self) -> bool:
        """Whether something may be built on it."""
        return self.confidence_bp >= SURE_BP


@dataclass(frozen=True, slots=True)
class HostMarks:
    """All that was seen of a host: its name and the names its CNAME records lead through, and so on."""

    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    networks: tuple[NetworkLook, ...] = ()
    handshakes: tuple[TlsLook, ...] = ()
    answers: tuple[HttpLook, ...] = ()


def detect(marks: HostMarks, table: Table) -> tuple[Detection, ...]:
    """The providers of a host, the surest first, ties by id."""
    clues = [
        *by_names(marks.names, table),
        *by_addresses(marks.addresses, table),
        *by_networks(marks.networks, table),
        *by_headers(marks.answers, table),
        *by_certificates(marks.handshakes, table),
        *by_behaviour(marks, table),
    ]
    return combined(clues)


def combined(clues: Iterable[Clue]) -> tuple[Detection, ...]:
    """Clues by provider, with the confidence that they give together."""
    found: dict[str, set[Clue]] = {}
    for clue in clues:
        found.setdefault(clue.provider, set()).add(clue)
    detections = [_detection(provider, found[provider]) for provider in sorted(found)]
    return tuple(sorted(detections, key=lambda each: (-each.confidence_bp, each.provider)))


def _detection(provider: str, clues: set[Clue]) -> Detection:
    ordered = sorted(clues, key=lambda clue: (-clue.confidence_bp, clue))
    best: dict[Method, int] = {}
    for clue in ordered:
        best.setdefault(clue.method, clue.confidence_bp)
    doubt_bp = FULL_BP
    for confidence_bp in best.values():
        doubt_bp = doubt_bp * (FULL_BP - confidence_bp) // FULL_BP
    return Detection(provider, min(FULL_BP - doubt_bp, FULL_BP - 1), tuple(ordered))


def by_names(names: Iterable[str], table: Table) -> tuple[Clue, ...]:
    """By how the names of the chain end, on label borders."""
    return tuple(
        Clue(provider, Method.CNAME, CONFIDENCE_BP[Method.CNAME], f"{name} ends in {suffix}")
        for name in names
        for provider, suffix in table.by_cname(name)
    )


def by_addresses(addresses: Iterable[str], table: Table) -> tuple[Clue, ...]:
    """By the providers' own prefixes. Of two CDNs' prefixes around an address only the longer one counts."""
    found = []
    for address in addresses:
        roles: set[str] = set()
        for provider, network in table.by_address(address):
            row = table.providers[provider]
            main = row.roles[0]
            if main in roles:
                continue
            roles.add(main)
            sure_bp = SHARED_BP if row.ranges_are_shared else CONFIDENCE_BP[Method.RANGE]
            found.append(Clue(provider, Method.RANGE, sure_bp, f"{address} is in {network}"))
    return tuple(found)


def by_networks(networks: Iterable[NetworkLook], table: Table) -> tuple[Clue, ...]:
    """By the network that announces the address."""
    return tuple(
        Clue(
            provider,
            Method.NETWORK,
            SHARED_BP if table.providers[provider].ranges_are_shared else CONFIDENCE_BP[Method.NETWORK],
            f"{look.address} is announced by AS{look.asn} {look.organisation}".rstrip(),
        )
        for look in networks
        for provider in table.by_asn(look.asn)
    )


def by_headers(answers: Iterable[HttpLook], table: Table) -> tuple[Clue, ...]:
    """By response headers that only this provider sends."""
    return _by_headers(answers, table, Method.HEADER)


def by_behaviour(marks: HostMarks, table: Table) -> tuple[Clue, ...]:
    """By habits of TLS and HTTP: what is advertised for HTTP/3, who issues the certificates it hands out."""
    found = list(_by_headers(marks.answers, table, Method.BEHAVIOUR))
    for look in marks.handshakes:
        for certificate in look.chain[:1]:
            issuers = table.by_issuer(certificate.issuer_org)
            for provider in sorted(_served_by_issuers(issuers, table)):
                why = f"{look.host} has a certificate of {certificate.issuer_org}"
                found.append(Clue(provider, Method.BEHAVIOUR, CONFIDENCE_BP[Method.BEHAVIOUR], why))
    return tuple(found)


def _served_by_issuers(issuers: tuple[str, ...], table: Table) -> set[str]:
    """Clouds whose own CA issues to their customers only: those of the same company that the CA row names."""
    return {
        use.provider
        for issuer in issuers
        for use in table.providers[issuer].uses
        if use.role == "cloud" and table.company_of(use.provider) == table.company_of(issuer)
    }


def _by_headers(answers: Iterable[HttpLook], table: Table, method: Method) -> tuple[Clue, ...]:
    found = []
    for answer in answers:
        for name, value in answer.headers:
            for provider in table.by_header(name, value, method.value):
                why = f"{answer.url} answers with {name}: {value[:80]}"
                found.append(Clue(provider, method, CONFIDENCE_BP[method], why))
    return tuple(found)


def by_certificates(handshakes: Iterable[TlsLook], table: Table) -> tuple[Clue, ...]:
    """By names of the provider's own in the certificate that it shows."""
    found = []
    for look in handshakes:
        for certificate in look.chain[:1]:
            for name in certificate.names:
                for provider, suffix in table.by_certificate_name(name):
                    why = f"{look.host} shows a certificate for {name}, which ends in {suffix}"
                    found.append(Clue(provider, Method.CERTIFICATE, CONFIDENCE_BP[Method.CERTIFICATE], why))
    return tuple(found)
