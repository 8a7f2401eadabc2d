"""The state of every service as a journal left it: the newest snapshot, and the events after it stepped."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, get_args

from polycdn.errors import JournalError
from polycdn.journal.codec import Frame, LineError
from polycdn.journal.log import Disk, Journal, JournalLimits
from polycdn.journal.record import Decided, Entry, Failed, SetAside, Snapshot
from polycdn.journal.scan import ChainError
from polycdn.model.event import Event
from polycdn.model.state import State
from polycdn.run.loop import Step, decision_or_why

EVENTS: Final = frozenset(kind.__name__ for kind in get_args(Event))
OUTCOMES: Final = frozenset((Decided.__name__, Failed.__name__))


@dataclass(slots=True)
class Past:
    """What a journal tells of one service: the newest snapshot, and every frame after it."""

    snapshot: Frame | None = None
    frames: list[Frame] = field(default_factory=list)

    def take(self, found: Frame) -> None:
        """Remembers what a start needs of one frame."""
        if found.kind == Snapshot.__name__:
            self.snapshot = found
            self.frames.clear()
        elif found.kind in EVENTS | OUTCOMES:
            self.frames.append(found)

    def resumed(self, step: Step) -> State:
        """The state after all of it; an event counts once it was decided. Raises LineError."""
        state = self._start()
        pending: Frame | None = None
        for found in self.frames:
            if found.kind in EVENTS:
                pending = found
                continue
            if pending is not None and found.kind == Decided.__name__:
                state = _stepped(step, state, pending)
            pending = None
        return state

    def _start(self) -> State:
        body = self.snapshot.record().entry.body if self.snapshot is not None else None
        return body.state if isinstance(body, Snapshot) else State()


def _stepped(step: Step, state: State, found: Frame) -> State:
    event = found.record().entry.body
    assert isinstance(event, Event), f"{found.kind} is an event"
    decision = decision_or_why(step, state, event, found.at_ms)
    return state if isinstance(decision, str) else decision.state


class Pasts:
    """The past of every service that a journal tells of."""

    def __init__(self) -> None:
        self._by_service: dict[str, Past] = {}

    def take(self, found: Frame) -> None:
        """Remembers what a start needs of one frame."""
        if found.service:
            self._by_service.setdefault(found.service, Past()).take(found)

    def states(self, step: Step) -> dict[str, State]:
        """The state of every service. Raises LineError when a body cannot be read."""
        return {service: past.resumed(step) for service, past in self._by_service.items()}

    def readable_states(self, step: Step) -> dict[str, State]:
        """As `states`, of those services whose past can be read."""
        found = {}
        for service, past in self._by_service.items():
            with suppress(LineError):
                found[service] = past.resumed(step)
        return found


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a decider goes on from: the journal, the states, and what the journal has to be told first."""

    journal: Journal
    states: dict[str, State]
    first_entries: tuple[Entry, ...] = ()


def resume(
    folder: Path, step: Step, now_ms: int, limits: JournalLimits | None = None, disk: Disk | None = None
) -> Resumption:
    """The journal, ready to go on, and the states that it holds.

    A chain that is broken in its middle does not keep a decider from starting: the journal is moved aside
    whole, what comes before the break is used, and the new journal begins by telling so. Raises JournalError
    when another decider runs, or when a broken journal cannot be moved.
    """
    pasts = Pasts()
    try:
        journal = Journal.open(folder, limits, disk, pasts.take)
    except ChainError as error:
        place, why = error.place, error.why
    else:
        try:
            return Resumption(journal, pasts.states(step))
        except LineError as error:
            journal.close()
            place, why = str(folder), str(error)
    states = pasts.readable_states(step)
    first = Entry(now_ms, "", SetAside(place, str(_move_aside(folder, now_ms)), why))
    snapshots = [Entry(now_ms, service, Snapshot(state)) for service, state in sorted(states.items())]
    return Resumption(Journal.open(folder, limits, disk), states, (first, *snapshots))


def _move_aside(folder: Path, now_ms: int) -> Path:
    kept_as = folder.with_name(f"{folder.name}.broken-{now_ms}")
    try:
        return folder.rename(kept_as)
    except OSError as error:
        raise JournalError(f"{folder}: broken, and cannot be moved aside: {error.strerror}") from None
