"""What a vantage posts each round: its observations by service, and how well it kept its own schedule."""

from dataclasses import dataclass
from typing import Final

from polycdn.model.observation import Observation

REPORT_FORMAT: Final = "polycdn/vantage-report/1"


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """Looks at one service that ended since the report before, in the order in which they ended."""

    service: str
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class VantageReport:
    """One round of one vantage; its bytes are `wire.canonical` of it, signed as in `sign.py`.

    `sequence` counts reports from 1. `lag_ms_p99` is how late looks start, `interval_ms` the shortest
    interval: a run whose lag exceeds it is invalid. `skipped` looks and `dropped` reports are totals since
    the start.
    """

    vantage: str
    at_ms: int
    sequence: int
    services: tuple[ServiceReport, ...] = ()
    lag_ms_p99: int = 0
    interval_ms: int = 1_000
    skipped: int = 0
    dropped: int = 0
    format: str = REPORT_FORMAT

    @property
    def is_valid(self) -> bool:
        """Whether the looks were made when they should have been."""
        return self.lag_ms_p99 <= self.interval_ms
