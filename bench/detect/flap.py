"""The outage of 2025-11-18 as probes saw it: every 10 s, three vantages. How often each rule moves."""

import random
from dataclasses import dataclass, replace

from others import RULES
from table import service_of

from polycdn.decide.assess import assess
from polycdn.decide.threshold import Tally, Threshold, Window
from polycdn.model.observation import Observation, Reason
from polycdn.model.policy import Policy
from polycdn.model.state import State
from polycdn.model.units import ANYWHERE
from polycdn.model.verdict import Status

EVERY_S = 10
FIRST_MS = 1_763_464_800_000
"""2025-11-18 11:20 UTC."""

PHASES = ((480, 0.10), (5_820, None), (5_100, 0.60), (9_360, 0.05))
"""(seconds, share of failures); None: 150 s all bad, 150 s all good, in turn. Recorded in the incident's
file."""

FLAPPING = range(480 // EVERY_S, 6_300 // EVERY_S)
HEALTHY = 0.005


@dataclass(frozen=True)
class Moves:
    """Moves of one rule over the whole outage, those of them while it flapped, and the first, in seconds."""

    whole: int
    flapping: int
    first_s: int


def shares() -> list[float]:
    """The share of failures of each round."""
    found: list[float] = []
    for seconds, share in PHASES:
        found += [_share_at(at, share) for at in range(0, seconds, EVERY_S)]
    return found


def _share_at(at_s: int, share: float | None) -> float:
    if share is not None:
        return share
    return 1.0 if at_s // 150 % 2 == 0 else 0.0


def looks(seed: int, vantages: int = 3) -> list[tuple[bool, ...]]:
    """For each round, what each vantage found: True is good."""
    dice = random.Random(seed)
    return [tuple(dice.random() >= share for _ in range(vantages)) for share in shares()]


def ours(seed: int) -> Moves:
    """The moves of the decider, with another healthy provider beside the failing one."""
    policy = Policy(probe_interval_ms=EVERY_S * 1_000)
    service = service_of(3, ("cdn", "other"))
    dice = random.Random(-seed - 1)
    state = State(service, policy)
    moves = []
    for at, found in enumerate(looks(seed)):
        now_ms = FIRST_MS + at * EVERY_S * 1_000
        seen = [_look(now_ms, "cdn", n, good) for n, good in enumerate(found)]
        seen += [_look(now_ms, "other", n, dice.random() >= HEALTHY) for n in range(3)]
        got = assess(state, tuple(seen), now_ms)
        before = [standing.status is Status.DOWN for standing in state.standings]
        moves += [
            at for was, now in zip(before, got.standings, strict=False) if was != (now.status is Status.DOWN)
        ]
        state = replace(
            state, streams=got.streams, standings=got.standings, verdicts=got.verdicts, now_ms=now_ms
        )
    return _moves(moves)


def _look(now_ms: int, provider: str, vantage: int, is_good: bool) -> Observation:
    reason = Reason.OK if is_good else Reason.HTTP_5XX
    return Observation(now_ms, provider, ANYWHERE, f"v{vantage}", reason, 1, 0 if is_good else 1)


def theirs(name: str, seed: int) -> Moves:
    """The moves of a rule that hears one vantage."""
    rule = RULES[name]
    state: Tally | Window = Tally() if isinstance(rule, Threshold) else Window(False, (True,) * rule.looks)
    moves = []
    for at, found in enumerate(looks(seed)):
        after = rule.after(state, found[0])  # type: ignore[arg-type]
        if after.is_down != state.is_down:
            moves.append(at)
        state = after
    return _moves(moves)


def _moves(at: list[int]) -> Moves:
    first_s = at[0] * EVERY_S if at else -1
    return Moves(len(at), sum(move in FLAPPING for move in at), first_s)
