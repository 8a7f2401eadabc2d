"""The whole assessment: nothing known, order, regions, calm, and the outage of 2025-11-18."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import FIRST_MS, Play, after, failing, look, service

from polycdn.decide.assess import assess, assess_quiet
from polycdn.decide.quiet import good_looks
from polycdn.model.observation import Observation, Reason, Source
from polycdn.model.policy import Policy
from polycdn.model.state import State
from polycdn.model.topology import Vantage
from polycdn.model.units import ORIGIN
from polycdn.model.verdict import Status
from polycdn.model.wire import canonical, from_json, to_json

OF = service("a", "b")
QUICK = Policy(hold_down_ms=20_000, probation_step_ms=5_000, relapse_window_ms=60_000)

LOOKS = st.lists(
    st.builds(
        Observation,
        st.integers(FIRST_MS - 5_000, FIRST_MS + 5_000),
        st.sampled_from(["a", "b", ORIGIN, "nobody"]),
        st.sampled_from(["anywhere", "mars", ""]),
        st.sampled_from(["v0", "v1", "v2", "edge-1", "edge-2"]),
        st.sampled_from(Reason),
        st.integers(1, 50),
        st.integers(0, 60),
        st.integers(0, 3_000),
        st.sampled_from(Source),
    ),
    max_size=25,
)


def test_nothing_seen_is_unknown_and_nothing_is_due():
    found = assess(State(OF, Policy()), (), FIRST_MS)
    assert [v.status for v in found.verdicts] == [Status.UNKNOWN, Status.UNKNOWN]
    assert [s.status for s in found.standings] == [Status.UNKNOWN, Status.UNKNOWN]
    assert found.next_due_ms == 0
    assert "too few" in found.verdicts[0].why


def test_one_verdict_and_standing_for_each_provider_and_region_sorted_by_name():
    of = service("zeta", "alpha", regions=("us", "eu"))
    found = assess(State(of, Policy()), good_looks(of, FIRST_MS), FIRST_MS)
    keys = [("alpha", "eu"), ("alpha", "us"), ("zeta", "eu"), ("zeta", "us")]
    assert [(v.provider, v.region) for v in found.verdicts] == keys
    assert [(s.provider, s.region) for s in found.standings] == keys


def test_evidence_that_grows_old_is_unknown_and_no_reason_to_move():
    play = Play(OF)
    play.watch(10)
    due_ms = play.found.next_due_ms
    play.round += 50
    assert play.now_ms < due_ms
    assert play.hear().verdicts[0].status is Status.UP
    play.round += 60
    assert play.now_ms >= due_ms
    assert play.hear().verdicts[0].status is Status.UNKNOWN
    assert play.standing().status is Status.UP
    assert play.moves == []


def test_an_hour_of_silence_brings_nobody_back():
    play = Play(OF)
    play.watch(5, failing("a"))
    play.round += 3_600
    play.hear()
    assert (play.verdict().status, play.standing().status) == (Status.UNKNOWN, Status.DOWN)
    play.watch(1)
    assert play.verdict().status is Status.DOWN


def test_evidence_stays_fresh_for_three_intervals_however_short_the_limit():
    play = Play(OF, Policy(probe_interval_ms=30_000, evidence_age_max_ms=60_000))
    play.watch(2)
    play.round += 2
    play.hear()
    assert play.verdict().status is Status.UP


def test_a_blind_vantage_leaves_the_others_to_judge():
    play = Play(OF)
    for _ in range(100):
        seen = [look(play.now_ms, name, "v0", False, reason=Reason.BLIND) for name in ("a", "b", ORIGIN)]
        seen += [look(play.now_ms, name, v, name != "a") for name in ("a", "b", ORIGIN) for v in ("v1", "v2")]
        play.hear(*seen)
    assert (play.verdict("a").status, play.verdict("b").status) == (Status.DOWN, Status.UP)


@settings(deadline=None)
@given(st.lists(LOOKS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_observations_does_not_matter(rounds, dice):
    one = other = State(OF, QUICK)
    for at, seen in enumerate(rounds):
        now_ms = FIRST_MS + 1_000 * at
        shuffled = seen[:]
        dice.shuffle(shuffled)
        one = after(one, assess(one, tuple(seen), now_ms), now_ms)
        other = after(other, assess(other, tuple(shuffled), now_ms), now_ms)
        assert one == other


@settings(deadline=None)
@given(st.lists(LOOKS, min_size=1, max_size=5))
def test_whatever_is_heard_the_answer_is_whole_and_in_bounds(rounds):
    state = State(OF, QUICK)
    for at, seen in enumerate(rounds):
        now_ms = FIRST_MS + 1_000 * at
        found = assess(state, tuple(seen), now_ms)
        assert [v.provider for v in found.verdicts] == ["a", "b"]
        assert all(0 <= v.alarm_bp <= 10_000 and v.why for v in found.verdicts)
        assert all(s.probation_bp in range(1, 10_001) for s in found.standings)
        assert all(score >= 0 for s in found.streams for score in (*s.down_mnat, *s.up_mnat, s.excess_mnat))
        assert found.next_due_ms == 0 or found.next_due_ms > now_ms
        state = after(state, found, now_ms)
        assert from_json(State, to_json(state)) == state


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_a_state_read_back_from_the_journal_goes_on_alike(seed, share):
    play = Play(OF, QUICK, seed)
    play.watch(20, failing("a", share=share))
    again = from_json(State, to_json(play.state))
    seen = tuple(look(play.now_ms, "a", vantage, seed % 2 == 0) for vantage in ("v0", "v1", "v2"))
    one, other = assess(play.state, seen, play.now_ms), assess(again, seen, play.now_ms)
    assert one == other
    assert canonical(one.verdicts) == canonical(other.verdicts)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    st.integers(0, 60),
    st.integers(1, 500),
    st.sampled_from([QUICK, replace(QUICK, probe_interval_ms=10_000, hold_down_ms=200_000)]),
)
def test_quiet_equals_so_many_good_rounds(seed, share, doubtful, rounds, policy):
    play = Play(OF, policy, seed)
    play.watch(doubtful, failing("a", share=share))
    if seed % 3 == 0:
        play.hear(look(play.now_ms, "a", "edge-1", seed % 2 == 0, source=Source.ENGINE))
    state = play.state
    for _ in range(rounds):
        found = assess(state, good_looks(OF, play.now_ms), play.now_ms)
        state = after(state, found, play.now_ms)
        play.round += 1
    play.round -= 1
    quiet = assess_quiet(play.state, rounds, play.now_ms)
    assert quiet == found


def test_quiet_equals_good_rounds_while_the_healthy_share_is_learned_anew():
    of = service("a", vantages=1, origin=False)
    play = Play(of)
    play.watch(8_150, lambda _name, _vantage, at: float(at % 100 == 0))
    state, now_ms = play.state, play.now_ms
    for at in range(4_200):
        now_ms = play.now_ms + 1_000 * at
        found = assess(state, good_looks(of, now_ms), now_ms)
        state = after(state, found, now_ms)
    assert {s.healthy_bp for s in state.streams if s.provider == "a"} <= {0, 100}
    assert assess_quiet(play.state, 4_200, now_ms) == found


def test_a_quiet_year_is_short_work():
    play = Play(OF)
    play.watch(3)
    year = 365 * 86_400
    found = assess_quiet(play.state, year, play.now_ms + (year - 1) * 1_000)
    assert found.verdicts is play.state.verdicts
    assert found.streams[0].seen_ms > play.now_ms + (year - 10) * 1_000


def test_a_new_vantage_or_provider_joins_without_forgetting_the_others():
    play = Play(OF)
    play.watch(5, failing("a"))
    wider = replace(
        service("a", "b", "c"), vantages=(*OF.vantages, Vantage("v9"))
    )  # fmt: skip
    found = assess(replace(play.state, service=wider), good_looks(wider, play.now_ms), play.now_ms)
    assert [v.status for v in found.verdicts] == [Status.DOWN, Status.UP, Status.UP]
    assert len(found.streams) == 16


def test_a_provider_that_is_gone_leaves_nothing_behind():
    play = Play(OF)
    play.watch(5)
    found = assess(replace(play.state, service=service("b")), (), play.now_ms)
    assert {s.provider for s in found.streams} == {"b", ORIGIN}
    assert [v.provider for v in found.verdicts] == ["b"]


def test_a_healthy_service_is_left_alone_for_a_day_of_looks():
    play = Play(service("a", vantages=3, origin=False), Policy(probe_interval_ms=10_000), seed=9)
    play.watch(8_640, lambda *_: 0.005)
    assert play.moves == []


def share_of_2025_11_18(at_s: int) -> float:
    if at_s < 480:
        return 0.1
    if at_s < 6_300:
        return 1.0 if (at_s - 480) // 150 % 2 == 0 else 0.0
    return 0.6 if at_s < 11_400 else 0.05


@pytest.mark.parametrize("seed", range(3))
def test_on_2025_11_18_it_leaves_once_and_does_not_come_back_while_it_flaps(seed):
    play = Play(service("a", "b", origin=False), Policy(probe_interval_ms=10_000), seed)
    play.watch(2_076, lambda name, _, at: share_of_2025_11_18(at * 10) if name == "a" else 0.002)
    assert [(name, status) for _, name, status in play.moves] == [("a", Status.DOWN)]
    assert play.moves[0][0] <= 50


def test_the_same_rounds_give_the_same_bytes():
    dice = random.Random(5)
    rounds = [
        tuple(
            look(FIRST_MS + 1_000 * at, name, v, dice.random() > 0.2)
            for name in ("a", "b") for v in ("v0", "v1", "v2")
        )
        for at in range(60)
    ]  # fmt: skip
    ends = []
    for _ in range(2):
        state = State(OF, QUICK)
        for at, seen in enumerate(rounds):
            state = after(state, assess(state, seen, FIRST_MS + 1_000 * at), FIRST_MS + 1_000 * at)
        ends.append(canonical(state))
    assert ends[0] == ends[1]
