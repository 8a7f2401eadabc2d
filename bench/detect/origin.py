"""An origin that fails in part: does anybody move, and does its noise hide a provider's own fault?"""

import random
from dataclasses import replace

from table import service_of

from polycdn.decide.assess import assess
from polycdn.model.observation import Observation, Reason
from polycdn.model.policy import Policy
from polycdn.model.state import State
from polycdn.model.topology import Endpoint, Service
from polycdn.model.units import ANYWHERE, ORIGIN
from polycdn.model.verdict import Status

HEALTHY = 0.005
FIRST_MS = 1_763_464_800_000
ROUNDS = 120
CASES = {
    "all three pass it on": ("a", "b", "c", ORIGIN),
    "one passes it on, two serve from cache": ("a", ORIGIN),
}
POLICY = Policy()


def moved(share: float, failing: tuple[str, ...], seed: int, rounds: int) -> int:
    """Rounds from the fault until somebody is left; -1 when nobody is."""
    dice = random.Random(seed)
    service = replace(service_of(3, ("a", "b", "c")), origin=Endpoint("origin"))
    state = State(service, POLICY)
    for at in range(-30, rounds):
        now_ms = FIRST_MS + at * POLICY.probe_interval_ms
        shares = {name: share if at >= 0 and name in failing else HEALTHY for name in ("a", "b", "c", ORIGIN)}
        seen = _round(service, now_ms, shares, dice)
        got = assess(state, seen, now_ms)
        if any(standing.status is Status.DOWN for standing in got.standings):
            return at + 1
        state = replace(
            state, streams=got.streams, standings=got.standings, verdicts=got.verdicts, now_ms=now_ms
        )
    return -1


def _round(
    service: Service, now_ms: int, shares: dict[str, float], dice: random.Random
) -> tuple[Observation, ...]:
    seen = []
    for name, share in shares.items():
        for vantage in service.vantages:
            fails = dice.random() < share
            reason = Reason.HTTP_5XX if fails else Reason.OK
            seen.append(Observation(now_ms, name, ANYWHERE, vantage.name, reason, 1, int(fails)))
    return tuple(seen)


def origin_faults(runs: int) -> list[dict]:
    """How many of so many origin faults moved somebody."""
    rows = []
    for case, failing in CASES.items():
        for share in (0.1, 0.2, 0.5):
            count = sum(moved(share, failing, seed, ROUNDS) >= 0 for seed in range(runs))
            rows.append({"case": case, "share": share, "faults": runs, "moved": count})
    return rows


def beside_noise(runs: int) -> list[dict]:
    """Rounds to the alarm on one provider while others and the origin fail 0.5 % of looks."""
    rows = []
    for share in (1.0, 0.3):
        taken = sorted(moved(share, ("a",), seed, 1_000) for seed in range(runs))
        rows.append({"share": share, "mean": round(sum(taken) / runs, 2), "p99": taken[runs * 99 // 100]})
    return rows
