"""How fast traffic goes where it should: needs at once, wishes by the minute; and how long answers live.

A need is a lost provider or an overload. A wish is everything else. Wishes of one service move together, not
within the dwell after any move, and in each region at most `move_max_bp` in any minute.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from polycdn.decide.attribute import DOUBT_BP
from polycdn.decide.fill import Ledger, Matrix, apportion
from polycdn.decide.lane import Scene, is_on_probation
from polycdn.model.plan import Plan
from polycdn.model.policy import Policy
from polycdn.model.state import Pace, State
from polycdn.model.topology import Service
from polycdn.model.verdict import Status

MINUTE_MS: Final = 60_000
WISH_MIN_BP: Final = 100
"""A wish to move less than this of a region is not worth a plan, unless it lets somebody in or out."""


@dataclass(frozen=True, slots=True)
class Step:
    """The shares to have next, what of it was wished in each region, and in which regions a wish is left."""

    shares: Matrix
    wished_bp: tuple[int, ...]
    is_ramping: tuple[bool, ...]


def advance(scenes: tuple[Scene, ...], state: State, rescued: Matrix, aimed: Matrix, now_ms: int) -> Step:
    """From the shares that must be (`rescued`) as far towards those that should be as is allowed now."""
    assert state.policy is not None and state.service is not None
    wanted = [moved_bp(row, goal) for row, goal in zip(rescued, aimed, strict=True)]
    is_wished = _worth(scenes, rescued, aimed)
    nothing = (0,) * len(scenes)
    is_rescue = any(scene.before and is_moved(scene, row) for scene, row in zip(scenes, rescued, strict=True))
    if not any(is_wished) or is_rescue or now_ms < state.moved_ms + state.policy.dwell_ms:
        return Step(rescued, nothing, is_wished)
    steps = _in_step(wanted, [_budget_bp(state, scene.region, now_ms) for scene in scenes])
    shares = _mixed(rescued, aimed, steps)
    while any(steps) and _overloads(scenes, state.service, shares, rescued, aimed):
        steps = [step_bp // 2 for step_bp in steps]  # rounding filled a provider to the brim: go less far
        shares = _mixed(rescued, aimed, steps)
    return Step(shares, tuple(steps), _worth(scenes, shares, aimed))


def is_moved(scene: Scene, row: Sequence[int]) -> bool:
    """Whether shares differ from those of the region's plan until now."""
    return [lane.share_bp for lane in scene.lanes] != list(row)


def moved_bp(before: Sequence[int], after: Sequence[int]) -> int:
    """How much of a region's traffic changes its provider."""
    return sum(max(0, new - old) for old, new in zip(before, after, strict=True))


def is_worth_a_move(scene: Scene, before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether a wish is large enough, lets somebody in or out, or mends a floor or a ceiling."""
    if moved_bp(before, after) >= WISH_MIN_BP:
        return True
    return any(
        old != new and (not old or not new or old > lane.provider.ceiling_bp or old < lane.provider.floor_bp)
        for lane, old, new in zip(scene.lanes, before, after, strict=True)
    )


def changes_shares(old: Plan | None, new: Plan) -> bool:
    """Whether a plan differs from the one before in shares or order: what operators count as a change."""
    if old is None:
        return True
    return [(region.region, region.shares, region.order) for region in old.regions] != [
        (region.region, region.shares, region.order) for region in new.regions
    ]


def is_doubtful(region: str, state: State) -> bool:
    """Whether anything in a region calls for short answers: doubt, loss, probation, the operator's word."""
    for verdict in state.verdicts:
        if verdict.region == region and (verdict.status is not Status.UP or verdict.alarm_bp >= DOUBT_BP):
            return True
    if any(standing.region == region and is_on_probation(standing) for standing in state.standings):
        return True
    return any(word.region in (None, region) for word in state.forced)


def next_pace(pace: Pace, is_calm: bool, now_ms: int) -> Pace:
    """What is remembered of a region after a round: since when it is calm, and the last minute's moves."""
    calm_since_ms = (pace.calm_since_ms or max(1, now_ms)) if is_calm else 0
    if calm_since_ms == pace.calm_since_ms and not pace.moves:
        return pace
    moves = tuple(move for move in pace.moves if move[0] + MINUTE_MS > now_ms)
    return Pace(pace.region, calm_since_ms, moves)


def with_move(pace: Pace, wished_bp: int, now_ms: int) -> Pace:
    """The same with a wish carried out now."""
    return Pace(pace.region, pace.calm_since_ms, (*pace.moves, (now_ms, wished_bp))) if wished_bp else pace


def ttl_s(pace: Pace, policy: Policy, now_ms: int) -> int:
    """How long an answer may be kept: long only after `soak_ms` of calm, so that it does not flap."""
    is_settled = pace.calm_since_ms > 0 and now_ms >= pace.calm_since_ms + policy.soak_ms
    return policy.ttl_calm_s if is_settled else policy.ttl_doubt_s


def wish_due_ms(state: State, now_ms: int) -> int:
    """When the next wish may move: after the dwell, and when the last minute's moves leave room again."""
    assert state.policy is not None
    due_ms = state.moved_ms + state.policy.dwell_ms
    for pace in state.paces:
        if pace.moves and sum(moved for _, moved in pace.moves) >= state.policy.move_max_bp:
            due_ms = max(due_ms, pace.moves[0][0] + MINUTE_MS)
    return due_ms if due_ms > now_ms else now_ms + MINUTE_MS


def _worth(scenes: tuple[Scene, ...], start: Matrix, goal: Matrix) -> tuple[bool, ...]:
    return tuple(
        is_worth_a_move(scene, row, aimed) for scene, row, aimed in zip(scenes, start, goal, strict=True)
    )


def _budget_bp(state: State, region: str, now_ms: int) -> int:
    assert state.policy is not None
    spent_bp = sum(
        moved
        for pace in state.paces
        if pace.region == region
        for at_ms, moved in pace.moves
        if at_ms + MINUTE_MS > now_ms
    )
    return max(0, state.policy.move_max_bp - spent_bp)


def _in_step(wanted: Sequence[int], budgets: Sequence[int]) -> list[int]:
    """How much each region moves: all the same part of their way, so that capacity holds in between.

    Capacity bounds sums over regions: between two plans that keep to it, all on the straight line keep to it.
    """
    part, whole = 1, 1
    for wanted_bp, budget_bp in zip(wanted, budgets, strict=True):
        if wanted_bp > 0 and budget_bp * whole < part * wanted_bp:
            part, whole = budget_bp, wanted_bp
    return [wanted_bp * part // whole for wanted_bp in wanted]


def _mixed(start: Matrix, goal: Matrix, steps: Sequence[int]) -> Matrix:
    mixed = []
    for row, aimed, step_bp in zip(start, goal, steps, strict=True):
        gains = apportion(step_bp, [max(0, new - old) for old, new in zip(row, aimed, strict=True)])
        losses = apportion(step_bp, [max(0, old - new) for old, new in zip(row, aimed, strict=True)])
        mixed.append([old + gain - loss for old, gain, loss in zip(row, gains, losses, strict=True)])
    return mixed


def _overloads(
    scenes: tuple[Scene, ...], service: Service, shares: Matrix, rescued: Matrix, aimed: Matrix
) -> bool:
    """Whether shares load a provider more than its capacity and more than both ends of the way do."""
    if all(
        provider.capacity_rps is None and provider.capacity_mbps is None for provider in service.providers
    ):
        return False
    left, start, goal = (_left(scenes, service, matrix) for matrix in (shares, rescued, aimed))
    return any(now < min(0, then, later) for now, then, later in zip(left, start, goal, strict=True))


def _left(scenes: tuple[Scene, ...], service: Service, shares: Matrix) -> list[int]:
    ledger = Ledger(scenes, service.providers)
    for r, row in enumerate(shares):
        for k, share_bp in enumerate(row):
            ledger.give(r, k, share_bp)
    return [left or 0 for left in (*ledger.left_rps, *ledger.left_mbps)]
