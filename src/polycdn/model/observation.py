"""What was seen from outside, once, by one vantage."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a look failed; OK when it did not. One word list for probes, engines, clients and the lab."""

    OK = "ok"
    SLOW = "slow"
    REFUSED = "refused"
    RESET = "reset"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    CERT_EXPIRED = "cert_expired"
    PROTOCOL = "protocol"
    EMPTY = "empty"
    HTTP_5XX = "http_5xx"
    STATUS = "status"
    CONTENT = "content"
    CORRUPT = "corrupt"
    TRUNCATED = "truncated"
    STALLED = "stalled"
    DNS_SERVFAIL = "dns_servfail"
    DNS_EMPTY = "dns_empty"
    DNS_TIMEOUT = "dns_timeout"
    PARITY = "parity"
    BLIND = "blind"
    """The vantage itself could not look (its own network or budget): says nothing about the provider."""


class Source(StrEnum):
    PROBE = "probe"
    ENGINE = "engine"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Observation:
    """`attempts` looks of which `failures` failed for `reason`; a probe is one look.

    `provider` is a provider's name or `units.ORIGIN`. `at_ms` is stamped where it was seen, and is data.
    `first_byte_ms` is that of the slowest good look, 0 if unknown. `fingerprint` names the body seen
    (hex SHA-256 prefix), so that the same object through two providers can be compared; "" if unknown.
    """

    at_ms: int
    provider: str
    region: str
    vantage: str
    reason: Reason = Reason.OK
    attempts: int = 1
    failures: int = 0
    first_byte_ms: int = 0
    source: Source = Source.PROBE
    path: str = "/"
    fingerprint: str = ""
