"""A journal, decided once more: equal digests, the first difference, or what another policy had done.

The real loop, on the clock that tells the journal's stamps, with a surface in memory.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from polycdn.decide.step import step
from polycdn.errors import JournalError
from polycdn.journal.record import Decided, Entry, Failed, Record, Snapshot, decided
from polycdn.journal.scan import read
from polycdn.model.event import Configured, Event
from polycdn.model.plan import Plan
from polycdn.model.policy import Policy
from polycdn.model.state import Decision, State
from polycdn.run.clock import Recorded
from polycdn.run.loop import Addressed, Loop, Step
from polycdn.run.moves import plan_changes
from polycdn.run.publish import Outlet, Publisher
from polycdn.run.status import regions_json
from polycdn.surface.memory import MemorySurface
from polycdn.surface.settings import settings_for

DIFFERENCES_MAX: Final = 200

Outcome = Decided | Failed


@dataclass(frozen=True, slots=True)
class Turn:
    """One event of a journal with what was decided on it then."""

    seq: int
    at_ms: int
    service: str
    event: Event
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Known:
    """A snapshot: the state of a service at this place."""

    service: str
    state: State


def turns_of(records: Iterable[Record]) -> Iterator[Turn | Known]:
    """Every event that was decided, and every snapshot, in order; without events that a crash overtook."""
    event: Record | None = None
    for record in records:
        body = record.entry.body
        if isinstance(body, Snapshot):
            yield Known(record.entry.service, body.state)
        elif isinstance(body, Decided | Failed):
            if event is not None and isinstance(event.entry.body, Event):
                entry = event.entry
                yield Turn(event.seq, entry.at_ms, entry.service, event.entry.body, body)
            event = None
        elif isinstance(body, Event):
            event = record


class Replay:
    """A run of the loop over turns: its source of rounds, and its journal, which keeps only the last outcome.

    `compare` is told every turn with what the loop makes of it now. `policies`, by service, replace those of
    the journal.
    """

    def __init__(
        self,
        turns: Iterator[Turn | Known],
        compare: Callable[[Turn, Outcome], None],
        policies: Mapping[str, Policy] | None = None,
        decide: Step = step,
    ) -> None:
        self._turns = turns
        self._compare = compare
        self._policies = policies or {}
        self._under_way: Turn | None = None
        self._clock = Recorded()
        self._outlet = Outlet(MemorySurface(), {}, self._clock)
        self._loop = Loop(self, self._clock, self, Publisher((self._outlet,)), decide)

    def run(self) -> None:
        """From the first turn to the last."""
        asyncio.run(self._loop.run())

    async def next_round(self) -> Sequence[Addressed] | None:
        """The next event, when the clock tells its stamp; None at the end."""
        for turn in self._turns:
            if isinstance(turn, Known):
                self._begin_with(turn)
                continue
            self._under_way = turn
            await self._clock.sleep_until(turn.at_ms)
            return [Addressed(turn.service, self._changed(turn.event))]
        return None

    @property
    def is_segment_full(self) -> bool:
        """Never: nothing is kept."""
        return False

    def append(self, entries: Sequence[Entry]) -> None:
        """Compares what was decided now with what was decided then."""
        for entry in entries:
            body = entry.body
            if isinstance(body, Decision | Failed) and self._under_way is not None:
                self._compare(self._under_way, decided(body) if isinstance(body, Decision) else body)
                self._under_way = None

    def rotate(self, first_entries: Sequence[Entry]) -> None:
        """Nothing to rotate."""

    def _changed(self, event: Event) -> Event:
        if not isinstance(event, Configured):
            return event
        self._outlet.carry(settings_for(event.service))
        return replace(event, policy=self._policies.get(event.service.name, event.policy))

    def _begin_with(self, known: Known) -> None:
        """Where a journal begins that has lost its oldest segments; later snapshots tell nothing new."""
        service, state = known.service, known.state
        if service in self._loop.states or state.service is None:
            return
        self._loop.states[service] = replace(state, policy=self._policies.get(service, state.policy))
        self._outlet.carry(settings_for(state.service))


def replay(place: Path, decide: Step = step) -> dict[str, Any]:
    """`{journal, is_equal, decisions, first_difference}`; the last is None when all is as recorded.

    Raises JournalError when there is no journal, nothing to decide in it, or its chain is broken.
    """
    count = 0
    first: dict[str, Any] | None = None

    def compare(turn: Turn, outcome: Outcome) -> None:
        nonlocal count, first
        count += 1
        if first is None and outcome != turn.outcome:
            first = _difference(turn, outcome)

    Replay(turns_of(read(place)), compare, decide=decide).run()
    _refuse_nothing(place, count)
    return {"journal": str(place), "is_equal": first is None, "decisions": count, "first_difference": first}


def what_if(place: Path, policies: Mapping[str, Policy], decide: Step = step) -> dict[str, Any]:
    """`{journal, decisions, recorded, what_if, ...}`: the plans that were made, those that would have been.

    Each plan as `{at_ms, service, generation, regions}`; `differences` are sentences, one per moment at which
    shares part or meet again. Raises JournalError as `replay`.
    """
    then: list[Plan] = []
    now: list[Plan] = []
    count = 0

    def compare(turn: Turn, outcome: Outcome) -> None:
        nonlocal count
        count += 1
        if isinstance(turn.outcome, Decided) and turn.outcome.plan is not None:
            then.append(turn.outcome.plan)
        if isinstance(outcome, Decided) and outcome.plan is not None:
            now.append(outcome.plan)

    Replay(turns_of(read(place)), compare, policies, decide).run()
    _refuse_nothing(place, count)
    return {
        "journal": str(place),
        "decisions": count,
        "recorded": [_plan_json(plan) for plan in then],
        "what_if": [_plan_json(plan) for plan in now],
        "recorded_plan_changes": plan_changes(then),
        "what_if_plan_changes": plan_changes(now),
        "differences": _differences(then, now),
    }


def _refuse_nothing(place: Path, count: int) -> None:
    if count == 0:
        raise JournalError(f"{place}: no decision in this journal; nothing to replay")


def _difference(turn: Turn, outcome: Outcome) -> dict[str, Any]:
    return {
        "seq": turn.seq,
        "at_ms": turn.at_ms,
        "service": turn.service,
        "event": type(turn.event).__name__,
        "recorded": _outcome_text(turn.outcome),
        "replayed": _outcome_text(outcome),
    }


def _outcome_text(outcome: Outcome) -> str:
    if isinstance(outcome, Failed):
        return f"failed: {outcome.why}"
    plan = f"; {_shares_text(outcome.plan)}" if outcome.plan is not None else ""
    return f"generation {outcome.generation}, digest {outcome.digest[:16]}{plan}"


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "at_ms": plan.made_ms,
        "service": plan.service,
        "generation": plan.generation,
        "regions": regions_json(plan),
    }


def _shares_text(plan: Plan) -> str:
    return "; ".join(
        f"{region.region}: " + ", ".join(f"{name} {share_bp} bp" for name, share_bp in region.shares)
        for region in plan.regions
    )


def _differences(then: Sequence[Plan], now: Sequence[Plan]) -> list[str]:
    """One sentence per moment at which the two runs' shares of a service begin to differ, or cease to."""
    moments = sorted(
        (plan.made_ms, place, plan.service, _shares_text(plan))
        for place, plans in enumerate((then, now))
        for plan in plans
    )
    shares: dict[tuple[int, str], str] = {}
    sentences: list[str] = []
    told: dict[str, str] = {}
    for index, (at_ms, place, service, text) in enumerate(moments):
        shares[place, service] = text
        if index + 1 < len(moments) and moments[index + 1][0] == at_ms:
            continue
        for name in sorted({service for _, service in shares}):
            pair = [shares.get((one, name), "no plan yet") for one in (0, 1)]
            news = "" if pair[0] == pair[1] else f"then {pair[0]} | with the other policy {pair[1]}"
            if news != told.get(name, ""):
                told[name] = news
                sentences.append(f"{at_ms} ms, {name}: {news or 'the same again'}")
    return sentences[:DIFFERENCES_MAX]
