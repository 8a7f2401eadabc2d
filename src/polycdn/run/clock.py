"""The four clocks. The only Python file that reads a real clock.

| clock | its time | `sleep_until` |
|---|---|---|
| Wall | UTC, never backwards | really waits |
| Script | a timeline: `start_ms + (wall - wall_zero_ms) * speed` | waits the real time, divided by speed |
| Recorded | the stamp of the record that is being replayed | moves to that stamp |
| Virtual | a number | jumps; of several sleepers the soonest first |
"""

import asyncio
import heapq
import time
from typing import Final

from polycdn.errors import ConfigError, Fault
from polycdn.model.units import Clock

NS_PER_MS: Final = 1_000_000
WAIT_MS_MAX: Final = 3_600_000
"""Longest single wait; a longer sleep is several, so that a step of the system's clock is noticed."""


class Wall:
    """UTC in milliseconds; never goes backwards and never stands still.

    When the system's clock is set back, this one runs at half speed until the two agree again.
    """

    def __init__(self) -> None:
        self._told_ns = time.time_ns()
        self._monotonic_ns = time.monotonic_ns()

    @property
    def spec(self) -> str:
        """What `clock_from_spec` makes the same clock from, in another process."""
        return "wall"

    def now_ms(self) -> int:
        """Milliseconds UTC; never smaller than the answer before."""
        monotonic_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        self._told_ns = step_ns(self._told_ns, monotonic_ns - self._monotonic_ns, wall_ns)
        self._monotonic_ns = monotonic_ns
        return self._told_ns // NS_PER_MS

    def at_wall(self, wall_ms: int) -> int:
        """The same moment: this clock is the wall's."""
        return wall_ms

    async def sleep_until(self, at_ms: int) -> None:
        """Returns once `now_ms() >= at_ms`."""
        while (wait_ms := at_ms - self.now_ms()) > 0:
            await asyncio.sleep(min(wait_ms, WAIT_MS_MAX) / 1000)


def step_ns(told_ns: int, passed_ns: int, wall_ns: int) -> int:
    """The next time to tell, when `passed_ns` went by since `told_ns` and the system says `wall_ns`."""
    if wall_ns >= told_ns + passed_ns // 2:
        return max(wall_ns, told_ns)
    return told_ns + passed_ns // 2


class Script:
    """A timeline, told in wall time: `start_ms` at the wall's `wall_zero_ms`, then `speed` times as fast.

    Processes that are given the same three numbers tell the same time.
    """

    def __init__(self, start_ms: int, wall_zero_ms: int, speed: int, wall: Clock | None = None) -> None:
        assert speed >= 1, "a timeline runs at least as fast as the wall"
        self.start_ms = start_ms
        self.wall_zero_ms = wall_zero_ms
        self.speed = speed
        self._wall: Clock = wall or Wall()

    @property
    def spec(self) -> str:
        """What `clock_from_spec` makes the same clock from, in another process."""
        return f"script:{self.start_ms},{self.wall_zero_ms},{self.speed}"

    def now_ms(self) -> int:
        """Milliseconds of the timeline; before its zero it runs too."""
        return self.at_wall(self._wall.now_ms())

    def at_wall(self, wall_ms: int) -> int:
        """The timeline's moment at a moment of the wall, for what a process stamped with the latter."""
        return self.start_ms + (wall_ms - self.wall_zero_ms) * self.speed

    def wall_ms(self, at_ms: int) -> int:
        """The first wall millisecond at which the timeline is at `at_ms` or later."""
        return self.wall_zero_ms - (self.start_ms - at_ms) // self.speed

    async def sleep_until(self, at_ms: int) -> None:
        """Returns once `now_ms() >= at_ms`, both on the timeline."""
        await self._wall.sleep_until(self.wall_ms(at_ms))


class Recorded:
    """The stamps of a journal: tells the newest one that `sleep_until` was given."""

    def __init__(self, start_ms: int = 0) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """The stamp of the record that is being replayed."""
        return self._now_ms

    async def sleep_until(self, at_ms: int) -> None:
        """Moves to `at_ms` without waiting; an older stamp does not take the clock back."""
        self._now_ms = max(self._now_ms, at_ms)


class Virtual:
    """Jumps to the next due moment. Sleepers wake in the order of their moments, ties as they came."""

    def __init__(self, start_ms: int = 0) -> None:
        self._now_ms = start_ms
        self._dues: list[tuple[int, int]] = []
        self._tickets = 0

    def now_ms(self) -> int:
        """The moment of the last sleeper that woke."""
        return self._now_ms

    async def sleep_until(self, at_ms: int) -> None:
        """Returns when no other sleeper is due sooner; gives every runnable task a turn first."""
        self._tickets += 1
        due = (at_ms, self._tickets)
        heapq.heappush(self._dues, due)
        try:
            await asyncio.sleep(0)
            while self._dues[0] != due:
                await asyncio.sleep(0)
            self._now_ms = max(self._now_ms, at_ms)
        finally:
            self._dues.remove(due)
            heapq.heapify(self._dues)


class Stopwatch:
    """Real time since it was made, for figures such as `wall_ms`; never an input of a decision."""

    def __init__(self) -> None:
        self._start_ns = time.monotonic_ns()

    def elapsed_ms(self) -> int:
        """Whole milliseconds since it was made, on the monotonic clock."""
        return (time.monotonic_ns() - self._start_ns) // NS_PER_MS


def clock_from_spec(spec: str) -> Wall | Script:
    """The clock that a command line names: `wall`, or `script:START_MS,ZERO_MS,SPEED`. Raises ConfigError."""
    if spec == "wall":
        return Wall()
    kind, _, rest = spec.partition(":")
    numbers = rest.split(",")
    is_whole = len(numbers) == 3 and all(number.removeprefix("-").isdecimal() for number in numbers)
    if kind != "script" or not is_whole or int(numbers[2]) < 1:
        raise ConfigError(
            (
                Fault(
                    place="--clock",
                    found=repr(spec),
                    allowed="wall, or script:START_MS,ZERO_MS,SPEED with SPEED of 1 or more",
                    remedy="use --clock wall",
                ),
            )
        )
    start_ms, zero_ms, speed = map(int, numbers)
    return Script(start_ms, zero_ms, speed)
