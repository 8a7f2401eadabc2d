"""Who gets which share, in which order, with which TTL, and why."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Note:
    """One line of a report. A plan with an ERROR note is not published."""

    severity: Severity
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """Shares of one region (basis points, summing to 10 000, largest order first) and the order of attempts.

    `order` names every provider that may be tried, the best first; it contains all of `shares` and more.
    `ttl_s` is how long an answer for this region may be kept.
    """

    region: str
    shares: tuple[tuple[str, int], ...]
    order: tuple[str, ...]
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What surfaces carry out. `parent` is the generation that it was made from (0 = none)."""

    service: str
    generation: int
    parent: int
    made_ms: int
    regions: tuple[RegionPlan, ...]
    notes: tuple[Note, ...] = ()
