"""The rules that people use now, to compare with: so many failures in a row, counters, an average over a
window.

Pure, one look at a time; nothing here decides anything for a service.
"""

from dataclasses import dataclass
from typing import Final

from polycdn.model.units import FULL_BP


@dataclass(frozen=True, slots=True)
class Tally:
    """Where a counting rule is: DOWN or not, and what it has counted since."""

    is_down: bool = False
    failures: int = 0
    successes: int = 0


@dataclass(frozen=True, slots=True)
class Threshold:
    """DOWN after `fall` failures, UP again after `rise` good looks in a row.

    `forgive` good looks in a row forget the failures counted so far: 1 means that failures must be in a row.
    """

    fall: int
    rise: int
    forgive: int = 1

    def after(self, tally: Tally, is_good: bool) -> Tally:
        """The tally after one more look."""
        if tally.is_down:
            successes = tally.successes + 1 if is_good else 0
            return Tally() if successes >= self.rise else Tally(True, 0, successes)
        if not is_good:
            failures = tally.failures + 1
            return Tally(True) if failures >= self.fall else Tally(False, failures, 0)
        if not tally.failures:
            return tally
        successes = tally.successes + 1
        return Tally() if successes >= self.forgive else Tally(False, tally.failures, successes)


@dataclass(frozen=True, slots=True)
class Window:
    """Where an averaging rule is: DOWN or not, and the newest looks, the oldest first."""

    is_down: bool = False
    looks: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Average:
    """DOWN while fewer than `good_bp` of the last `looks` looks were good; judged once that many are
    there."""

    looks: int
    good_bp: int

    def after(self, window: Window, is_good: bool) -> Window:
        """The window after one more look."""
        looks = (*window.looks, is_good)[-self.looks :]
        if len(looks) < self.looks:
            return Window(window.is_down, looks)
        return Window(sum(looks) * FULL_BP < self.good_bp * self.looks, looks)


THREE_IN_A_ROW: Final = Threshold(3, 3)
"""The usual health check of a DNS failover: every 10 s."""

GDNSD: Final = Threshold(10, 20, forgive=10)
"""gdnsd's defaults: down_thresh 10, up_thresh 20, ok_thresh 10, every 10 s (gdnsd 3, src/plugins/mon.c)."""

POWERGSLB: Final = Threshold(3, 5)
"""PowerGSLB's usual fall 3 and rise 5."""

FIVE_ERRORS: Final = Threshold(5, 1)
"""Five 5xx in a row, back with the first good answer: outlier ejection as proxies do it."""

FIVE_MINUTES_MS: Final = 300_000


def five_minute_average(interval_ms: int) -> Average:
    """Down while less than 90 % of the last five minutes' looks were good."""
    return Average(max(1, FIVE_MINUTES_MS // interval_ms), 9_000)
