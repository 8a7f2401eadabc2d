"""Which looks are due. Pure: the time comes in, nobody waits here.

Look k at a target is due at `start_ms + k * interval_ms + phase`, the phase a hash of (seed, target), so that
vantages and targets spread over the interval and every run of the same seed looks at the same moments.
"""

from dataclasses import dataclass
from typing import Final

from polycdn.model.chance import MILLION_PPM, chance_ppm

LAGS_KEPT: Final = 1_024


@dataclass(frozen=True, slots=True)
class Due:
    """Look number `sequence` at a target, due at `at_ms`. `skipped` looks before it were never made."""

    target: str
    sequence: int
    at_ms: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When one target is looked at."""

    target: str
    start_ms: int
    interval_ms: int
    seed: int = 0

    @property
    def first_ms(self) -> int:
        """When look 0 is due."""
        return self.start_ms + self.interval_ms * chance_ppm(self.seed, "phase", self.target) // MILLION_PPM

    def due_ms(self, sequence: int) -> int:
        """When look `sequence` is due."""
        return self.first_ms + sequence * self.interval_ms

    def newest(self, now_ms: int) -> int:
        """The newest look that is due at `now_ms`; -1 before the first."""
        return max(-1, (now_ms - self.first_ms) // self.interval_ms)


class Schedule:
    """Hands out each look at most once. After a pause only the newest look is due: never a burst.

    At most `looks_per_s` looks are handed out in any second of the clock; what has to wait for the next
    second goes first in it. Looks due before `now_ms`, when the schedule was made, belong to somebody else.
    """

    def __init__(self, rhythms: tuple[Rhythm, ...], now_ms: int, looks_per_s: int = 1_000) -> None:
        assert rhythms, "a schedule without targets has nothing to wait for"
        assert looks_per_s >= 1, "a schedule without looks sees nothing"
        self._rhythms = rhythms
        self._next = {rhythm.target: rhythm.newest(now_ms) + 1 for rhythm in rhythms}
        self._budget = Budget(looks_per_s)
        self.skipped = 0

    def take(self, now_ms: int) -> tuple[Due, ...]:
        """The looks to start now; the target that has waited longest goes first."""
        waiting = [found for rhythm in self._rhythms if (found := self._due(rhythm, now_ms))]
        waiting.sort(key=lambda found: (found[0], found[1].target))
        granted = self._budget.take(len(waiting), now_ms)
        taken = tuple(due for _since_ms, due in waiting[:granted])
        for due in taken:
            self._next[due.target] = due.sequence + 1
            self.skipped += due.skipped
        return taken

    def _due(self, rhythm: Rhythm, now_ms: int) -> tuple[int, Due] | None:
        """Since when the target waits, and its newest look."""
        newest, expected = rhythm.newest(now_ms), self._next[rhythm.target]
        if newest < expected:
            return None
        due = Due(rhythm.target, newest, rhythm.due_ms(newest), skipped=newest - expected)
        return rhythm.due_ms(expected), due

    def next_ms(self, now_ms: int) -> int:
        """When to come back: the next due look, or the next second if this one's budget is spent."""
        due_ms = min(rhythm.due_ms(self._next[rhythm.target]) for rhythm in self._rhythms)
        return due_ms if due_ms > now_ms else self._budget.renewed_ms(now_ms)


class Budget:
    """At most `per_s` in each second of the clock."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._second = -1
        self._left = per_s

    def take(self, wanted: int, now_ms: int) -> int:
        """How many of `wanted` may be done now."""
        if now_ms // 1_000 != self._second:
            self._second, self._left = now_ms // 1_000, self._per_s
        granted = min(wanted, self._left)
        self._left -= granted
        return granted

    def renewed_ms(self, now_ms: int) -> int:
        """When the next second begins; `now_ms` while something is left of this one."""
        is_spent = now_ms // 1_000 == self._second and self._left == 0
        return (now_ms // 1_000 + 1) * 1_000 if is_spent else now_ms


class Lags:
    """How late the last looks started, in milliseconds of the clock."""

    def __init__(self) -> None:
        self._lags_ms: list[int] = []

    def add(self, lag_ms: int) -> None:
        """Counts one look; only the newest `LAGS_KEPT` are remembered."""
        self._lags_ms.append(max(0, lag_ms))
        del self._lags_ms[:-LAGS_KEPT]

    def p99_ms(self) -> int:
        """The lag that 99 of 100 looks stay within (nearest rank); 0 without looks."""
        if not self._lags_ms:
            return 0
        ranked = sorted(self._lags_ms)
        return ranked[-(-len(ranked) * 99 // 100) - 1]
