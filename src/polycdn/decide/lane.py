"""What steering sees: every provider in every region, how it stands there and how much it may carry."""

from dataclasses import dataclass
from enum import IntEnum

from polycdn.decide.attribute import DOUBT_BP
from polycdn.decide.force import stance_of
from polycdn.model.event import Stance
from polycdn.model.plan import RegionPlan
from polycdn.model.policy import Policy
from polycdn.model.state import Standing, State
from polycdn.model.topology import Provider, Region
from polycdn.model.units import FULL_BP
from polycdn.model.verdict import Blame, Status, Verdict


class Footing(IntEnum):
    """Who is tried before whom; among equals the policy's rule decides.

    | footing    | because                                     | carries                                     |
    |------------|---------------------------------------------|---------------------------------------------|
    | READY      | UP, or forced up                            | what the rule gives, up to its ceiling      |
    | DOUBTFUL   | DEGRADED beyond the dwell by being slow     | what no READY one has room for              |
    | RETURNING  | UP, on probation                            | as READY, up to what it has earned          |
    | UNSEEN     | UNKNOWN, and not DOWN when it was last seen | what it carried; more if nobody better can  |
    | DRAINING   | the operator drains it                      | less every minute; more if nobody else can  |
    | MISMATCHED | its answers differ, and it carried nothing  | nothing, unless all others are gone         |
    | DOWN       | DOWN, or not seen since it was              | only what nobody else has room for          |
    | BARRED     | forced down                                 | nothing, unless every provider is barred    |
    """

    READY = 0
    DOUBTFUL = 1
    RETURNING = 2
    UNSEEN = 3
    DRAINING = 4
    MISMATCHED = 5
    DOWN = 6
    BARRED = 7


LOST = (Footing.DOWN, Footing.BARRED)


@dataclass(frozen=True, slots=True)
class Lane:
    """One provider in one region. `index` is its place in the service's order of preference.

    `share_bp` is what it carries now, `earned_bp` what its probation lets it carry.
    """

    index: int
    provider: Provider
    footing: Footing
    share_bp: int
    earned_bp: int
    latency_ms: int


@dataclass(frozen=True, slots=True)
class Scene:
    """One region: its lanes in the service's order of preference, and what its users ask for.

    `before` is the region's plan until now, None when there is none. `is_lost`: nobody in it is left to
    carry traffic but those that are DOWN or barred.
    """

    region: str
    lanes: tuple[Lane, ...]
    demand_rps: int
    demand_mbps: int
    before: RegionPlan | None
    is_lost: bool


def survey(state: State, now_ms: int) -> tuple[Scene, ...]:
    """One scene per region, in the service's order. `state` has a service and a policy."""
    assert state.service is not None and state.policy is not None
    verdicts = {(verdict.provider, verdict.region): verdict for verdict in state.verdicts}
    standings = {(standing.provider, standing.region): standing for standing in state.standings}
    mismatched = [(mismatch.provider, mismatch.region) for mismatch in state.mismatches]
    before = {} if state.plan is None else {plan.region: plan for plan in state.plan.regions}
    scenes = []
    for region in state.service.regions:
        plan = before.get(region.name)
        shares = {} if plan is None else dict(plan.shares)
        lanes = []
        for index, provider in enumerate(state.service.providers):
            if not is_allowed(provider, region, state.service.providers):
                continue
            key = (provider.name, region.name)
            share_bp = shares.get(provider.name, 0)
            verdict, standing = verdicts.get(key), standings.get(key)
            footing = _footing(state.policy, verdict, standing, plan is None, now_ms)
            footing = _with_stance(footing, stance_of(state.forced, *key))
            if state.policy.require_parity and share_bp == 0 and key in mismatched:
                footing = max(footing, Footing.MISMATCHED)
            earned_bp = standing.probation_bp if standing and footing is Footing.RETURNING else FULL_BP
            latency_ms = verdict.latency_ms if verdict else 0
            lanes.append(Lane(index, provider, footing, share_bp, earned_bp, latency_ms))
        demand_rps, demand_mbps = demand_of(state, region)
        is_lost = all(lane.footing in LOST for lane in lanes)
        scenes.append(Scene(region.name, tuple(lanes), demand_rps, demand_mbps, plan, is_lost))
    return tuple(scenes)


def is_allowed(provider: Provider, region: Region, providers: tuple[Provider, ...]) -> bool:
    """Whether a provider may carry a region; where none is named for it, all may: never an empty answer."""
    if not provider.regions or region.name in provider.regions:
        return True
    return not any(not other.regions or region.name in other.regions for other in providers)


def demand_of(state: State, region: Region) -> tuple[int, int]:
    """Requests and megabits a second that a region's users ask for: as measured, else as configured.

    A measured 0 is "not known", as a configured one is.
    """
    for demand in state.demand:
        if demand.region == region.name:
            return demand.demand_rps or region.demand_rps, demand.demand_mbps or region.demand_mbps
    return region.demand_rps, region.demand_mbps


def is_on_probation(standing: Standing | None) -> bool:
    """Whether a provider carries only what it has earned since it came back."""
    return standing is not None and standing.probation_since_ms > 0 and standing.probation_bp < FULL_BP


def _footing(
    policy: Policy, verdict: Verdict | None, standing: Standing | None, is_first: bool, now_ms: int
) -> Footing:
    if verdict is None or verdict.status is Status.UNKNOWN:
        if standing is not None and standing.status is Status.DOWN:
            return Footing.DOWN  # as it was when it was last seen
        return Footing.READY if is_first else Footing.UNSEEN  # at first, nobody is known to be bad
    if verdict.status is Status.DOWN:
        return Footing.DOWN
    if is_on_probation(standing):
        return Footing.RETURNING
    # Failing is judged by the alarm alone: a doubt below it moves nobody, or every second doubt would be a
    # move and a move back. Being slow has no alarm; it moves when it lasts and does not move along.
    is_lasting = verdict.status is Status.DEGRADED and now_ms - verdict.since_ms >= policy.dwell_ms
    if is_lasting and verdict.alarm_bp < DOUBT_BP and verdict.blame not in (Blame.ORIGIN, Blame.VANTAGE):
        return Footing.DOUBTFUL
    return Footing.READY


def _with_stance(footing: Footing, stance: Stance | None) -> Footing:
    if stance is Stance.UP:
        return Footing.READY
    if stance is Stance.DOWN:
        return Footing.BARRED
    if stance is Stance.DRAIN:
        return max(footing, Footing.DRAINING)
    return footing
