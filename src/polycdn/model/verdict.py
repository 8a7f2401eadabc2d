"""What is thought of a provider in a region, and whose fault a failure is."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """DEGRADED: doubt, or slow; not enough to leave. UNKNOWN: no fresh evidence; no reason to move."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"


class Blame(StrEnum):
    """Whose fault a failure is."""

    NOBODY = "nobody"
    PROVIDER = "provider"
    ORIGIN = "origin"
    VANTAGE = "vantage"
    DNS = "dns"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One provider in one region.

    `since_ms` is when `status` began. `alarm_bp` says how far the evidence is on its way to an alarm
    (10 000 = alarm); `left_out` names the vantages whose word was not needed or not believed, `minority`
    those that alone say DOWN. `latency_ms` is the smoothed first-byte time, 0 if unknown.
    `earliest_change_ms` is the soonest this verdict can differ.
    """

    provider: str
    region: str
    status: Status
    since_ms: int
    alarm_bp: int = 0
    blame: Blame = Blame.NOBODY
    latency_ms: int = 0
    left_out: tuple[str, ...] = ()
    minority: tuple[str, ...] = ()
    earliest_change_ms: int = 0
    why: str = ""
