"""The one loop: journal before surfaces, services apart; decisions outlive what fails around them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from polycdn.errors import JournalError, SurfaceError
from polycdn.journal.memory import MemoryJournal, digests
from polycdn.journal.record import Entry, Failed, Published, Refused, Snapshot
from polycdn.model.event import Event, Observed, Quiet
from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.settings import Settings, Upstream
from polycdn.model.state import Decision, Report, State
from polycdn.model.topology import Endpoint, ProviderKind
from polycdn.run.clock import Virtual
from polycdn.run.loop import SNAPSHOT_STEPS, UNWRITTEN_MAX, Addressed, Loop
from polycdn.run.publish import Outlet, Publisher
from polycdn.surface.base import Create, Order, want
from polycdn.surface.memory import MemorySurface

UPSTREAM = Upstream("a", ProviderKind.CDN, Endpoint("a.example"))
REGION = RegionPlan("anywhere", (("a", 10_000),), ("a",), 60)


def settings(service: str = "www") -> dict[str, Settings]:
    return {service: Settings(service, (f"{service}.example.org",), (UPSTREAM,))}


def step(state: State, event: Event, now_ms: int) -> Decision:
    """A plan at every `Quiet`, none at an `Observed`; good two generations later; `Quiet(rounds=0)` fails."""
    if isinstance(event, Observed):
        return Decision(replace(state, now_ms=now_ms), None, Report(now_ms))
    assert isinstance(event, Quiet)
    if event.rounds == 0:
        raise ZeroDivisionError("no rounds")
    generation = state.generation + 1
    plan = Plan("www" if event.rounds < 100 else "api", generation, state.generation, now_ms, (REGION,))
    report = Report(now_ms, good_generation=max(0, generation - 2))
    return Decision(replace(state, generation=generation, plan=plan, now_ms=now_ms), plan, report)


class Story:
    """A source of rounds, one every second of the clock; and everything around a loop."""

    def __init__(self, rounds: Sequence[Sequence[tuple[str, Event]]], **parts: object) -> None:
        self.clock = Virtual()
        self.journal = parts.get("journal") or MemoryJournal()
        self.surface = parts.get("surface") or MemorySurface()
        self.outlet = Outlet(self.surface, parts.get("settings") or settings(), self.clock)
        self.publisher = Publisher((self.outlet,), wait_ms=200)
        self.loop = Loop(self, self.clock, self.journal, self.publisher, parts.get("step") or step)
        self.rounds = [[Addressed(service, event) for service, event in batch] for batch in rounds]

    async def next_round(self) -> Sequence[Addressed] | None:
        await self.clock.sleep_until(self.clock.now_ms() + 1_000)
        return self.rounds.pop(0) if self.rounds else None

    def run(self) -> "Story":
        asyncio.run(self.loop.run())
        return self

    def bodies(self, kind: type) -> list:
        return [entry.body for entry in self.journal.entries if isinstance(entry.body, kind)]


QUIET = ("www", Quiet(0, 1))
TICK = ("www", Observed(0, ()))


def test_round_is_journalled_before_any_surface_is_touched() -> None:
    happened = []

    class Journal(MemoryJournal):
        def append(self, entries: Sequence[Entry]) -> None:
            happened.append("journal")
            super().append(entries)

    class Surface(MemorySurface):
        async def apply(self, order: Order) -> None:
            happened.append("surface")
            await super().apply(order)

    Story([[QUIET], [QUIET]], journal=Journal(), surface=Surface()).run()
    assert happened == ["journal", "surface", "journal", "surface"]


def test_published_plans_and_good_ones_are_journalled_in_the_next_round() -> None:
    story = Story([[QUIET], [QUIET], [QUIET], [TICK], [TICK]]).run()
    assert [body.generation for body in story.bodies(Published) if not body.is_good] == [1, 2, 3]
    assert story.surface.plans["www"].generation == 3


def test_good_word_reaches_the_surface_once_that_generation_is_in_force() -> None:
    def good_at_once(state: State, event: Event, now_ms: int) -> Decision:
        decision = step(state, event, now_ms)
        return replace(decision, report=replace(decision.report, good_generation=decision.state.generation))

    story = Story([[QUIET], [TICK], [TICK]], step=good_at_once).run()
    assert story.surface.good == {"www": 1}
    assert [body.is_good for body in story.bodies(Published)] == [False, True]


def test_decision_that_fails_is_journalled_and_changes_nothing() -> None:
    story = Story([[QUIET], [("www", Quiet(0, 0))], [QUIET], [TICK]]).run()
    assert story.bodies(Failed) == [Failed("ZeroDivisionError: no rounds")]
    assert story.surface.plans["www"].generation == 2
    assert story.loop.failures == {}


def test_service_whose_decisions_fail_does_not_stop_another() -> None:
    story = Story([[("api", Quiet(0, 0)), QUIET], [("api", Quiet(0, 0)), QUIET]]).run()
    assert story.loop.states["www"].generation == 2
    assert story.loop.failures == {"api": "ZeroDivisionError: no rounds"}


class FailingJournal(MemoryJournal):
    """Takes nothing while `is_full`."""

    is_full = False

    def append(self, entries: Sequence[Entry]) -> None:
        if self.is_full:
            raise JournalError("journal: No space left on device")
        super().append(entries)


def test_nothing_is_published_that_is_not_journalled_and_all_is_when_space_returns() -> None:
    journal = FailingJournal()
    story = Story([[QUIET]], journal=journal).run()
    journal.is_full = True
    story.rounds = [[Addressed(*QUIET)], [Addressed(*QUIET)]]
    story.run()
    assert story.surface.plans["www"].generation == 1
    assert "No space left" in story.loop.journal_error
    journal.is_full = False
    story.rounds = [[Addressed(*TICK)]]
    story.run()
    assert story.surface.plans["www"].generation == 3
    assert story.loop.journal_error == ""
    assert len(digests(journal.entries)) == 4
    assert [entry.body.generation for entry in journal.entries if isinstance(entry.body, Published)] == [1]


def test_journal_that_stays_full_does_not_fill_the_memory() -> None:
    journal = FailingJournal()
    journal.is_full = True
    story = Story([[TICK] * 500 for _ in range(12)], journal=journal).run()
    assert story.loop.left_out > 0
    assert len(story.loop._unwritten) <= UNWRITTEN_MAX + 1_000


class Deaf(MemorySurface):
    """Answers nothing until `is_back`."""

    is_back = False

    async def apply(self, order: Order) -> None:
        if not self.is_back:
            raise SurfaceError("nobody answers", is_retryable=True)
        await super().apply(order)


def test_surface_that_is_away_is_tried_again_with_pauses_and_told_of_once() -> None:
    story = Story([[QUIET], *([TICK] for _ in range(20))], surface=Deaf()).run()
    assert [body.why for body in story.bodies(Refused)] == ["nobody answers"]
    story.surface.is_back = True
    story.rounds = [[Addressed(*TICK)] for _ in range(10)]
    story.run()
    assert story.surface.plans["www"].generation == 1


def test_surface_that_hangs_does_not_hold_up_the_rounds() -> None:
    class Hanging(MemorySurface):
        async def apply(self, order: Order) -> None:
            await asyncio.sleep(3_600)

    async def story() -> int:
        told = Story([[QUIET], *([QUIET] for _ in range(20))], surface=Hanging())
        async with asyncio.timeout(60):
            await told.loop.run()
        await told.publisher.close()
        return told.loop.rounds

    assert asyncio.run(story()) == 21


def test_service_that_a_surface_refuses_does_not_keep_another_from_it() -> None:
    class Picky(MemorySurface):
        async def apply(self, order: Order) -> None:
            if order.wanted.service == "api":
                raise SurfaceError("hostname taken", is_retryable=True)
            await super().apply(order)

    story = Story(
        [[("api", Quiet(0, 100)), QUIET], [TICK]], surface=Picky(), settings=settings("api") | settings("www")
    ).run()
    assert story.surface.plans["www"].generation == 1


def test_refusal_for_good_waits_for_the_next_plan() -> None:
    tried = []

    class Refusing(MemorySurface):
        async def apply(self, order: Order) -> None:
            tried.append(order.wanted.generation)
            if order.wanted.generation == 1:
                raise SurfaceError("not this one", is_retryable=False)
            await super().apply(order)

    story = Story([[QUIET], [TICK], [TICK], [QUIET], [TICK]], surface=Refusing()).run()
    assert tried == [1, 2]
    assert story.surface.plans["www"].generation == 2


def test_snapshot_follows_every_few_hundred_decisions() -> None:
    story = Story([[TICK] for _ in range(2 * SNAPSHOT_STEPS + 5)]).run()
    assert len(story.bodies(Snapshot)) == 2


def test_full_segment_is_followed_by_one_that_begins_with_snapshots() -> None:
    class Rotating(MemoryJournal):
        is_segment_full = True

        def rotate(self, first_entries: Sequence[Entry]) -> None:
            self.first_entries = first_entries
            type(self).is_segment_full = False

    story = Story([[QUIET, ("api", Quiet(0, 1))]], journal=Rotating()).run()
    first = story.journal.first_entries
    assert [(entry.service, type(entry.body)) for entry in first] == [("api", Snapshot), ("www", Snapshot)]


def test_time_of_decisions_never_goes_back_behind_the_resumed_state() -> None:
    seen: list[int] = []

    def noting(state: State, event: Event, now_ms: int) -> Decision:
        seen.append(now_ms)
        return step(state, event, now_ms)

    story = Story([[TICK], [TICK]])
    story.loop = Loop(
        story, story.clock, story.journal, story.publisher, noting, {"www": State(now_ms=9_000_000)}
    )
    story.run()
    assert seen == [9_000_000, 9_000_000]


@pytest.mark.parametrize("is_full", [False, True])
def test_operator_is_told_whether_the_order_is_in_the_journal(is_full: bool) -> None:
    async def story() -> Callable[[], None]:
        journal = FailingJournal()
        journal.is_full = is_full
        told = Story([], journal=journal)
        written = asyncio.get_running_loop().create_future()
        await told.loop.turn([Addressed("www", Quiet(0, 1), written)], 5)
        return written.result

    result = asyncio.run(story())
    if is_full:
        with pytest.raises(JournalError, match="No space left"):
            result()
    else:
        result()


def test_service_that_is_carried_no_more_is_taken_off_a_surface_that_was_away() -> None:
    async def story() -> list[str]:
        surface, clock = MemorySurface(), Virtual()
        for service in ("www", "api"):
            plan = Plan(service, 1, 0, 1, (REGION,))
            await surface.apply(Create(want(plan, settings(service)[service])))
        outlet = Outlet(surface, settings("www"), clock, reread_ms=1_000)
        await clock.sleep_until(2_000)
        await Publisher((outlet,)).publish()
        return sorted(surface.plans)

    assert asyncio.run(story()) == ["www"]
