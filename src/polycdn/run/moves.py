"""Counts of what plans did to traffic, by somebody who did not make them. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise

from polycdn.model.plan import Plan

Faulty = Callable[[str, int], bool]
"""Whether a provider has an injected fault at a time (ms)."""


def shares_of(plan: Plan) -> dict[str, dict[str, int]]:
    """Region -> provider -> share_bp."""
    return {region.region: dict(region.shares) for region in plan.regions}


def plan_changes(plans: Sequence[Plan]) -> int:
    """How many plans gave somebody another share than the plan before; the first one is no change."""
    return sum(shares_of(before) != shares_of(after) for before, after in pairwise(plans))


def false_moves(plans: Sequence[Plan], preference: Sequence[str], is_faulty: Faulty) -> int:
    """How many plans moved share wrongly.

    Wrong is to give share to a faulty provider while one without a fault carries or could carry it, and to
    take share from a provider without a fault, unless it goes to one that the operator prefers and that
    has none either: that is the way home.
    """
    return sum(_is_false(before, after, preference, is_faulty) for before, after in pairwise(plans))


def _is_false(before: Plan, after: Plan, preference: Sequence[str], is_faulty: Faulty) -> bool:
    faulty = {name for name in preference if is_faulty(name, after.made_ms)}
    return any(_is_wrong(_moved(before, after, region), preference, faulty) for region in shares_of(after))


def _moved(before: Plan, after: Plan, region: str) -> dict[str, int]:
    was, now = shares_of(before).get(region, {}), shares_of(after)[region]
    return {name: now.get(name, 0) - was.get(name, 0) for name in {**was, **now}}


def _is_wrong(moved: Mapping[str, int], preference: Sequence[str], faulty: Collection[str]) -> bool:
    rank = {name: index for index, name in enumerate(preference)}
    gained = [name for name, change in moved.items() if change > 0]
    lost = [name for name, change in moved.items() if change < 0]
    if any(name in faulty for name in gained) and len(faulty) < len(preference):
        return True
    return any(name not in faulty and not any(rank[other] < rank[name] for other in gained) for name in lost)
