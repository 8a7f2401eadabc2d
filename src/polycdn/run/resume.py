"""The state of every service as a journal left it: the newest snapshot, and the events after it stepped."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from polycdn.errors import JournalError
from polycdn.journal.log import Disk, Journal, JournalLimits
from polycdn.journal.record import Decided, Entry, Failed, Record, SetAside, Snapshot
from polycdn.journal.scan import ChainError, Reader, segments_in
from polycdn.model.event import Event
from polycdn.model.state import State
from polycdn.run.loop import Step, decision_or_why


@dataclass(slots=True)
class Past:
    """What is known of one service so far: a snapshot, and what happened after it."""

    state: State = field(default_factory=State)
    events: list[tuple[Event, int]] = field(default_factory=list)
    pending: tuple[Event, int] | None = None

    def take(self, entry: Entry) -> None:
        """Remembers what the next start needs of one entry; an event counts once it was decided."""
        body = entry.body
        if isinstance(body, Snapshot):
            self.state, self.events, self.pending = body.state, [], None
        elif isinstance(body, Decided):
            if self.pending is not None:
                self.events.append(self.pending)
            self.pending = None
        elif isinstance(body, Failed):
            self.pending = None
        elif isinstance(body, Event):
            self.pending = (body, entry.at_ms)

    def resumed(self, step: Step) -> State:
        """The state after all of it."""
        state = self.state
        for event, now_ms in self.events:
            decision = decision_or_why(step, state, event, now_ms)
            state = state if isinstance(decision, str) else decision.state
        return state


def pasts_of(records: Iterable[Record]) -> dict[str, Past]:
    """The past of every service that the records tell of."""
    pasts: dict[str, Past] = {}
    for record in records:
        if record.entry.service:
            pasts.setdefault(record.entry.service, Past()).take(record.entry)
    return pasts


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
    try:
        journal = Journal.open(folder, limits, disk)
    except ChainError as error:
        states = _states(_trusted(folder), step)
        kept_as = _move_aside(folder, now_ms)
        snapshots = [Entry(now_ms, service, Snapshot(state)) for service, state in sorted(states.items())]
        first = Entry(now_ms, "", SetAside(error.place, str(kept_as), error.why))
        return Resumption(Journal.open(folder, limits, disk), states, (first, *snapshots))
    return Resumption(journal, _states(_newest(folder), step))


def _states(pasts: dict[str, Past], step: Step) -> dict[str, State]:
    return {service: past.resumed(step) for service, past in pasts.items()}


def _newest(folder: Path) -> dict[str, Past]:
    """From the newest segment, which begins with snapshots; from the one before if a crash left it empty."""
    files = segments_in(folder)
    pasts = pasts_of(Reader(files[-1:]).records())
    return pasts or pasts_of(Reader(files[-2:]).records())


def _trusted(folder: Path) -> dict[str, Past]:
    """From the newest segment up to where its chain breaks."""
    trusted: list[Record] = []
    with suppress(ChainError):
        for record in Reader(segments_in(folder)[-1:]).records():
            trusted.append(record)  # noqa: PERF402
    return pasts_of(trusted)


def _move_aside(folder: Path, now_ms: int) -> Path:
    kept_as = folder.with_name(f"{folder.name}.broken-{now_ms}")
    try:
        return folder.rename(kept_as)
    except OSError as error:
        raise JournalError(f"{folder}: broken, and cannot be moved aside: {error.strerror}") from None
