"""The one loop. Live, drill, replay and simulate differ in what they hand to it, never in what it does.

    gather -> step -> journal (one fsync) -> publish

What could not be journalled is not published. It is kept, in order, and written as soon as that can be done.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from polycdn.errors import JournalError
from polycdn.journal.record import Entry, Failed, Snapshot
from polycdn.model.event import Event
from polycdn.model.state import Decision, Report, State
from polycdn.model.units import Clock
from polycdn.run.publish import Publisher

UNWRITTEN_MAX: Final = 4_000
"""Entries kept while the journal cannot be written; then rounds are left out until it can."""

SNAPSHOT_STEPS: Final = 600
"""Decisions of a service between two snapshots: what a start has to step again, at most."""

Step = Callable[[State, Event, int], Decision]


@dataclass(frozen=True, slots=True)
class Addressed:
    """An event for one service. `written` is told when it is in the journal, or why it is not yet."""

    service: str
    event: Event
    written: asyncio.Future[None] | None = None


class Source(Protocol):
    """Where rounds come from. It waits on the clock that the loop has too."""

    async def next_round(self) -> Sequence[Addressed] | None:
        """The next round, when it is due; None when there are no more."""
        ...


class Log(Protocol):
    """A journal: `journal.log.Journal`, or `journal.memory.MemoryJournal`."""

    @property
    def is_segment_full(self) -> bool:
        """Time to `rotate`."""
        ...

    def append(self, entries: Sequence[Entry]) -> Any:
        """Keeps all of them, safely, or raises JournalError and keeps none."""
        ...

    def rotate(self, first_entries: Sequence[Entry]) -> None:
        """Starts a new segment with these."""
        ...


class Loop:
    """Drives `step` for every service; each has its own state and stands alone.

    `states` and `reports` are those of the newest decisions, journalled or not.
    """

    def __init__(
        self,
        source: Source,
        clock: Clock,
        journal: Log,
        publisher: Publisher,
        step: Step,
        states: Mapping[str, State] | None = None,
        first_entries: Sequence[Entry] = (),
    ) -> None:
        self.states: dict[str, State] = dict(states or {})
        self.reports: dict[str, Report] = {}
        self.failures: dict[str, str] = {}
        self.journal_error = ""
        self.left_out = 0
        self.rounds = 0
        self._source = source
        self._clock = clock
        self._journal = journal
        self._publisher = publisher
        self._step = step
        self._newest_ms = max((state.now_ms for state in self.states.values()), default=0)
        self._unwritten: list[Entry] = list(first_entries)
        self._plans = {
            service: state.plan for service, state in self.states.items() if state.plan is not None
        }
        self._steps: dict[str, int] = {}

    async def run(self) -> None:
        """Turns round after round until the source has no more."""
        while (batch := await self._source.next_round()) is not None:
            self._newest_ms = max(self._newest_ms, self._clock.now_ms())
            await self.turn(batch, self._newest_ms)

    async def turn(self, batch: Sequence[Addressed], now_ms: int) -> None:
        """One round: decides every event, journals all, publishes what is new."""
        self.rounds += 1
        if len(self._unwritten) < UNWRITTEN_MAX:
            for addressed in batch:
                self._decide(addressed, now_ms)
        else:
            self.left_out += len(batch)
        self._unwritten += self._publisher.take_results()
        self._write(batch, now_ms)
        if not self.journal_error:
            self._hand_over()
        await self._publisher.publish()

    def _decide(self, addressed: Addressed, now_ms: int) -> None:
        """Steps one event. A decision that fails changes nothing: the last plan keeps serving."""
        service = addressed.service
        state = self.states.get(service, State())
        self._unwritten.append(Entry(now_ms, service, addressed.event))
        decision = decision_or_why(self._step, state, addressed.event, now_ms)
        if isinstance(decision, str):
            self.failures[service] = decision
            self._unwritten.append(Entry(now_ms, service, Failed(decision)))
            return
        self.failures.pop(service, None)
        self.states[service] = decision.state
        self.reports[service] = decision.report
        self._unwritten.append(Entry(now_ms, service, decision))
        if decision.plan is not None:
            self._plans[service] = decision.plan
        self._snapshot_when_due(service, now_ms)

    def _snapshot_when_due(self, service: str, now_ms: int) -> None:
        self._steps[service] = self._steps.get(service, 0) + 1
        if self._steps[service] >= SNAPSHOT_STEPS:
            self._steps[service] = 0
            self._unwritten.append(Entry(now_ms, service, Snapshot(self.states[service])))

    def _write(self, batch: Sequence[Addressed], now_ms: int) -> None:
        try:
            if self._unwritten:
                self._journal.append(self._unwritten)
                self._unwritten = []
            self.journal_error = ""
            if self._journal.is_segment_full:
                self._journal.rotate(
                    [
                        Entry(now_ms, service, Snapshot(state))
                        for service, state in sorted(self.states.items())
                    ]
                )
        except JournalError as error:
            self.journal_error = str(error) if self._unwritten else ""
        _tell(batch, self.journal_error)

    def _hand_over(self) -> None:
        """Gives the publisher every plan and good word that the journal holds by now."""
        for plan in self._plans.values():
            self._publisher.want(plan)
        self._plans = {}
        for service, report in self.reports.items():
            if report.good_generation:
                self._publisher.want_good(service, report.good_generation)


def decision_or_why(step: Step, state: State, event: Event, now_ms: int) -> Decision | str:
    """The decision, or how it failed; a fault of ours must not stop the other services."""
    try:
        return step(state, event, now_ms)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _tell(batch: Sequence[Addressed], journal_error: str) -> None:
    for addressed in batch:
        if addressed.written is None or addressed.written.done():
            continue
        if journal_error:
            addressed.written.set_exception(JournalError(journal_error))
        else:
            addressed.written.set_result(None)
