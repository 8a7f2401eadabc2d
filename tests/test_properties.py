"""What holds whatever happens: properties of every sequence of verdicts, events and times."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polycdn.decide.assess import Assessment
from polycdn.decide.step import decide_on, step
from polycdn.model.event import (
    Configured,
    Forced,
    Frozen,
    Measured,
    Observed,
    Quiet,
    Released,
    Resumed,
    Stance,
)
from polycdn.model.observation import Observation, Reason
from polycdn.model.plan import Plan, Severity
from polycdn.model.policy import OnTotalLoss, Policy, Rule
from polycdn.model.state import Demand, Standing, State
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Region, Service, Vantage
from polycdn.model.units import FULL_BP
from polycdn.model.verdict import Status, Verdict
from polycdn.model.wire import digest

START_MS = 1_763_466_480_000
MINUTE_MS = 60_000
NAMES = ("fast", "near", "wide", "own")
PLACES = ("eu", "us")
UNHURRIED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(UNHURRIED, max_examples=20)


# Services, policies and what happens to them.

capacities = st.none() | st.integers(0, 3_000)


@st.composite
def services(draw, max_regions: int = 2) -> Service:
    """Two to four providers, one or two regions; every region has somebody."""
    regions = tuple(
        Region(name, demand_rps=draw(st.integers(0, 2_000)), demand_mbps=draw(st.sampled_from((0, 0, 900))))
        for name in PLACES[: draw(st.integers(1, max_regions))]
    )
    providers = tuple(
        Provider(
            name,
            ProviderKind.EDGE if name == "own" else ProviderKind.CDN,
            Endpoint(f"{name}.test"),
            capacity_rps=draw(capacities),
            capacity_mbps=draw(st.none() | st.integers(0, 2_000)),
            cost_micros_per_gib=draw(st.integers(0, 3)),
            weight=draw(st.integers(0, 5)),
            floor_bp=draw(st.sampled_from((0, 0, 0, 500, 2_000))),
            ceiling_bp=draw(st.sampled_from((10_000, 10_000, 6_000, 3_000))),
            regions=draw(st.sampled_from(((), (), (), ("eu",)))),
        )
        for name in NAMES[: draw(st.integers(2, 4))]
    )
    vantages = tuple(Vantage(f"v{number}") for number in range(1, 4))
    return Service("www", "www.test", providers, regions=regions, vantages=vantages)


policies = st.builds(
    Policy,
    rule=st.sampled_from(Rule),
    on_total_loss=st.sampled_from(OnTotalLoss),
    move_max_bp=st.sampled_from((1, 100, 1_000, 3_000, 10_000)),
    dwell_ms=st.sampled_from((0, 1_000, 10_000, 60_000, 90_000)),
    hold_down_ms=st.just(5_000),
    probation_step_ms=st.just(10_000),
    soak_ms=st.sampled_from((0, 20_000, 300_000)),
)


@dataclass(frozen=True)
class Turn:
    """One moment: how much later, which verdicts, which words of the operator, which demand."""

    later_ms: int
    statuses: tuple[Status, ...]
    latencies_ms: tuple[int, ...]
    earned_bp: tuple[int, ...]
    stances: tuple[Stance | None, ...]
    demand_rps: int | None


@st.composite
def turns(draw) -> Turn:
    seats = len(NAMES) * len(PLACES)
    mostly_up = st.sampled_from((Status.UP,) * 5 + (Status.DOWN,) * 2 + (Status.DEGRADED, Status.UNKNOWN))
    stance = st.sampled_from((None,) * 8 + (Stance.DOWN, Stance.DRAIN, Stance.UP))
    return Turn(
        later_ms=draw(st.sampled_from((0, 1_000, 7_000, 10_000, 59_000, 60_000, 61_000, 400_000))),
        statuses=draw(st.tuples(*[mostly_up] * seats)),
        latencies_ms=draw(st.tuples(*[st.sampled_from((0, 20, 25, 90, 200))] * seats)),
        earned_bp=draw(st.tuples(*[st.sampled_from((FULL_BP,) * 4 + (500, 4_000))] * seats)),
        stances=draw(st.tuples(*[stance] * len(NAMES))),
        demand_rps=draw(st.none() | st.integers(0, 4_000)),
    )


def seat_of(provider: str, region: str) -> int:
    return NAMES.index(provider) * len(PLACES) + PLACES.index(region)


def assessed(service: Service, turn: Turn, now_ms: int) -> Assessment:
    verdicts, standings = [], []
    for provider in service.providers:
        for region in service.regions:
            if not is_allowed(service, provider, region.name):
                continue
            seat = seat_of(provider.name, region.name)
            status, earned_bp = turn.statuses[seat], turn.earned_bp[seat]
            since_ms = now_ms - 120_000
            verdicts.append(
                Verdict(provider.name, region.name, status, since_ms, latency_ms=turn.latencies_ms[seat])
            )
            is_back = status is Status.UP and earned_bp < FULL_BP
            standings.append(
                Standing(
                    provider.name,
                    region.name,
                    Status.UP if status is Status.DEGRADED else status,
                    since_ms,
                    probation_since_ms=since_ms if is_back else 0,
                    probation_bp=earned_bp if is_back else FULL_BP,
                )
            )
    return Assessment((), tuple(standings), tuple(verdicts), (), 0)


def happened(state: State, turn: Turn, now_ms: int) -> State:
    """The state as the operator and the counters have made it by now."""
    forced = tuple(
        Forced(now_ms, provider.name, turn.stances[NAMES.index(provider.name)], now_ms + 3_600_000)
        for provider in state.service.providers
        if turn.stances[NAMES.index(provider.name)] is not None
    )
    demand = state.demand
    if turn.demand_rps is not None:
        demand = tuple(Demand(region.name, turn.demand_rps, 0) for region in state.service.regions)
    return replace(state, forced=forced, demand=demand)


# What is checked, by arithmetic of its own.


@dataclass
class Judge:
    """Reads plans as they come; remembers wished moves, to count them by the minute."""

    service: Service
    policy: Policy
    wished: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    moved_ms: int = -(10**9)

    def read(self, before: State, after: State, plan: Plan | None, notes) -> None:
        assert [note.text for note in notes if note.severity is Severity.ERROR] == []
        assert [note.text for note in notes if note.code in ("room", "down")] == []
        if plan is None:
            return
        assert plan.generation > (before.plan.generation if before.plan else 0)
        self._whole(plan)
        self._obeyed(plan, after)
        self._roomy(plan, after)
        if before.plan is not None:
            self._slow(before.plan, plan, after)

    def _whole(self, plan: Plan) -> None:
        assert [region.region for region in plan.regions] == [r.name for r in self.service.regions]
        for region in plan.regions:
            assert sum(bp for _, bp in region.shares) == FULL_BP
            assert all(0 < bp <= FULL_BP for _, bp in region.shares)
            named = [name for name, _ in region.shares]
            assert named == list(region.order)[: len(named)]
            assert len(set(region.order)) == len(region.order)
            assert self.policy.ttl_doubt_s <= region.ttl_s <= self.policy.ttl_calm_s

    def _obeyed(self, plan: Plan, after: State) -> None:
        for region in plan.regions:
            allowed = [p.name for p in self.service.providers if is_allowed(self.service, p, region.region)]
            barred = [name for name in allowed if stance(after, name) is Stance.DOWN]
            for name, _ in region.shares:
                assert name in allowed
                assert name not in barred or len(barred) == len(allowed)

    def _roomy(self, plan: Plan, after: State) -> None:
        """No provider over its capacity, and none that is DOWN carries, while one that is UP has room."""
        spare = {p.name: spare_load(self.service, plan, after, p) for p in self.service.providers}
        past_saving = [n for r in plan.regions for n, _ in r.shares if self._is_hopeless(after, n, r.region)]
        for region in plan.regions:
            asked = demand_of(after, self.service, region.region)
            fit = [
                p.name
                for p in self.service.providers
                if is_allowed(self.service, p, region.region)
                and is_fit(after, p.name, region.region)
                and fits(spare[p.name], asked)
            ]
            for name, _ in region.shares:
                if name in past_saving:
                    continue
                others = [other for other in fit if other != name]
                assert not (is_lost(after, name, region.region) and others), (name, others, region)
                is_over = any(left < 0 and ask for left, ask in zip(spare[name], asked, strict=True))
                assert not (is_over and others), (name, others, spare, region)

    def _is_hopeless(self, after: State, name: str, region: str) -> bool:
        """Whether a provider carries a region in which everybody is lost."""
        allowed = [p.name for p in self.service.providers if is_allowed(self.service, p, region)]
        return name in allowed and all(is_lost(after, other, region) for other in allowed)

    def _slow(self, old: Plan, new: Plan, after: State) -> None:
        """Where nobody was lost or overloaded: not within the dwell, and no more than allowed a minute."""
        if [dict(r.shares) for r in old.regions] == [dict(r.shares) for r in new.regions]:
            return
        if not self._is_needed(old, after):
            assert new.made_ms - self.moved_ms >= self.policy.dwell_ms
            for was, now in zip(old.regions, new.regions, strict=True):
                shares = dict(was.shares)
                moved_bp = sum(max(0, bp - shares.get(name, 0)) for name, bp in now.shares)
                log = self.wished.setdefault(now.region, [])
                log.append((new.made_ms, moved_bp))
                recent = sum(bp for at_ms, bp in log if at_ms > new.made_ms - MINUTE_MS)
                assert recent <= self.policy.move_max_bp
        self.moved_ms = new.made_ms

    def _is_needed(self, old: Plan, after: State) -> bool:
        for region in old.regions:
            for name, _ in region.shares:
                provider = next(p for p in self.service.providers if p.name == name)
                if is_lost(after, name, region.region):
                    return True
                if any(spare < 0 for spare in spare_load(self.service, old, after, provider)):
                    return True
        return False


def is_allowed(service: Service, provider: Provider, region: str) -> bool:
    if any(not p.regions or region in p.regions for p in service.providers):
        return not provider.regions or region in provider.regions
    return True


def stance(state: State, name: str) -> Stance | None:
    return next((word.stance for word in state.forced if word.provider == name), None)


def status(state: State, name: str, region: str) -> Status:
    found = [v.status for v in state.verdicts if (v.provider, v.region) == (name, region)]
    return found[0] if found else Status.UNKNOWN


def is_lost(state: State, name: str, region: str) -> bool:
    word = stance(state, name)
    return word is Stance.DOWN or (word is not Stance.UP and status(state, name, region) is Status.DOWN)


def is_fit(state: State, name: str, region: str) -> bool:
    word = stance(state, name)
    return word is Stance.UP or (word is None and status(state, name, region) is Status.UP)


def demand_of(state: State, service: Service, region: str) -> tuple[int, int]:
    """As measured; what was not measured (0) as configured."""
    rps, mbps = next((r.demand_rps, r.demand_mbps) for r in service.regions if r.name == region)
    for demand in state.demand:
        if demand.region == region:
            return demand.demand_rps or rps, demand.demand_mbps or mbps
    return rps, mbps


def spare_load(service: Service, plan: Plan, state: State, provider: Provider) -> list[int]:
    """What is left of each capacity, times 10 000; very much where there is no limit."""
    spare = []
    for kind, capacity in enumerate((provider.capacity_rps, provider.capacity_mbps)):
        load = sum(
            dict(region.shares).get(provider.name, 0) * demand_of(state, service, region.region)[kind]
            for region in plan.regions
        )
        spare.append(10**12 if capacity is None else capacity * FULL_BP - load)
    return spare


def fits(spare: list[int], demand: tuple[int, int]) -> bool:
    """Whether one basis point more of a region fits."""
    return all(ask == 0 or ask <= left for left, ask in zip(spare, demand, strict=True))


def played(service: Service, policy: Policy, story: list[Turn], judge: Judge | None = None) -> list[str]:
    """The digests of all decisions of a story told in verdicts."""
    state = State(service=service, policy=policy)
    now_ms, digests = START_MS, []
    for turn in story:
        now_ms += turn.later_ms
        told = happened(state, turn, now_ms)
        decision = decide_on(told, assessed(service, turn, now_ms), now_ms, is_changed=True)
        if judge:
            judge.read(told, decision.state, decision.plan, decision.report.notes)
        digests.append(digest(decision))
        state = decision.state
    return digests


# Properties of steering.


@UNHURRIED
@given(services(), policies, st.lists(turns(), min_size=1, max_size=8))
def test_every_plan_is_whole_obeys_the_operator_and_keeps_to_capacity_and_pace(service, policy, story):
    played(service, policy, story, Judge(service, policy))


@LONG
@given(services(), policies, st.lists(turns(), min_size=1, max_size=5))
def test_the_same_story_gives_the_same_digests(service, policy, story):
    assert played(service, policy, story) == played(service, policy, story)


@UNHURRIED
@given(st.permutations(NAMES), st.sampled_from(Rule), st.data())
def test_losing_any_set_short_of_all_leaves_an_answer_without_them(names, rule, data):
    providers = tuple(Provider(name, ProviderKind.CDN, Endpoint("x.test"), weight=2) for name in names)
    service = Service("www", "www.test", providers, regions=(Region("eu", demand_rps=500),))
    lost = data.draw(st.sets(st.sampled_from(names), max_size=len(names) - 1))
    state = State(service=service, policy=Policy(rule=rule))
    for at_ms, gone in ((START_MS, ()), (START_MS + 500, lost)):
        turn = Turn(
            later_ms=0,
            statuses=tuple(Status.DOWN if name in gone else Status.UP for name in NAMES for _ in PLACES),
            latencies_ms=(30,) * 8,
            earned_bp=(FULL_BP,) * 8,
            stances=(None,) * 4,
            demand_rps=None,
        )
        state = decide_on(state, assessed(service, turn, at_ms), at_ms, is_changed=True).state
    carriers = [name for name, _ in state.plan.regions[0].shares]
    assert carriers
    assert not lost & set(carriers)
    assert set(state.plan.regions[0].order) == set(names), "those lost stay in the order, as the last resort"


# Properties of step: events in, decisions out.

SERVICE = Service(
    "www",
    "www.test",
    tuple(Provider(name, ProviderKind.CDN, Endpoint(f"{name}.test")) for name in NAMES[:3]),
    regions=(Region("eu"), Region("us")),
    vantages=tuple(Vantage(f"v{number}") for number in range(1, 4)),
)
QUICK = Policy(hold_down_ms=5_000, probation_step_ms=4_000, soak_ms=20_000, dwell_ms=3_000)
whoever = st.sampled_from((*NAMES[:3], "nobody"))
somewhere = st.sampled_from((None, "eu", "us", "nowhere"))


def looks(at_ms: int, failing: frozenset[str] = frozenset(), service: Service = SERVICE):
    """One look of every vantage at every provider."""
    return tuple(
        Observation(
            at_ms,
            provider.name,
            "anywhere",
            vantage.name,
            Reason.HTTP_5XX if provider.name in failing else Reason.OK,
            failures=int(provider.name in failing),
        )
        for vantage in service.vantages
        for provider in service.providers
    )


@st.composite
def events(draw):
    """(seconds later, rounds, a function from a time to an event)."""
    later_s = draw(st.integers(-5, 30))
    failing = draw(st.frozensets(st.sampled_from(NAMES[:3])))
    until_s = draw(st.integers(-10, 300_000))
    provider, region = draw(whoever), draw(somewhere)
    stance_ = draw(st.sampled_from(Stance))
    demand = draw(st.integers(-1, 10_000))
    generation = draw(st.integers(0, 100))
    rounds = draw(st.integers(1, 60))
    kinds = (
        lambda ms: Observed(ms, looks(ms, failing)),
        lambda ms: Observed(ms, looks(ms, failing)),
        lambda ms: Observed(ms, looks(ms)),
        lambda ms: Quiet(ms, rounds),
        lambda ms: Forced(ms, provider, stance_, ms + until_s * 1_000, region, "ops"),
        lambda ms: Released(ms, provider, region),
        lambda ms: Frozen(ms, ms + until_s * 100),
        lambda ms: Measured(ms, region or "eu", demand, 0),
        lambda ms: Resumed(ms, generation),
        lambda ms: Configured(ms, SERVICE, QUICK),
    )
    return later_s, draw(st.integers(1, 4)), draw(st.sampled_from(kinds))


def stepped(story, start=None) -> list:
    """The decisions of a story told in events."""
    decision = start or step(State(), Configured(START_MS, SERVICE, QUICK), START_MS)
    decisions, now_ms = [decision], START_MS
    for later_s, times, make in story:
        for _ in range(times):
            now_ms += later_s * 1_000
            decision = step(decision.state, make(now_ms), now_ms)
            decisions.append(decision)
    return decisions


stories = st.lists(events(), max_size=12)


@LONG
@given(stories)
def test_the_same_events_give_the_same_decisions(story):
    assert [digest(one) for one in stepped(story)] == [digest(one) for one in stepped(story)]


@LONG
@given(stories)
def test_time_and_generations_never_go_back_and_no_plan_is_wrong(story):
    decisions = stepped(story)
    judge = Judge(SERVICE, replace(QUICK, dwell_ms=0, move_max_bp=FULL_BP))
    for before, after in pairwise(decisions):
        assert after.state.now_ms >= before.state.now_ms
        assert after.report.next_due_ms == 0 or after.report.next_due_ms > after.state.now_ms
        if after.plan is not None:
            assert after.plan.generation > before.state.generation
            assert after.plan == after.state.plan
        judge._whole(after.state.plan)


@LONG
@given(stories, st.integers(1, 500))
def test_a_freeze_changes_nothing_until_it_ends(story, length_s):
    first = step(State(), Configured(START_MS, SERVICE, QUICK), START_MS)
    until_ms = START_MS + length_s * 1_000
    frozen = step(first.state, Frozen(START_MS, until_ms), START_MS)
    thaws = [Frozen]
    for decision in stepped([e for e in story if type(e[2](0)) not in thaws], frozen)[1:]:
        if decision.state.now_ms < until_ms:
            assert decision.plan is None
            assert decision.state.plan == first.plan


@LONG
@given(st.sampled_from(NAMES[:3]), st.sampled_from(Stance), st.integers(1, 72 * 3_600), stories)
def test_the_operators_word_wins_until_it_expires(name, word, length_s, story):
    first = step(State(), Configured(START_MS, SERVICE, QUICK), START_MS)
    until_ms = START_MS + length_s * 1_000
    forced = step(first.state, Forced(START_MS, name, word, until_ms), START_MS)
    calm = [e for e in story if isinstance(e[2](0), Observed | Quiet | Measured | Resumed)]
    for decision in stepped(calm, forced)[1:]:
        is_over = decision.state.now_ms >= until_ms
        assert bool(decision.state.forced) is not is_over
        for region in decision.state.plan.regions:
            if word is Stance.DOWN and not is_over:
                assert name not in dict(region.shares)


@LONG
@given(st.lists(st.frozensets(st.sampled_from(NAMES[:3])), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_vantages_and_observations_does_not_matter(rounds, shuffler):
    straight = shuffled = step(State(), Configured(START_MS, SERVICE, QUICK), START_MS)
    for number, failing in enumerate(rounds, 1):
        now_ms = START_MS + number * 1_000
        seen = list(looks(now_ms, failing))
        straight = step(straight.state, Observed(now_ms, tuple(seen)), now_ms)
        shuffler.shuffle(seen)
        shuffled = step(shuffled.state, Observed(now_ms, tuple(seen)), now_ms)
        assert digest(straight) == digest(shuffled)


@LONG
@given(
    st.lists(st.frozensets(st.sampled_from(NAMES[:3])), max_size=6),
    st.integers(1, 250),
    st.sampled_from((None, *Stance)),
)
def test_quiet_equals_the_rounds_that_it_stands_for(prelude, rounds, word):
    decision = step(State(), Configured(START_MS, SERVICE, QUICK), START_MS)
    now_ms = START_MS
    for failing in prelude:
        now_ms += 1_000
        decision = step(decision.state, Observed(now_ms, looks(now_ms, failing)), now_ms)
    if word:
        decision = step(decision.state, Forced(now_ms, "near", word, now_ms + 90_000), now_ms)
    one_by_one = decision
    for number in range(1, rounds + 1):
        at_ms = now_ms + number * 1_000
        one_by_one = step(one_by_one.state, Observed(at_ms, looks(at_ms)), at_ms)
    end_ms = now_ms + rounds * 1_000
    at_once = step(decision.state, Quiet(end_ms, rounds), end_ms)
    assert at_once.state == one_by_one.state
