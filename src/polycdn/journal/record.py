"""What a journal holds: entries as they are handed in, records as they lie in the chain."""

from dataclasses import dataclass
from typing import Final

from polycdn.model.event import Event
from polycdn.model.plan import Plan
from polycdn.model.state import Decision, State
from polycdn.model.wire import digest

GENESIS: Final = "0" * 64
"""`prev` of the very first record."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The trace of one `step`: the digest covers its plan and its report; `plan` None = nothing changed."""

    generation: int
    digest: str
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A decision that raised. The event before it changed nothing; the last plan keeps serving."""

    why: str


@dataclass(frozen=True, slots=True)
class Published:
    """A surface has taken a plan. `is_good`: it now holds this generation as its last good one."""

    surface: str
    generation: int
    is_good: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A surface has not taken a plan; `is_retryable`: it will be offered again."""

    surface: str
    generation: int
    why: str
    is_retryable: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state of a service, so that a start need not read what came before."""

    state: State


@dataclass(frozen=True, slots=True)
class Repaired:
    """A line that a crash had torn was cut off: `cut_bytes` at the end of `file`."""

    file: str
    cut_bytes: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """The chain before this record was broken at `place`; that journal was kept as `kept_as`."""

    place: str
    kept_as: str
    why: str


Body = Event | Decision | Decided | Failed | Published | Refused | Snapshot | Repaired | SetAside


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to journal. `at_ms` is when it was decided or done; `service` "" = all of them."""

    at_ms: int
    service: str
    body: Body


@dataclass(frozen=True, slots=True)
class Record:
    """An entry in its place in the chain. `hash` covers everything else, `prev` is the hash before."""

    seq: int
    prev: str
    hash: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Tip:
    """The end of a chain: the next record gets `seq + 1` and `prev = hash`."""

    seq: int = 0
    hash: str = GENESIS


def decided(decision: Decision) -> Decided:
    """What is kept of a decision; the state is not, because the events give it again."""
    return Decided(decision.state.generation, decision_digest(decision), decision.plan)


def decision_digest(decision: Decision) -> str:
    """Hex SHA-256 of plan and report: two runs that decide alike have equal ones."""
    return digest({"plan": decision.plan, "report": decision.report})
