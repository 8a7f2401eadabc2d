"""Integer arithmetic of shares under capacity: who gets how many basis points of which region.

A provider's capacity counts over all regions of the service, in requests and in megabits a second. Loads are
kept in share x demand, so that nothing is rounded: 10 000 bp of 600 requests/s are 6 000 000.
"""

from collections.abc import Sequence

from polycdn.decide.lane import Scene
from polycdn.model.topology import Provider
from polycdn.model.units import FULL_BP

Matrix = list[list[int]]
"""Basis points by region and lane, as scenes and their lanes are ordered."""


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """`total` split in proportion to weights, by largest remainder, ties to the earlier; 0 each if all 0."""
    whole = sum(weights)
    if whole <= 0:
        return [0] * len(weights)
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda k: (-(total * weights[k] % whole), k))
    for k in by_remainder[: total - sum(parts)]:
        parts[k] += 1
    return parts


def apportion_within(
    total: int, weights: Sequence[int], lows: Sequence[int], highs: Sequence[int]
) -> list[int]:
    """As `apportion`, with each part between its low and its high; less than `total` if the highs are.

    Parts that would leave their bounds are fixed at them, the side that is further off first, and the rest
    is split again among the others: the only split that is proportional wherever it is free.
    """
    fixed: dict[int, int] = {k: lows[k] for k in range(len(weights)) if weights[k] <= 0}
    while True:
        free = [k for k in range(len(weights)) if k not in fixed]
        parts = apportion(max(0, total - sum(fixed.values())), [weights[k] for k in free])
        over = [(k, part - highs[k]) for k, part in zip(free, parts, strict=True) if part > highs[k]]
        under = [(k, lows[k] - part) for k, part in zip(free, parts, strict=True) if part < lows[k]]
        if not over and not under:
            fixed.update(zip(free, parts, strict=True))
            return [fixed[k] for k in range(len(weights))]
        if sum(excess for _, excess in over) >= sum(lack for _, lack in under):
            fixed.update((k, highs[k]) for k, _ in over)
        else:
            fixed.update((k, lows[k]) for k, _ in under)


class Ledger:
    """Shares being given, and the capacity that is left. Lives within one decision."""

    def __init__(self, scenes: tuple[Scene, ...], providers: tuple[Provider, ...]) -> None:
        self.scenes = scenes
        self.shares: Matrix = [[0] * len(scene.lanes) for scene in scenes]
        self.left_rps = [_scaled(provider.capacity_rps) for provider in providers]
        self.left_mbps = [_scaled(provider.capacity_mbps) for provider in providers]

    def missing_bp(self, r: int) -> int:
        """What nobody was given yet of a region."""
        return FULL_BP - sum(self.shares[r])

    def room_bp(self, r: int, k: int) -> int:
        """How much more of a region a lane's provider has capacity for."""
        scene, index = self.scenes[r], self.scenes[r].lanes[k].index
        room_bp, left_rps, left_mbps = FULL_BP, self.left_rps[index], self.left_mbps[index]
        if left_rps is not None and scene.demand_rps > 0:
            room_bp = min(room_bp, left_rps // scene.demand_rps)
        if left_mbps is not None and scene.demand_mbps > 0:
            room_bp = min(room_bp, left_mbps // scene.demand_mbps)
        return max(0, room_bp)

    def give(self, r: int, k: int, share_bp: int) -> None:
        """Adds to a lane's share, or takes away when negative; capacity is not looked at."""
        scene, index = self.scenes[r], self.scenes[r].lanes[k].index
        self.shares[r][k] += share_bp
        left_rps, left_mbps = self.left_rps[index], self.left_mbps[index]
        if left_rps is not None:
            self.left_rps[index] = left_rps - share_bp * scene.demand_rps
        if left_mbps is not None:
            self.left_mbps[index] = left_mbps - share_bp * scene.demand_mbps

    def grant(self, asks: Sequence[tuple[int, int, int]]) -> None:
        """Gives asks (region, lane, bp) of one provider: all of them, or its capacity in proportion."""
        for (r, k, _), granted_bp in zip(asks, self.granted(asks), strict=True):
            self.give(r, k, granted_bp)

    def granted(self, asks: Sequence[tuple[int, int, int]]) -> list[int]:
        """What capacity allows of asks of one provider, cut alike in all regions."""
        index = self.scenes[asks[0][0]].lanes[asks[0][1]].index
        load_rps = sum(bp * self.scenes[r].demand_rps for r, _, bp in asks)
        load_mbps = sum(bp * self.scenes[r].demand_mbps for r, _, bp in asks)
        part, whole = 1, 1
        for left, load in ((self.left_rps[index], load_rps), (self.left_mbps[index], load_mbps)):
            if left is not None and load > left and max(0, left) * whole < part * load:
                part, whole = max(0, left), load
        return [bp * part // whole for _, _, bp in asks]


def fill_by_rank(ledger: Ledger, ranks: Matrix, limits: Matrix) -> None:
    """Gives what is missing to lanes in each region's order of rank, up to their limits and capacity.

    All first choices are served before any second, so that no region crowds out another by its name.
    """
    for rank in range(max((len(order) for order in ranks), default=0)):
        asks: dict[int, list[tuple[int, int, int]]] = {}
        for r, order in enumerate(ranks):
            if rank >= len(order):
                continue
            k = order[rank]
            ask_bp = min(ledger.missing_bp(r), limits[r][k] - ledger.shares[r][k])
            if ask_bp > 0:
                asks.setdefault(ledger.scenes[r].lanes[k].index, []).append((r, k, ask_bp))
        for group in asks.values():
            ledger.grant(group)
            for r, k, _ in group:  # what rounding in proportion left over
                _top_up(ledger, r, k, limits[r][k])


def fill_by_weight(ledger: Ledger, weights: Matrix, limits: Matrix) -> None:
    """Gives what is missing in proportion to weights, between what lanes have already and their limits.

    Where a provider's capacity is less than its part, it is cut alike in all regions and the others' parts
    grow.
    """
    highs = [list(row) for row in limits]
    for _ in ledger.left_rps:
        wanted = [
            apportion_within(FULL_BP, weights[r], ledger.shares[r], highs[r]) for r in range(len(highs))
        ]
        if not _cut_to_capacity(ledger, wanted, highs):
            break
    for r, row in enumerate(wanted):
        for k, share_bp in enumerate(row):
            if weights[r][k] > 0 and share_bp > ledger.shares[r][k]:
                _top_up(ledger, r, k, share_bp)


def squeeze(ledger: Ledger, ranks: Matrix, limits: Matrix) -> None:
    """Finds room for what is missing by moving other regions' shares to providers that the region lacks."""
    if len(ranks) < 2:
        return
    is_better = True
    while is_better:
        is_better = False
        for r, order in enumerate(ranks):
            for k in order:
                want_bp = min(ledger.missing_bp(r), limits[r][k] - ledger.shares[r][k])
                if want_bp > 0:
                    _make_room(ledger, r, k, want_bp, ranks, limits, ())
                    is_better = _top_up(ledger, r, k, limits[r][k]) > 0 or is_better


def overflow(ledger: Ledger, r: int, lanes: Sequence[int]) -> None:
    """Spreads what is missing in a region in proportion to capacity, beyond it; equally if all have none."""
    missing_bp = ledger.missing_bp(r)
    if missing_bp <= 0 or not lanes:
        return
    weights = [_capacity_bp(ledger.scenes[r], k) for k in lanes]
    if not any(weights):
        weights = [1] * len(lanes)
    for k, share_bp in zip(lanes, apportion(missing_bp, weights), strict=True):
        ledger.give(r, k, share_bp)


def relieve(ledger: Ledger, ranks: Matrix, limits: Matrix) -> None:
    """Moves what overloaded providers carry to those of the same region that have room."""
    for r, order in enumerate(ranks):
        for from_k in order:
            for to_k in order:
                shift_bp = min(
                    _lack_bp(ledger, r, ledger.scenes[r].lanes[from_k].index, 0, r),
                    ledger.shares[r][from_k],
                    limits[r][to_k] - ledger.shares[r][to_k],
                    ledger.room_bp(r, to_k),
                )
                if shift_bp > 0 and from_k != to_k:
                    ledger.give(r, from_k, -shift_bp)
                    ledger.give(r, to_k, shift_bp)


def _scaled(capacity: int | None) -> int | None:
    return None if capacity is None else capacity * FULL_BP


def _top_up(ledger: Ledger, r: int, k: int, limit_bp: int) -> int:
    """Raises a lane's share towards a limit as far as there is demand and room; returns by how much."""
    more_bp = min(ledger.missing_bp(r), limit_bp - ledger.shares[r][k], ledger.room_bp(r, k))
    if more_bp > 0:
        ledger.give(r, k, more_bp)
    return max(0, more_bp)


def _cut_to_capacity(ledger: Ledger, wanted: Matrix, highs: Matrix) -> bool:
    """Lowers the highs of providers that were wanted beyond their capacity; whether there was one."""
    asks: dict[int, list[tuple[int, int, int]]] = {}
    for r, row in enumerate(wanted):
        for k, share_bp in enumerate(row):
            ask_bp = share_bp - ledger.shares[r][k]
            if ask_bp > 0:
                asks.setdefault(ledger.scenes[r].lanes[k].index, []).append((r, k, ask_bp))
    is_cut = False
    for group in asks.values():
        for (r, k, ask_bp), granted_bp in zip(group, ledger.granted(group), strict=True):
            if granted_bp < ask_bp:
                highs[r][k] = ledger.shares[r][k] + granted_bp
                is_cut = True
    return is_cut


def _make_room(
    ledger: Ledger, r: int, k: int, want_bp: int, ranks: Matrix, limits: Matrix, busy: tuple[int, ...]
) -> None:
    """Moves other regions' shares off a lane's provider until it has room for `want_bp` of region `r`."""
    index = ledger.scenes[r].lanes[k].index
    busy = (*busy, index)
    for other, order in enumerate(ranks):
        from_k = next((j for j in order if ledger.scenes[other].lanes[j].index == index), None)
        if other == r or from_k is None or limits[other][from_k] <= 0:
            continue
        for to_k in order:
            lack_bp = _lack_bp(ledger, r, index, want_bp, other)
            shift_bp = min(
                lack_bp, ledger.shares[other][from_k], limits[other][to_k] - ledger.shares[other][to_k]
            )
            if ledger.scenes[other].lanes[to_k].index in busy or shift_bp <= 0:
                continue
            if ledger.room_bp(other, to_k) < shift_bp:
                _make_room(ledger, other, to_k, shift_bp, ranks, limits, busy)
            shift_bp = min(shift_bp, ledger.room_bp(other, to_k), ledger.shares[other][from_k])
            ledger.give(other, from_k, -shift_bp)
            ledger.give(other, to_k, shift_bp)


def _lack_bp(ledger: Ledger, r: int, index: int, want_bp: int, other: int) -> int:
    """How much of region `other` a provider must lose to have room for `want_bp` of region `r`."""
    lack_bp = 0
    for left, demand_in, demand_out in (
        (ledger.left_rps[index], ledger.scenes[r].demand_rps, ledger.scenes[other].demand_rps),
        (ledger.left_mbps[index], ledger.scenes[r].demand_mbps, ledger.scenes[other].demand_mbps),
    ):
        if left is not None and demand_out > 0:
            lack_bp = max(lack_bp, -(-(want_bp * demand_in - left) // demand_out))
    return lack_bp


def _capacity_bp(scene: Scene, k: int) -> int:
    """A provider's capacity in basis points of a region's demand; its tighter resource counts."""
    provider = scene.lanes[k].provider
    bounds = [
        capacity * FULL_BP // demand
        for capacity, demand in (
            (provider.capacity_rps, scene.demand_rps),
            (provider.capacity_mbps, scene.demand_mbps),
        )
        if capacity is not None and demand > 0
    ]
    return min(bounds, default=FULL_BP)
