"""Users who follow a DNS answer, as expected values: how many of them still use the provider that fails.

Not one user is drawn: a cohort of 10^8 parts is spread over the seconds in which its answers expire, so a
million users cost what a thousand do. Lookups are even in time.
"""

from typing import Final

from polycdn.model.units import FULL_BP
from polycdn.world.population import Habit

PARTS: Final = 100_000_000
"""Parts of one population; shares of users are told in these."""


class Cohort:
    """Those who steer by one plan. `sick_parts` of `PARTS` use the failing provider now."""

    def __init__(self, habits: tuple[Habit, ...], sick_bp: int, ttl_s: int) -> None:
        self._rings = [Ring(habit, sick_bp, ttl_s) for habit in habits]
        self._answer = (sick_bp, ttl_s)
        self._now_s = 0
        self._settled_s = 0
        self.sick_parts = sum(ring.sick_parts for ring in self._rings)

    @property
    def is_settled(self) -> bool:
        """Whether everybody has the answer that is given out now, so that nothing changes by itself."""
        return self._now_s >= self._settled_s

    def tell(self, now_s: int, sick_bp: int, ttl_s: int) -> None:
        """From now on answers give `sick_bp` to the failing provider, to be kept for `ttl_s`."""
        if (sick_bp, ttl_s) == self._answer:
            return
        if self.is_settled:
            for ring in self._rings:
                ring.spread(now_s, *self._answer)
        # The longest that an answer given out until now may be kept; what is given from now on is all alike.
        hold_s = max(ring.habit.hold_s(self._answer[1]) for ring in self._rings)
        self._settled_s = max(self._settled_s, now_s + hold_s)
        self._answer, self._now_s = (sick_bp, ttl_s), now_s

    def pass_second(self) -> None:
        """One second goes by: those whose answer expires in it look the name up again."""
        for ring in self._rings:
            ring.pass_second(self._now_s, *self._answer)
        self.sick_parts = sum(ring.sick_parts for ring in self._rings)
        self._now_s += 1

    def pass_calm(self, now_s: int) -> None:
        """Time goes by until `now_s` while settled."""
        assert self.is_settled, "answers are still expiring; each second matters"
        self._now_s = max(self._now_s, now_s)


class Ring:
    """One habit's users, by the second in which their answer expires."""

    def __init__(self, habit: Habit, sick_bp: int, ttl_s: int) -> None:
        self.habit = habit
        self.sick_parts = 0
        self._slots: dict[int, list[int]] = {}
        self.spread(0, sick_bp, ttl_s)

    def spread(self, now_s: int, sick_bp: int, ttl_s: int) -> None:
        """Everybody has the same answer, looked up at moments spread evenly."""
        hold_s = self.habit.hold_s(ttl_s)
        each, rest = divmod(self.habit.parts, hold_s)
        self._slots = {}
        for index in range(hold_s):
            parts = each + (index < rest)
            self._slots[now_s + index] = [parts, parts * sick_bp // FULL_BP]
        self.sick_parts = sum(slot[1] for slot in self._slots.values())

    def pass_second(self, now_s: int, sick_bp: int, ttl_s: int) -> None:
        """The answers that expire in the second `now_s` are looked up again in it."""
        slot = self._slots.pop(now_s, None)
        if slot is None:
            return
        parts, was_sick = slot
        is_sick = parts * sick_bp // FULL_BP
        self.sick_parts += is_sick - was_sick
        later = self._slots.setdefault(now_s + self.habit.hold_s(ttl_s), [0, 0])
        later[0] += parts
        later[1] += is_sick
