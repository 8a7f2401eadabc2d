"""What one decision leaves behind. The state of one service; each service has its own."""

from dataclasses import dataclass

from polycdn.model.event import Forced
from polycdn.model.plan import Note, Plan
from polycdn.model.policy import Policy
from polycdn.model.topology import Service
from polycdn.model.verdict import Blame, Status, Verdict


@dataclass(frozen=True, slots=True)
class Stream:
    """Evidence of one vantage on one provider in one region.

    `down_mnat` and `up_mnat` hold one CUSUM score per sick alternative (decide/judge.py), in milli-nats:
    towards DOWN, and towards coming back. `seen_ms` is the newest observation folded in, 0 = none.
    `healthy_bp` is the learned healthy failure share (0 = the policy's floor), from `failures` in `attempts`;
    `excess_mnat` how far it fails where the origin, looked at from the same place, does not.
    """

    provider: str
    region: str
    vantage: str
    down_mnat: tuple[int, ...] = ()
    up_mnat: tuple[int, ...] = ()
    slow_mnat: int = 0
    latency_ms: int = 0
    seen_ms: int = 0
    attempts: int = 0
    failures: int = 0
    blame: Blame = Blame.NOBODY
    healthy_bp: int = 0
    excess_mnat: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one provider stands in one region, beyond the verdict: its way back and its past.

    `hold_until_ms` keeps it out however good it looks; `relapses` doubled the last hold-down;
    `probation_since_ms` is when it was let back in on probation (0 = not on probation), and
    `probation_bp` the ceiling that it has earned, `clean_since_ms` the start of the step it is earning now.
    """

    provider: str
    region: str
    status: Status = Status.UNKNOWN
    since_ms: int = 0
    hold_until_ms: int = 0
    relapses: int = 0
    down_since_ms: int = 0
    probation_since_ms: int = 0
    probation_bp: int = 10_000
    clean_since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Demand:
    region: str
    demand_rps: int
    demand_mbps: int


@dataclass(frozen=True, slots=True)
class Pace:
    """What bounds the next moves of one region.

    `calm_since_ms` is when the present calm began (0 = there is doubt). `moves` are the moves of the last
    minute that were wished, not needed: (when, basis points of the region's traffic).
    """

    region: str
    calm_since_ms: int = 0
    moves: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A provider that answered otherwise than its peers for an object, and when that was last seen."""

    provider: str
    region: str
    vantage: str
    path: str
    seen_ms: int


@dataclass(frozen=True, slots=True)
class State:
    """Everything that `step` remembers about one service; `service` is None before `Configured`.

    `moved_ms` is when shares last moved; `healthy_since_ms` since when every provider that carries share has
    been UP under these shares (0 = not now). `due_ms` is the soonest moment at which the passing of time
    alone can change steering, `evidence_due_ms` the same for verdicts (0 = never).
    """

    service: Service | None = None
    policy: Policy | None = None
    streams: tuple[Stream, ...] = ()
    standings: tuple[Standing, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    forced: tuple[Forced, ...] = ()
    frozen_until_ms: int = 0
    demand: tuple[Demand, ...] = ()
    plan: Plan | None = None
    generation: int = 0
    good_plan: Plan | None = None
    moved_ms: int = 0
    now_ms: int = 0
    paces: tuple[Pace, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    healthy_since_ms: int = 0
    due_ms: int = 0
    evidence_due_ms: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """Why a decision is what it is. `is_calm`: every verdict UP, nothing forced, ramping or in doubt.

    `next_due_ms` is the soonest moment at which the passing of time alone can change the plan (0 = never).
    `good_generation` is the newest generation whose traffic stayed healthy for the soak time (0 = none).
    """

    at_ms: int
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[Note, ...] = ()
    is_calm: bool = False
    next_due_ms: int = 0
    good_generation: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """`plan` is None when nothing changes on any surface."""

    state: State
    plan: Plan | None
    report: Report
