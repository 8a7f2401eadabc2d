"""Where traffic should go: the shares that the policy wants, and those that need alone asks for.

`aim` answers "what would be best", `rescue` "what is the least that must change at once"; ramp.py walks from
the second to the first. Reasons: docs/decisions/0007-steering.md.
"""

from collections.abc import Sequence
from typing import Final

from polycdn.decide.fill import Ledger, Matrix, fill_by_rank, fill_by_weight, overflow, relieve, squeeze
from polycdn.decide.lane import LOST, Footing, Lane, Scene
from polycdn.model.plan import Plan
from polycdn.model.policy import OnTotalLoss, Policy, Rule
from polycdn.model.topology import ProviderKind, Service
from polycdn.model.units import FULL_BP

FASTER_BP: Final = 2_000
FASTER_MS: Final = 10
"""Under `latency`, a provider passes another only if it is faster by a fifth and by 10 ms: smaller
differences are within what one and the same provider shows from one minute to the next."""

DEPTHS: Final = 8
"""How far the bounds of lanes are loosened, one by one, while traffic is left that nobody has room for."""

OPENS_AT: Final = {
    Footing.READY: 0,
    Footing.RETURNING: 0,
    Footing.DOUBTFUL: 1,
    Footing.UNSEEN: 3,
    Footing.DRAINING: 4,
    Footing.MISMATCHED: 6,
    Footing.DOWN: 7,
    Footing.BARRED: DEPTHS,
}
PROBATION_LOOSENS_AT: Final = 2
CEILING_LOOSENS_AT: Final = 5


def aim(
    scenes: tuple[Scene, ...], service: Service, policy: Policy, ranks: Matrix, good: Plan | None
) -> Matrix:
    """The shares that the policy wants, whatever they are now; UNSEEN lanes keep theirs.

    Sums to 10 000 in every region that has a lane.
    """
    ledger = Ledger(scenes, service.providers)
    _keep(ledger, (Footing.UNSEEN,))
    first = _limits(scenes, 0)
    _give_floors(ledger, ranks, first)
    if policy.rule is Rule.WEIGHTED:
        weights = [
            [lane.provider.weight if limit_bp else 0 for lane, limit_bp in zip(scene.lanes, row, strict=True)]
            for scene, row in zip(scenes, first, strict=True)
        ]
        fill_by_weight(ledger, weights, first)
    _fill_all(ledger, ranks, policy, good)
    return ledger.shares


def rescue(
    scenes: tuple[Scene, ...],
    service: Service,
    policy: Policy,
    ranks: Matrix,
    aimed: Matrix,
    good: Plan | None,
) -> Matrix:
    """What must change at once: lost lanes and overloads are left, towards the aim; the rest stays."""
    ledger = Ledger(scenes, service.providers)
    _keep(ledger, tuple(footing for footing in Footing if footing not in LOST))
    if any(ledger.missing_bp(r) for r in range(len(scenes))):
        opened = [
            [0 if scene.is_lost else bp for bp in row] for scene, row in zip(scenes, aimed, strict=True)
        ]
        fill_by_rank(ledger, ranks, opened)
        _fill_all(ledger, ranks, policy, good)
    return ledger.shares


def rank(scene: Scene, rule: Rule) -> list[int]:
    """A region's lanes in the rule's order, health aside; ties in the operator's order."""
    lanes = range(len(scene.lanes))
    if rule is Rule.COST:
        return sorted(lanes, key=lambda k: scene.lanes[k].provider.cost_micros_per_gib)
    if rule is Rule.LATENCY:
        return _rank_by_latency(scene)
    return list(lanes)


def order(scene: Scene, ranking: Sequence[int], shares: Sequence[int]) -> tuple[str, ...]:
    """Everyone who may be tried: those with a share, the largest first, then by footing, then by rank.

    Those forced down are left out unless nobody else is there; those DOWN stay, last: the engine tries them
    when all else has failed.
    """
    place = {k: position for position, k in enumerate(ranking)}
    lanes = scene.lanes
    present = [k for k in ranking if shares[k] > 0 or lanes[k].footing is not Footing.BARRED]
    present.sort(key=lambda k: (-shares[k], 0 if shares[k] else lanes[k].footing, place[k]))
    return tuple(lanes[k].provider.name for k in present)


def _rank_by_latency(scene: Scene) -> list[int]:
    """The order until now, in which a provider moves forward past those that are slower by the margin.

    Providers whose latency is not known keep their places.
    """
    names = [lane.provider.name for lane in scene.lanes]
    before = () if scene.before is None else scene.before.order
    kept = [names.index(name) for name in before if name in names]
    kept += [k for k in range(len(names)) if k not in kept]
    known: list[int] = []
    for k in kept:
        if scene.lanes[k].latency_ms <= 0:
            continue
        position = len(known)
        while position and _is_faster(scene.lanes[k], scene.lanes[known[position - 1]]):
            position -= 1
        known.insert(position, k)
    sorted_known = iter(known)
    return [next(sorted_known) if scene.lanes[k].latency_ms > 0 else k for k in kept]


def _is_faster(lane: Lane, other: Lane) -> bool:
    gain_ms = other.latency_ms - lane.latency_ms
    return gain_ms >= FASTER_MS and gain_ms * FULL_BP >= other.latency_ms * FASTER_BP


def _keep(ledger: Ledger, footings: tuple[Footing, ...]) -> None:
    """Gives lanes on these footings what they carry now, as far as capacity goes."""
    asks: dict[int, list[tuple[int, int, int]]] = {}
    for r, scene in enumerate(ledger.scenes):
        for k, lane in enumerate(scene.lanes):
            if lane.share_bp > 0 and lane.footing in footings:
                asks.setdefault(lane.index, []).append((r, k, lane.share_bp))
    for group in asks.values():
        ledger.grant(group)


def _give_floors(ledger: Ledger, ranks: Matrix, limits: Matrix) -> None:
    floors = [
        [min(lane.provider.floor_bp, limit_bp) for lane, limit_bp in zip(scene.lanes, row, strict=True)]
        for scene, row in zip(ledger.scenes, limits, strict=True)
    ]
    if any(any(row) for row in floors):
        fill_by_rank(ledger, ranks, floors)


def _fill_all(ledger: Ledger, ranks: Matrix, policy: Policy, good: Plan | None) -> None:
    """Gives what is missing everywhere, loosening one bound after the other, and overflow at the very end."""
    scenes = ledger.scenes
    open_regions = [r for r, scene in enumerate(scenes) if not scene.is_lost]
    for depth in range(DEPTHS):
        if not any(ledger.missing_bp(r) > 0 for r in open_regions):
            break
        limits = _limits(scenes, depth)
        fill_by_rank(ledger, ranks, limits)
        squeeze(ledger, ranks, limits)
    if any(scene.is_lost for scene in scenes):
        _fill_lost(ledger, policy, good)
    overflowing = [r for r in range(len(scenes)) if ledger.missing_bp(r) > 0]
    for r in overflowing:
        overflow(ledger, r, _last_resort(scenes[r]))
    if overflowing:  # what a region could not do without may still push others aside
        relieve(ledger, ranks, _limits(scenes, CEILING_LOOSENS_AT))


def _limits(scenes: tuple[Scene, ...], depth: int) -> Matrix:
    return [[0 if scene.is_lost else _limit_bp(lane, depth) for lane in scene.lanes] for scene in scenes]


def _limit_bp(lane: Lane, depth: int) -> int:
    if depth < OPENS_AT[lane.footing]:
        return 0
    if lane.footing is Footing.DOWN:
        return lane.share_bp  # stays where it is; a DOWN provider is never given more
    if depth >= CEILING_LOOSENS_AT:
        return FULL_BP
    if depth < PROBATION_LOOSENS_AT:
        return min(lane.provider.ceiling_bp, lane.earned_bp)
    return lane.provider.ceiling_bp


def _last_resort(scene: Scene) -> list[int]:
    """Who takes the overflow of a region: those on the best footing; if all are lost, all who may."""
    for footings in (
        (Footing.READY, Footing.DOUBTFUL, Footing.RETURNING),
        (Footing.UNSEEN, Footing.DRAINING, Footing.MISMATCHED),
        (Footing.DOWN,),
    ):
        found = [k for k, lane in enumerate(scene.lanes) if lane.footing in footings]
        if found:
            return found
    return list(range(len(scene.lanes)))


def _fill_lost(ledger: Ledger, policy: Policy, good: Plan | None) -> None:
    """Serves regions in which everybody looks DOWN as `on_total_loss` says."""
    weights, limits = [], []
    for scene in ledger.scenes:
        chosen = _weights_at_total_loss(scene, policy.on_total_loss, good) if scene.is_lost else []
        weights.append(chosen or [0] * len(scene.lanes))
        limits.append([FULL_BP if weight else 0 for weight in weights[-1]])
    fill_by_weight(ledger, weights, limits)
    for r, scene in enumerate(ledger.scenes):
        if scene.is_lost:
            overflow(ledger, r, [k for k, weight in enumerate(weights[r]) if weight])


def _weights_at_total_loss(scene: Scene, wish: OnTotalLoss, good: Plan | None) -> list[int]:
    able = [lane.footing is not Footing.BARRED for lane in scene.lanes]
    if not any(able):
        able = [True] * len(scene.lanes)  # an answer that the operator barred is better than none
    weights = [0] * len(scene.lanes)
    if wish is OnTotalLoss.OWN_EDGE:
        weights = [int(lane.provider.kind is ProviderKind.EDGE) for lane in scene.lanes]
    elif wish is OnTotalLoss.LAST_GOOD and good is not None:
        shares = {region.region: dict(region.shares) for region in good.regions}.get(scene.region, {})
        weights = [shares.get(lane.provider.name, 0) for lane in scene.lanes]
    weights = [weight if can else 0 for weight, can in zip(weights, able, strict=True)]
    if any(weights):
        return weights
    own = [lane.provider.weight if can else 0 for lane, can in zip(scene.lanes, able, strict=True)]
    return own if any(own) else [int(can) for can in able]
