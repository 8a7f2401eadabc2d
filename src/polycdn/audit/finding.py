"""What a finding is: a weakness, how bad, what it was seen by, what it resembles, and what to do. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How bad, the worst first. UNKNOWN is neither good nor bad: it could not be seen."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """4 for CRITICAL down to 0 for UNKNOWN."""
        return RANKS[self]

    def is_at_least(self, other: "Severity") -> bool:
        """Whether this is as bad as the other."""
        return self.rank >= other.rank


RANKS: Final = {
    Severity.CRITICAL: 4,
    Severity.HIGH: 3,
    Severity.MEDIUM: 2,
    Severity.LOW: 1,
    Severity.UNKNOWN: 0,
}


class Kind(StrEnum):
    """What was found; docs/audit.md has a section on each."""

    ONE_DNS = "one-dns-operator"
    ONE_CDN = "one-carrier"
    SHARED_DNS = "shared-dns"
    SHARED_CA = "shared-ca"
    SHARED_CLOUD = "shared-cloud"
    SHARED_NETWORK = "shared-network"
    SHARED_COMPANY = "shared-company"
    SHARED_CARRIER = "shared-carrier"
    SAME_CA = "same-ca-account"
    CAA_ONE_CA = "caa-one-ca"
    TTL_LONG = "ttl-too-long"
    NS_TTL_LONG = "ns-ttl-too-long"
    APEX_FIXED = "apex-cannot-move"
    CONSOLE = "console-behind-provider"
    CERT_ENDS = "certificate-ends"
    CERT_BAD = "certificate-not-trusted"
    NO_STAPLE = "no-stapling"
    BLOCKING = "third-party-blocks"
    PRIVATE_ORIGIN = "private-origin"
    HIDDEN = "hidden-dependency"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One weakness of a service.

    `subject` is the host or the pair that it is about; `nodes` are the graph's ids that it names, the shared
    ones first; `affected_bp` is the share of the service's requests that are lost while it strikes;
    `user_minutes` is the estimate of what the remedy saves in a year (cost.py), 0 = not estimated;
    `incident` is the id of an outage of the past that it resembles, "" = none.
    """

    kind: Kind
    severity: Severity
    service: str
    subject: str
    title: str
    what: str
    remedy: str
    evidence: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    affected_bp: int = 10_000
    role: str = ""
    incident: str = ""
    user_minutes: int = 0
    minutes_basis: str = field(default="", compare=False)

    @property
    def order(self) -> tuple[object, ...]:
        """Most user-minutes first, then the worst; the unknown last; ties by name."""
        is_unknown = self.severity is Severity.UNKNOWN
        return (is_unknown, -self.user_minutes, -self.severity.rank, self.service, self.kind, self.subject)
