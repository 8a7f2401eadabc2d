"""A second reader of the finished plan, who knows the rules but not how the plan came about.

It shares no arithmetic with steer.py and ramp.py, so that a mistake there is not repeated here. A plan with
an ERROR note is not published: ERROR is for a plan that is broken, or worse than going on with the last one.
A plan that is merely not the best there could be gets a WARNING: in an outage the last one is worse still.
"""

from collections.abc import Iterator
from typing import Final

from polycdn.decide.force import stance_of
from polycdn.decide.words import percent
from polycdn.model.event import Stance
from polycdn.model.plan import Note, Plan, RegionPlan, Severity
from polycdn.model.policy import Policy
from polycdn.model.state import State
from polycdn.model.topology import Provider, Region, Service
from polycdn.model.units import FULL_BP
from polycdn.model.verdict import Status

ERROR: Final = Severity.ERROR
WARNING: Final = Severity.WARNING

Findings = Iterator[tuple[Severity, str, str]]


def check(plan: Plan, state: State) -> tuple[Note, ...]:
    """What is wrong with a plan; empty if nothing. `state` holds the plan before and today's verdicts."""
    assert state.service is not None and state.policy is not None
    reader = _Reader(plan, state, state.service, state.policy)
    found = [*reader.lineage(), *reader.regions()]
    if not found:  # what follows reads shares of known providers in known regions
        found = [*reader.moves(), *reader.losses(), *reader.bounds(), *reader.capacity()]
    subject = f"service {state.service.name}"
    return tuple(Note(severity, code, f"{subject}: {text}") for severity, code, text in found)


class _Reader:
    def __init__(self, plan: Plan, state: State, service: Service, policy: Policy) -> None:
        self.plan, self.state, self.service, self.policy = plan, state, service, policy
        self.providers = {provider.name: provider for provider in service.providers}
        self.status = {(verdict.provider, verdict.region): verdict.status for verdict in state.verdicts}
        self.last_seen_down = [(s.provider, s.region) for s in state.standings if s.status is Status.DOWN]
        self.codes = [note.code for note in plan.notes]

    def lineage(self) -> Findings:
        """Generation and parent."""
        if self.plan.service != self.service.name:
            yield ERROR, "service", f"the plan is for service {self.plan.service}"
        newest = max(self.plan.parent, self.state.generation)
        if self.plan.generation <= newest:
            yield ERROR, "generation", f"generation {self.plan.generation} does not grow past {newest}"
        parent = self.state.plan.generation if self.state.plan else 0
        if self.plan.parent != parent:
            yield ERROR, "parent", f"parent {self.plan.parent} is not the plan in force, {parent}"

    def regions(self) -> Findings:
        """Every region once, and each one whole."""
        named = [region.region for region in self.plan.regions]
        wanted = [region.name for region in self.service.regions]
        if named != wanted:
            text = f"the plan has regions {', '.join(named) or 'none'}; the service has {', '.join(wanted)}"
            yield ERROR, "regions", text
            return
        for region, plan in zip(self.service.regions, self.plan.regions, strict=True):
            for code, text in self._shape(region, plan):
                yield ERROR, code, f"region {region.name}: {text}"

    def moves(self) -> Findings:
        """No region moves more than wishes may, beside what lost and overloaded providers had."""
        needed = [self._needed_bp(region.name) for region in self.service.regions]
        # Where capacity binds, a loss in one region is made room for in another.
        is_shared = len(needed) > 1 and any(
            provider.capacity_rps is not None or provider.capacity_mbps is not None
            for provider in self.service.providers
        )
        for plan, needed_bp in zip(self.plan.regions, needed, strict=True):
            before = self._before(plan.region)
            moved_bp = sum(max(0, share_bp - before.get(name, 0)) for name, share_bp in plan.shares)
            limit_bp = self.policy.move_max_bp
            is_excused = moved_bp <= needed_bp or (is_shared and any(needed))
            if before and moved_bp > limit_bp and not is_excused:
                text = f"region {plan.region}: {percent(moved_bp)} of traffic would move"
                yield ERROR, "move", f"{text}, limit {percent(limit_bp)} (policy.move_max_bp)"

    def losses(self) -> Findings:
        """A DOWN provider carries nothing while one that is UP has room; it never gets more than it had."""
        for plan in self.plan.regions:
            before = self._before(plan.region)
            for name, share_bp in plan.shares:
                rescuer = self._rescuer(plan.region, name) if self._is_lost(name, plan.region) else ""
                if rescuer:
                    severity = ERROR if share_bp > before.get(name, 0) else WARNING
                    text = f"region {plan.region}: {name} is DOWN and carries {percent(share_bp)}"
                    yield severity, "down", f"{text} while {rescuer} is UP and has room"

    def bounds(self) -> Findings:
        """Floors and ceilings hold, or a note says why not."""
        for plan in self.plan.regions:
            shares = dict(plan.shares)
            for provider in self._allowed(self._region(plan.region)):
                share_bp = shares.get(provider.name, 0)
                broken = []
                if share_bp > provider.ceiling_bp:
                    broken.append(("ceiling", provider.ceiling_bp))
                if share_bp < provider.floor_bp:
                    broken.append(("floor", provider.floor_bp))
                for bound, bound_bp in broken:
                    if bound not in self.codes:
                        text = f"region {plan.region}: {provider.name} carries {percent(share_bp)}"
                        yield WARNING, bound, f"{text}, {bound} {percent(bound_bp)}, and no note says why"

    def capacity(self) -> Findings:
        """Nobody is over capacity while one that is UP has room for some of it.

        Who carries a region in which it is DOWN, because all are, is past saving: others do not move for it.
        """
        for provider in self.service.providers:
            over = self._over(provider, self.plan)
            if not any(over) or self._carries_where_lost(provider.name):
                continue
            for plan in self.plan.regions:
                demand = self._demand(plan.region)
                would_help = any(is_over and asks for is_over, asks in zip(over, demand, strict=True))
                is_carrying = provider.name in dict(plan.shares)
                rescuer = self._rescuer(plan.region, provider.name) if is_carrying and would_help else ""
                if rescuer:
                    text = f"{provider.name} is over its capacity while {rescuer}"
                    yield WARNING, "room", f"{text} is UP and has room in {plan.region}"

    def _shape(self, region: Region, plan: RegionPlan) -> Iterator[tuple[str, str]]:
        names = [name for name, _ in plan.shares]
        total_bp = sum(share_bp for _, share_bp in plan.shares)
        if not names or not plan.order:
            yield "empty", "nobody is named"
        if total_bp != FULL_BP:
            yield "sum", f"shares sum to {percent(total_bp)}, not 100.0%"
        for name, share_bp in plan.shares:
            if share_bp <= 0:
                yield "share", f"{name} has share {percent(share_bp)}; those named carry something"
        for word, listed in (("shares", names), ("order", list(plan.order))):
            if len(listed) != len(dict.fromkeys(listed)):
                yield "twice", f"a provider has more than one place in {word}"
        allowed = [provider.name for provider in self._allowed(region)]
        for name in dict.fromkeys((*names, *plan.order)):
            if name not in allowed:
                yield "provider", f"{name} is no provider of this region"
        for name in names:
            if name not in plan.order:
                yield "order", f"{name} carries traffic but has no place in the order"
        low_s, high_s = sorted((self.policy.ttl_doubt_s, self.policy.ttl_calm_s))
        if not low_s <= plan.ttl_s <= high_s:
            yield "ttl", f"ttl {plan.ttl_s} s is outside {low_s} to {high_s} s"

    def _needed_bp(self, region: str) -> int:
        """How much of an old plan may leave at once: all that lost and overloaded providers had."""
        allowed = [provider.name for provider in self._allowed(self._region(region))]
        return sum(
            share_bp
            for name, share_bp in self._before(region).items()
            if name not in allowed or self._is_lost(name, region) or self._was_over(name)
        )

    def _before(self, region: str) -> dict[str, int]:
        regions = self.state.plan.regions if self.state.plan else ()
        return next((dict(plan.shares) for plan in regions if plan.region == region), {})

    def _was_over(self, name: str) -> bool:
        return self.state.plan is not None and any(self._over(self.providers[name], self.state.plan))

    def _is_lost(self, name: str, region: str) -> bool:
        stance = stance_of(self.state.forced, name, region)
        if stance is Stance.UP or stance is Stance.DOWN:
            return stance is Stance.DOWN
        status = self._status(name, region)
        was_down = (name, region) in self.last_seen_down
        return status is Status.DOWN or (status is Status.UNKNOWN and was_down)

    def _carries_where_lost(self, name: str) -> bool:
        return any(
            name in dict(plan.shares) and self._is_lost(name, plan.region) for plan in self.plan.regions
        )

    def _rescuer(self, region: str, lost: str) -> str:
        """Somebody UP, whom the operator did not take out, with room for a basis point more; "" if nobody."""
        for provider in self._allowed(self._region(region)):
            stance = stance_of(self.state.forced, provider.name, region)
            is_up = stance is Stance.UP or (
                stance is None and self._status(provider.name, region) is Status.UP
            )
            is_differing = self.policy.require_parity and any(
                (m.provider, m.region) == (provider.name, region) for m in self.state.mismatches
            )
            if provider.name != lost and is_up and not is_differing and self._has_room(provider, region):
                return provider.name
        return ""

    def _has_room(self, provider: Provider, region: str) -> bool:
        load_rps, load_mbps = self._load(provider.name, self.plan)
        demand_rps, demand_mbps = self._demand(region)
        return _fits(load_rps, demand_rps, provider.capacity_rps) and _fits(
            load_mbps, demand_mbps, provider.capacity_mbps
        )

    def _over(self, provider: Provider, plan: Plan) -> tuple[bool, bool]:
        """Whether a plan gives a provider more than it has capacity for, in requests and in megabits."""
        load_rps, load_mbps = self._load(provider.name, plan)
        return _is_above(load_rps, provider.capacity_rps), _is_above(load_mbps, provider.capacity_mbps)

    def _load(self, name: str, plan: Plan) -> tuple[int, int]:
        """Requests and megabits a second that a plan gives a provider, times 10 000."""
        load_rps = load_mbps = 0
        for region in plan.regions:
            demand_rps, demand_mbps = self._demand(region.region)
            share_bp = dict(region.shares).get(name, 0)
            load_rps, load_mbps = load_rps + share_bp * demand_rps, load_mbps + share_bp * demand_mbps
        return load_rps, load_mbps

    def _demand(self, region: str) -> tuple[int, int]:
        configured = self._region(region)
        for demand in self.state.demand:
            if demand.region == region:
                return (
                    demand.demand_rps or configured.demand_rps,
                    demand.demand_mbps or configured.demand_mbps,
                )
        return configured.demand_rps, configured.demand_mbps

    def _region(self, name: str) -> Region:
        return next((region for region in self.service.regions if region.name == name), Region(name))

    def _allowed(self, region: Region) -> list[Provider]:
        """The providers of a region; all of them where none is named for it."""
        found = [p for p in self.service.providers if not p.regions or region.name in p.regions]
        return found or list(self.service.providers)

    def _status(self, name: str, region: str) -> Status:
        return self.status.get((name, region), Status.UNKNOWN)


def _fits(load: int, demand: int, capacity: int | None) -> bool:
    """Whether one basis point more of a region fits."""
    return capacity is None or demand == 0 or load + demand <= capacity * FULL_BP


def _is_above(load: int, capacity: int | None) -> bool:
    return capacity is not None and load > capacity * FULL_BP
