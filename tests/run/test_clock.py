"""The clocks: never backwards, a script that every process tells alike, jumps in the right order."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.errors import ConfigError
from polycdn.run.clock import Recorded, Script, Stopwatch, Virtual, Wall, clock_from_spec, step_ns


class SetWall:
    """A wall clock that a test sets by hand."""

    def __init__(self, now_ms: int) -> None:
        self.set_ms = now_ms

    def now_ms(self) -> int:
        return self.set_ms

    async def sleep_until(self, at_ms: int) -> None:
        self.set_ms = max(self.set_ms, at_ms)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(-(10**12), 10**12)), min_size=1))
def test_wall_never_goes_backwards_whatever_the_system_clock_does(steps: list[tuple[int, int]]) -> None:
    told_ns, wall_ns = 10**13, 10**13
    for passed_ns, jump_ns in steps:
        wall_ns += passed_ns + jump_ns
        before_ns, told_ns = told_ns, step_ns(told_ns, passed_ns, wall_ns)
        assert told_ns >= before_ns + passed_ns // 2 or told_ns == max(wall_ns, before_ns)


def test_wall_set_back_runs_on_at_half_speed_until_the_system_has_caught_up() -> None:
    second_ns = 10**9
    told_ns, wall_ns = 100 * second_ns, 90 * second_ns
    for _ in range(20):
        wall_ns += second_ns
        told_ns = step_ns(told_ns, second_ns, wall_ns)
    assert told_ns == wall_ns == 110 * second_ns


def test_wall_waits_until_the_moment_has_come() -> None:
    wall = Wall()
    at_ms = wall.now_ms() + 20
    asyncio.run(wall.sleep_until(at_ms))
    assert wall.now_ms() >= at_ms


def test_script_tells_timeline_ms_at_its_speed() -> None:
    wall = SetWall(1_000)
    script = Script(start_ms=500_000, wall_zero_ms=1_000, speed=90, wall=wall)
    assert script.now_ms() == 500_000
    wall.set_ms = 1_002
    assert script.now_ms() == 500_180


@given(st.integers(-(10**9), 10**12), st.integers(1, 1_000))
def test_script_sleeps_to_the_first_wall_millisecond_that_is_late_enough(at_ms: int, speed: int) -> None:
    wall = SetWall(-(10**10))
    script = Script(start_ms=7, wall_zero_ms=3, speed=speed, wall=wall)
    asyncio.run(script.sleep_until(at_ms))
    assert at_ms <= script.now_ms() < at_ms + speed


def test_recorded_tells_the_stamp_and_keeps_the_newest() -> None:
    clock = Recorded()
    asyncio.run(clock.sleep_until(50))
    asyncio.run(clock.sleep_until(40))
    assert clock.now_ms() == 50


def test_virtual_sleepers_wake_in_the_order_of_their_moments() -> None:
    clock, woken = Virtual(), []

    async def sleeper(name: str, every_ms: int) -> None:
        for turn in range(1, 4):
            await clock.sleep_until(turn * every_ms)
            woken.append((clock.now_ms(), name))

    async def both() -> None:
        await asyncio.gather(sleeper("slow", 300), sleeper("fast", 100))

    asyncio.run(both())
    assert woken == [(100, "fast"), (200, "fast"), (300, "slow"), (300, "fast"), (600, "slow"), (900, "slow")]


def test_virtual_sleeper_that_is_cancelled_does_not_stop_the_others() -> None:
    clock = Virtual()

    async def story() -> int:
        early = asyncio.create_task(clock.sleep_until(10))
        late = asyncio.create_task(clock.sleep_until(20))
        early.cancel()
        await late
        return clock.now_ms()

    assert asyncio.run(story()) == 20


def test_stopwatch_never_shows_less() -> None:
    watch = Stopwatch()
    first_ms = watch.elapsed_ms()
    assert 0 <= first_ms <= watch.elapsed_ms()


def test_spec_makes_the_same_clock_again() -> None:
    assert clock_from_spec("wall").spec == "wall"
    assert clock_from_spec("script:-5,1700000000000,90").spec == "script:-5,1700000000000,90"


@pytest.mark.parametrize(
    "spec", ["", "Wall", "script:", "script:1,2", "script:1,2,0", "script:1,2,x", "x:1,2,3"]
)
def test_wrong_spec_is_the_operators_mistake(spec: str) -> None:
    with pytest.raises(ConfigError, match="--clock"):
        clock_from_spec(spec)
