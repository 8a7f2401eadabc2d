"""One steered service in the false world: its vantages look, somebody decides, users follow."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from polycdn.errors import PolycdnError
from polycdn.measure.schedule import Rhythm
from polycdn.model.event import Configured, Event, Observed, Quiet
from polycdn.model.observation import Observation
from polycdn.model.plan import Plan
from polycdn.model.policy import Policy
from polycdn.model.state import Report
from polycdn.model.topology import Service, Vantage
from polycdn.model.units import FULL_BP, ORIGIN
from polycdn.model.verdict import Status
from polycdn.run.moves import false_moves, plan_changes
from polycdn.world.cohort import Cohort
from polycdn.world.fault import CALM, Injection, Moment
from polycdn.world.network import LookKey, look, spoken_for
from polycdn.world.population import Population
from polycdn.world.users import Exposure

ROUND_S: Final = 1
"""Between two rounds while a fault is on."""
CALM_ROUND_S: Final = 10
"""Between two rounds while none is on, but not all is calm yet."""
THRESHOLD_TTL_S: Final = 60
THRESHOLD_LOOKS: Final = 3


class BrokenPropertyError(PolycdnError):
    """A plan that must never be; the seed and the moment make it happen again."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Setting:
    """What one run is: `zero_ms` is the start of the outage, `lead_s` how long it was calm before."""

    zero_ms: int
    lead_s: int
    seed: int
    population: Population


class Threshold:
    """DNS failover as usual: answers with the first provider that is not down.

    Down after 3 failures in a row, up after 3 good looks; those of all vantages are one stream per provider,
    in the order of their times.
    """

    def __init__(self, preference: tuple[str, ...]) -> None:
        self._streaks = dict.fromkeys(preference, 0)
        self._is_down = dict.fromkeys(preference, False)

    def see(self, provider: str, is_good: bool) -> None:
        """One more look. A streak counts looks that speak against what is thought now."""
        if provider not in self._streaks:
            return
        speaks_against = is_good == self._is_down[provider]
        self._streaks[provider] = self._streaks[provider] + 1 if speaks_against else 0
        if self._streaks[provider] >= THRESHOLD_LOOKS:
            self._is_down[provider] = not self._is_down[provider]
            self._streaks[provider] = 0

    @property
    def choice(self) -> str:
        """Who is answered with; the first one when all are down."""
        up = [name for name, is_down in self._is_down.items() if not is_down]
        return up[0] if up else next(iter(self._is_down))

    @property
    def is_calm(self) -> bool:
        """Whether nobody is down and no streak has begun."""
        return not any(self._is_down.values()) and not any(self._streaks.values())


class Place:
    """The users of one region and what was told to their resolvers. `hit` None = nobody fails here."""

    def __init__(self, name: str, service: Service, hit: str | None, population: Population) -> None:
        self.name = name
        self.hit = hit
        carriers = [each.name for each in service.providers if not each.regions or name in each.regions]
        # A region that nobody is named for is carried by all: an answer is never empty.
        self.preference = tuple(carriers or [each.name for each in service.providers])
        self.threshold = Threshold(self.preference)
        self.threshold_changes = 0
        self.edge_bp = 0
        self._chosen = self.threshold.choice
        self._population = population
        self._dns: Cohort | None = None
        self._by_threshold = Cohort(population.habits(), self._threshold_bp(), THRESHOLD_TTL_S)
        self._answers_end_s = 0
        self._ttl_s = 0
        self.evacuated_s: int | None = None
        self.detected_s: int | None = None

    def _threshold_bp(self) -> int:
        return FULL_BP if self._chosen == self.hit else 0

    def follow_plan(self, now_s: int, sick_bp: int, ttl_s: int) -> None:
        """From now on our answers give `sick_bp` to the provider that fails, for `ttl_s`."""
        if self._dns is None:
            self._dns = Cohort(self._population.habits(), sick_bp, ttl_s)
        else:
            if self.edge_bp > 0:  # the last answer with the old shares was given just now
                self._answers_end_s = max(self._answers_end_s, now_s + self._ttl_s)
                if sick_bp == 0 and self.evacuated_s is None and self.detected_s is not None:
                    self.evacuated_s = self._answers_end_s
            self._dns.tell(now_s, sick_bp, ttl_s)
        self.edge_bp, self._ttl_s = sick_bp, ttl_s

    def follow_threshold(self, now_s: int) -> None:
        """The usual failover answers as its streaks say now."""
        chosen = self.threshold.choice
        if chosen != self._chosen:
            self._chosen = chosen
            self.threshold_changes += 1
            self._by_threshold.tell(now_s, self._threshold_bp(), THRESHOLD_TTL_S)

    @property
    def is_settled(self) -> bool:
        """Whether all users have the answers that are given out now."""
        return self._by_threshold.is_settled and (self._dns is None or self._dns.is_settled)

    def pass_time(self, now_s: int, until_s: int) -> None:
        """Users look names up until `until_s`: one second, or any time while settled."""
        for cohort in (self._by_threshold, self._dns):
            if cohort is None:
                continue
            if cohort.is_settled:
                cohort.pass_calm(until_s)
            else:
                assert until_s == now_s + 1, "answers are still expiring; each second matters"
                cohort.pass_second()

    def exposure(self, moment: Moment) -> Exposure:
        """How the client kinds of this region meet that moment."""
        dns_parts = self._dns.sick_parts if self._dns is not None else 0
        edge_parts = self.edge_bp * 10_000
        has_other = len(self.preference) > 1
        return Exposure(moment, self._by_threshold.sick_parts, dns_parts, edge_parts, has_other)


@dataclass(slots=True)
class Watch:
    """One vantage's looks at one provider: which is the next, and for which regions it speaks."""

    vantage: Vantage
    provider: str
    rhythm: Rhythm
    regions: tuple[str, ...]
    sequence: int = 0


class Layer:
    """A service, its decider and its users. `injection` None = no provider of it fails."""

    def __init__(
        self, service: Service, policy: Policy, injection: Injection | None, setting: Setting
    ) -> None:
        self.service = service
        self.policy = policy
        self.injection = injection
        self.plans: list[Plan] = []
        self._setting = setting
        self._interval_s = max(ROUND_S, policy.probe_interval_ms // 1000)
        self._watches = _watches(service, policy, setting)
        self._is_calm = False
        self._round_s = -setting.lead_s
        hit = injection.provider if injection else None
        self.regions = {
            region.name: Place(region.name, service, hit, setting.population) for region in service.regions
        }

    def first_fault_ms(self) -> int | None:
        """When the first user fails, None if nobody ever does."""
        return None if self.injection is None else self.injection.first_fault_ms()

    def moment(self, now_s: int, region: str) -> Moment:
        """What users of the provider that fails meet in a region."""
        return CALM if self.injection is None else self.injection.at(now_s * 1000, region)

    def next_round_s(self, now_s: int, horizon_s: int) -> int:
        """When the decider has something to do next. A long calm is one round, just before it ends."""
        grid_s = self._interval_s
        if self.injection is None or not self.injection.is_anywhere(now_s * 1000):
            grid_s = max(grid_s, CALM_ROUND_S)
            if self._is_calm and self._is_good(now_s):
                edge_ms = horizon_s * 1000
                if self.injection is not None:
                    edge_ms = self.injection.next_edge_ms(now_s * 1000, edge_ms)
                rounds = (min(edge_ms // 1000, horizon_s) - self._round_s) // grid_s
                return self._round_s + max(1, rounds) * grid_s
        return self._round_s + grid_s

    def _is_good(self, now_s: int) -> bool:
        """Whether every look is good: nobody fails, and slowness is not judged or not there."""
        moments = [self.moment(now_s, region) for region in self.regions]
        return not any(m.failed_ppm or (m.slow_ppm and self.policy.slow_ms) for m in moments)

    def first_event(self) -> Event:
        """The service as it is, when the run begins."""
        return Configured(self._ms(self._round_s), self.service, self.policy)

    def round(self, now_s: int) -> Event:
        """What the vantages saw since the last round, or one `Quiet` for all of a long calm."""
        was_s, self._round_s = self._round_s, now_s
        if now_s - was_s > max(CALM_ROUND_S, self._interval_s):
            for watch in self._watches:
                watch.sequence = watch.rhythm.newest(self._heard_ms(now_s)) + 1
            return Quiet(self._ms(now_s), (now_s - was_s) // self._interval_s)
        seen = self._looks(now_s)
        for one in seen:
            if one.provider != ORIGIN:
                self.regions[one.region].threshold.see(one.provider, one.failures == 0)
        for place in self.regions.values():
            place.follow_threshold(now_s)
        return Observed(self._ms(now_s), seen)

    def _looks(self, now_s: int) -> tuple[Observation, ...]:
        seen: list[Observation] = []
        zero_ms, seed = self._setting.zero_ms, self._setting.seed
        for watch in self._watches:
            newest = watch.rhythm.newest(self._heard_ms(now_s))
            for sequence in range(watch.sequence, newest + 1):
                at_ms = watch.rhythm.due_ms(sequence) - zero_ms
                key = LookKey(watch.vantage, watch.provider, sequence, at_ms)
                seen += look(seed, zero_ms, key, watch.regions, self.injection)
            watch.sequence = newest + 1
        return tuple(sorted(seen, key=lambda one: (one.at_ms, one.vantage, one.provider, one.region)))

    def follow(self, now_s: int, report: Report, plan: Plan | None) -> None:
        """Takes what was decided, and what the surface holds now; users follow it from `now_s` on.

        Raises BrokenPropertyError when the plan is not one that may be published.
        """
        is_calm = all(place.threshold.is_calm for place in self.regions.values())
        self._is_calm = report.is_calm and is_calm
        self._note_verdicts(report, now_s)
        if plan is None or (self.plans and plan.generation == self.plans[-1].generation):
            return
        self._check(plan)
        self.plans.append(plan)
        for told in plan.regions:
            place = self.regions[told.region]
            place.follow_plan(now_s, dict(told.shares).get(place.hit or "", 0), told.ttl_s)

    def _note_verdicts(self, report: Report, now_s: int) -> None:
        if self.injection is None or not self.injection.is_anywhere(now_s * 1000):
            return
        for verdict in report.verdicts:
            place = self.regions[verdict.region]
            is_down = verdict.provider == place.hit and verdict.status is Status.DOWN
            if is_down and place.detected_s is None:
                place.detected_s = now_s

    def _check(self, plan: Plan) -> None:
        """Raises BrokenPropertyError when a plan is not one that may be published."""
        last = self.plans[-1].generation if self.plans else 0
        faults = [f"generation {plan.generation} after {last}"] if plan.generation <= last else []
        for region in plan.regions:
            total_bp = sum(share_bp for _, share_bp in region.shares)
            if total_bp != FULL_BP or not region.order:
                faults.append(f"region {region.region}: {total_bp} bp over {len(region.shares)} providers")
        if {region.region for region in plan.regions} != set(self.regions):
            faults.append("not every region has an answer")
        if faults:
            at_s = (plan.made_ms - self._setting.zero_ms) // 1000
            seed = self._setting.seed
            raise BrokenPropertyError(
                f"service {plan.service}, {at_s} s into the outage, seed {seed}: {'; '.join(faults)}"
            )

    def plan_changes(self) -> int:
        """How many plans moved anybody's share."""
        return plan_changes(self.plans)

    def false_moves(self) -> int:
        """How many plans took share from a provider without a fault or gave it to a faulty one."""
        return sum(
            any(self._is_false(before, after, place) for place in self.regions.values())
            for before, after in pairwise(self.plans)
        )

    def _is_false(self, before: Plan, after: Plan, place: Place) -> bool:
        plans = [
            replace(plan, regions=tuple(told for told in plan.regions if told.region == place.name))
            for plan in (before, after)
        ]

        def is_faulty(provider: str, at_ms: int) -> bool:
            offset_s = (at_ms - self._setting.zero_ms) // 1000
            return provider == place.hit and self.moment(offset_s, place.name).is_faulty

        return false_moves(plans, place.preference, is_faulty) > 0

    def _heard_ms(self, now_s: int) -> int:
        """Looks until then are heard by now: on average a report waits half a round to be decided on."""
        return self._ms(now_s) - self._interval_s * 500

    def _ms(self, now_s: int) -> int:
        return self._setting.zero_ms + now_s * 1000


def _watches(service: Service, policy: Policy, setting: Setting) -> tuple[Watch, ...]:
    """Who looks at whom, on the rhythm that real vantages have."""
    start_ms = setting.zero_ms - setting.lead_s * 1000
    names = tuple(region.name for region in service.regions)
    carried = [(provider.name, provider.regions) for provider in service.providers]
    if service.origin is not None:
        carried.append((ORIGIN, ()))
    watches = []
    for vantage in service.vantages:
        for provider, its_regions in carried:
            target = f"{vantage.name}/{service.name}/{provider}"
            rhythm = Rhythm(target, start_ms, policy.probe_interval_ms, setting.seed)
            regions = spoken_for(vantage, names, its_regions)
            if regions:
                watches.append(Watch(vantage, provider, rhythm, regions))
    return tuple(watches)
