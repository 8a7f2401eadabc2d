"""Demand of each region as our own edges count it, in place of what the config says. Pure.

An edge sees only the users that come to it. Where a service is steered by DNS that is the share of the
providers that are edges of ours: what they count is told in proportion, as soon as the share has held for
longer than answers are kept. Where nothing but edges carries the plan, everybody comes to them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from polycdn.model.event import Measured
from polycdn.model.settings import Settings
from polycdn.model.state import State
from polycdn.model.topology import ProviderKind, Region, Service
from polycdn.model.units import FULL_BP
from polycdn.run.decider_spec import DeciderSpec
from polycdn.surface.engine import ServedCount

FORGET_MS: Final = 3_600_000
"""Real time without a figure after which the config's demand counts again."""

ARRIVING_BP_MIN: Final = 1_000
"""Of less than a tenth of the users nothing is told about all."""

NEWS_BP: Final = 500
"""A figure is told when it is at least 5 % off the last one told."""

LATE_ENGINE_WINDOWS: Final = 2
SECOND_MS: Final = 1_000


@dataclass(slots=True)
class _Arrivals:
    """What is known of one region: which share arrives at edges, since when, and the figure told last."""

    arriving_bp: int = 0
    since_ms: int = 0
    told_rps: int = 0
    told_ms: int = 0


class DemandMeter:
    """Counts one service's requests at its edges. `edges` are their names; times are those of the wall.

    One figure is told of `window_ms` of requests.
    """

    def __init__(self, service: Service, edges: Iterable[str], is_dns_steered: bool, window_ms: int) -> None:
        self._service = service
        self._is_dns_steered = is_dns_steered
        self._window_ms = window_ms
        self._upto_ms = dict.fromkeys(edges, 0)
        self._requests: dict[tuple[str, int], int] = {}
        self._regions = {region.name: _Arrivals() for region in service.regions}

    def take(self, edge: str, served: Iterable[ServedCount], upto_ms: int) -> None:
        """Counts whole seconds of one edge, all before `upto_ms`."""
        if edge not in self._upto_ms:
            return
        self._upto_ms[edge] = max(self._upto_ms[edge], upto_ms)
        for row in served:
            if row.service == self._service.name and row.region in self._regions:
                key = (row.region, row.at_ms // SECOND_MS)
                self._requests[key] = self._requests.get(key, 0) + row.requests

    def measured(self, state: State, wall_ms: int, at_ms: int) -> tuple[Measured, ...]:
        """The regions whose demand is news, as events of `at_ms`; (0, 0) where it is not known any longer."""
        end_ms = min(self._upto_ms.values(), default=0) // SECOND_MS * SECOND_MS
        self._forget_before(min(end_ms, wall_ms) - 2 * self._window_ms)
        found = []
        for region in self._service.regions:
            arrivals = self._regions[region.name]
            if not arrivals.told_ms:
                arrivals.told_rps, arrivals.told_ms = _told_before(state, region.name), wall_ms
            self._follow(arrivals, state, region.name, wall_ms)
            rps = self._rps(arrivals, region.name, end_ms, wall_ms)
            if rps is None and arrivals.told_rps and wall_ms - arrivals.told_ms >= FORGET_MS:
                rps = 0
            if rps is None:
                continue
            if _is_news(arrivals.told_rps, rps):
                arrivals.told_rps = rps
                found.append(Measured(at_ms, region.name, rps, mbps_of(region, rps)))
            arrivals.told_ms = wall_ms
        return tuple(found)

    def _follow(self, arrivals: _Arrivals, state: State, region: str, wall_ms: int) -> None:
        """Notes which share arrives; a change counts once the answers given before have run out."""
        arriving_bp = self._arriving_bp(state, region)
        if arriving_bp != arrivals.arriving_bp:
            arrivals.arriving_bp = arriving_bp
            kept_s = state.policy.ttl_calm_s if self._is_dns_steered and state.policy else 0
            arrivals.since_ms = wall_ms + kept_s * SECOND_MS

    def _arriving_bp(self, state: State, region: str) -> int:
        plan = state.plan
        if plan is None or not self._upto_ms:
            return 0
        if not self._is_dns_steered:
            return FULL_BP
        own = {each.name for each in self._service.providers if each.kind is ProviderKind.EDGE}
        return sum(
            share_bp
            for each in plan.regions
            if each.region == region
            for name, share_bp in each.shares
            if name in own
        )

    def _rps(self, arrivals: _Arrivals, region: str, end_ms: int, wall_ms: int) -> int | None:
        """Requests a second of all users of a region over the newest window; None = not to be told."""
        start_ms = end_ms - self._window_ms
        is_late = wall_ms - end_ms > LATE_ENGINE_WINDOWS * self._window_ms
        if arrivals.arriving_bp < ARRIVING_BP_MIN or start_ms < arrivals.since_ms or is_late:
            return None
        seconds = range(start_ms // SECOND_MS, end_ms // SECOND_MS)
        requests = sum(self._requests.get((region, second), 0) for second in seconds)
        return -(-requests * FULL_BP // (len(seconds) * arrivals.arriving_bp))

    def _forget_before(self, oldest_ms: int) -> None:
        old = [key for key in self._requests if key[1] < oldest_ms // SECOND_MS]
        for key in old:
            del self._requests[key]


def meters_of(spec: DeciderSpec) -> dict[str, DemandMeter]:
    """One meter for each service that an edge carries, by its name."""
    meters = {}
    for steered in spec.services:
        name = steered.service.name
        edges = [link.name for link in spec.engines if link.role == "edge" and _carries(link.settings, name)]
        others = [link.settings for link in spec.engines if link.role != "edge"]
        others += [link.settings for link in spec.surfaces]
        is_dns_steered = any(_carries(settings, name) for settings in others)
        if edges:
            meters[name] = DemandMeter(steered.service, edges, is_dns_steered, spec.demand_window_ms)
    return meters


def _carries(settings: Iterable[Settings], service: str) -> bool:
    return any(one.service == service for one in settings)


def mbps_of(region: Region, rps: int) -> int:
    """Megabits a second of so many requests, if the config says how large they are; 0 = not known."""
    return rps * region.demand_mbps // region.demand_rps if region.demand_rps else 0


def _told_before(state: State, region: str) -> int:
    """What a decider before us measured; 0 = nothing."""
    return next((demand.demand_rps for demand in state.demand if demand.region == region), 0)


def _is_news(told_rps: int, rps: int) -> bool:
    return abs(rps - told_rps) * FULL_BP >= told_rps * NEWS_BP and rps != told_rps
