"""Looks folded into streams: weights, ages, liars about time, and what does not count."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import FIRST_MS, Play, look, service

from polycdn.decide.assess import assess
from polycdn.decide.fold import LEARN_LOOKS, STRANGERS_MAX, learned_bp
from polycdn.decide.likelihood import NOTHING_MNAT, SCORE_MAX_MNAT, steps_of
from polycdn.model.observation import Reason, Source
from polycdn.model.policy import Policy
from polycdn.model.state import State
from polycdn.model.topology import ProbedObject, Vantage
from polycdn.model.verdict import Blame

STEPS = steps_of(50)


def stream(found, provider="a", vantage="v0", region="anywhere"):
    return next(s for s in found.streams if (s.provider, s.vantage, s.region) == (provider, vantage, region))


def test_a_failure_adds_the_rise_and_a_success_takes_the_fall():
    play = Play()
    found = play.hear(look(play.now_ms, "a", "v0", False))
    assert stream(found).down_mnat == STEPS.rise
    found = play.hear(look(play.now_ms, "a", "v0"))
    rises, falls = STEPS.rise, STEPS.fall
    assert stream(found).down_mnat == (rises[0] - falls[0], rises[1] - falls[1], 0)


def test_a_score_never_leaves_its_bounds():
    play = Play()
    for _ in range(60):
        found = play.hear(look(play.now_ms, "a", "v0", False))
    assert stream(found).down_mnat == (SCORE_MAX_MNAT,) * 3
    for _ in range(1_000):
        found = play.hear(look(play.now_ms, "a", "v0"))
    assert stream(found).down_mnat == NOTHING_MNAT


def test_a_blind_vantage_says_nothing():
    play = Play()
    found = play.hear(look(play.now_ms, "a", "v0", False, reason=Reason.BLIND))
    assert stream(found).seen_ms == 0
    assert stream(found).down_mnat == NOTHING_MNAT


def test_a_thousand_requests_count_as_one_look():
    play = Play()
    found = play.hear(
        look(play.now_ms, "a", "edge-1", False, attempts=1_000, failures=1_000, source=Source.ENGINE)
    )
    assert stream(found, vantage="edge-1").down_mnat == STEPS.rise


def test_counts_each_second_weigh_a_tenth_when_looks_are_each_ten_seconds():
    policy = Policy(probe_interval_ms=10_000)
    state = State(service(), policy)
    for second in range(11):
        now_ms = FIRST_MS + 1_000 * second
        seen = look(now_ms, "a", "edge-1", False, attempts=50, failures=50, source=Source.ENGINE)
        state = replace(state, streams=assess(state, (seen,), now_ms).streams)
    mild = stream(state, vantage="edge-1").down_mnat[0]
    assert mild == STEPS.rise[0] + 10 * (STEPS.rise[0] // 10)


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(0, 500))
def test_mixed_counts_weigh_no_more_than_one_look(attempts, failures):
    failures = min(failures, attempts)
    play = Play()
    seen = look(play.now_ms, "a", "edge-1", not failures, attempts=attempts, failures=failures)
    scores = stream(play.hear(seen), vantage="edge-1").down_mnat
    assert all(0 <= score <= rise for score, rise in zip(scores, STEPS.rise, strict=True))
    assert scores[-1] == (STEPS.rise[-1] if failures == attempts else 0)


def test_several_objects_in_one_round_are_one_look_together():
    play = Play(service(objects=tuple(ProbedObject(f"/{n}") for n in range(4))))
    seen = [look(play.now_ms, "a", "v0", n > 0, path=f"/{n}") for n in range(4)]
    mild = stream(play.hear(*seen)).down_mnat[0]
    assert mild == (STEPS.rise[0] - 3 * STEPS.fall[0]) // 4


def test_late_looks_of_several_intervals_all_count():
    play = Play()
    play.round = 10
    seen = [look(play.now_ms - 1_000 * ago, "a", "v0", False) for ago in (0, 2, 1)]
    assert stream(play.hear(*seen)).down_mnat == tuple(3 * rise for rise in STEPS.rise)


def test_the_same_look_delivered_twice_counts_once():
    play = Play()
    play.hear(look(play.now_ms, "a", "v0", False))
    again = look(play.now_ms - 1_000, "a", "v0", False)
    assert stream(play.hear(again)).down_mnat == STEPS.rise


def test_a_look_older_than_the_age_limit_is_dropped():
    play = Play()
    found = play.hear(look(play.now_ms - 60_001, "a", "v0", False))
    assert stream(found).seen_ms == 0


def test_a_stamp_from_the_future_is_taken_as_now():
    play = Play()
    found = play.hear(look(play.now_ms + 86_400_000, "a", "v0"))
    assert stream(found).seen_ms == FIRST_MS


def test_nothing_new_gives_the_very_same_streams():
    play = Play()
    play.watch(3)
    before = play.state
    found = play.watch(1)
    assert found.streams is before.streams
    assert found.verdicts is before.verdicts
    assert found.standings is before.standings


def test_good_looks_are_noted_before_they_grow_old():
    play = Play()
    play.watch(500)
    assert all(s.seen_ms >= play.now_ms - 6_000 for s in play.found.streams)


@pytest.mark.parametrize("reason", [Reason.SLOW, Reason.PARITY])
def test_slow_or_unlike_is_not_failing(reason):
    play = Play()
    assert stream(play.hear(look(play.now_ms, "a", "v0", False, reason=reason))).down_mnat == NOTHING_MNAT


def test_unlike_is_failing_where_parity_is_required():
    play = Play(policy=Policy(require_parity=True))
    found = play.hear(look(play.now_ms, "a", "v0", False, reason=Reason.PARITY))
    assert stream(found).down_mnat == STEPS.rise


def test_slow_looks_gather_in_their_own_score():
    play = Play(policy=Policy(slow_ms=400))
    found = play.hear(look(play.now_ms, "a", "v0", first_byte_ms=400))
    assert stream(found).slow_mnat == STEPS.rise[1]
    found = play.hear(look(play.now_ms, "a", "v0", first_byte_ms=399))
    assert stream(found).slow_mnat == STEPS.rise[1] - STEPS.fall[1]


def test_a_vantage_without_regions_counts_in_every_region():
    play = Play(service("a", regions=("eu", "us")))
    found = play.hear(look(play.now_ms, "a", "v0", False, region="eu"))
    assert stream(found, region="us").down_mnat == stream(found, region="eu").down_mnat == STEPS.rise


def test_a_vantage_that_names_several_regions_counts_in_each_by_its_own_word():
    play = Play(service("a", regions=("eu", "us")))
    found = play.hear(
        look(play.now_ms, "a", "v0", False, region="eu"), look(play.now_ms, "a", "v0", region="us")
    )
    assert stream(found, region="eu").down_mnat == STEPS.rise
    assert stream(found, region="us").down_mnat == NOTHING_MNAT


def test_a_vantage_with_regions_counts_in_these_only():
    of = replace(service("a", regions=("eu", "us")), vantages=(Vantage("v0", ("eu",)),))
    found = Play(of).hear(look(FIRST_MS, "a", "v0", False))
    assert [(s.provider, s.region) for s in found.streams] == [("a", "eu"), ("origin", "eu")]


def test_a_provider_is_judged_in_its_own_regions_only():
    of = service("a", "b", regions=("eu", "us"))
    of = replace(of, providers=(replace(of.providers[0], regions=("us",)), of.providers[1]))
    found = Play(of).hear(look(FIRST_MS, "a", "v0"))
    assert [(v.provider, v.region) for v in found.verdicts] == [("a", "us"), ("b", "eu"), ("b", "us")]


def test_an_engine_counts_in_the_region_that_it_names():
    play = Play(service("a", regions=("eu", "us")))
    found = play.hear(look(play.now_ms, "a", "edge-1", False, region="us", source=Source.ENGINE))
    assert [s.region for s in found.streams if s.vantage == "edge-1"] == ["us"]


def test_unknown_providers_and_regions_are_ignored():
    play = Play()
    found = play.hear(
        look(play.now_ms, "nobody", "v0", False), look(play.now_ms, "a", "edge-1", False, region="mars")
    )
    assert all(s.seen_ms == 0 for s in found.streams)


def test_made_up_vantages_cannot_fill_the_memory():
    play = Play()
    for _ in range(3):
        seen = (look(play.now_ms, "a", f"made-up-{n:05}-{play.round}", False) for n in range(500))
        found = play.hear(*seen)
    assert len(found.streams) <= 12 + STRANGERS_MAX


def test_dns_failures_are_remembered_as_such():
    play = Play()
    found = play.hear(look(play.now_ms, "a", "v0", False, reason=Reason.DNS_SERVFAIL))
    assert stream(found).blame is Blame.DNS


@pytest.mark.parametrize(
    ("failures", "level"), [(0, 0), (60, 0), (70, 100), (122, 100), (130, 200), (4_000, 200)]
)
def test_the_healthy_share_is_learned_in_three_levels(failures, level):
    assert learned_bp(LEARN_LOOKS, failures, (50, 100, 200)) == level


def test_a_provider_that_always_fails_a_little_is_learned_and_left_alone():
    play = Play(service("a", "b", vantages=1, origin=False), seed=3)
    play.watch(LEARN_LOOKS + 100, lambda name, *_: 0.009 if name == "a" else 0.0)
    assert [s.healthy_bp for s in play.found.streams[:2]] == [100, 0]
    assert play.moves == []


def test_an_outage_teaches_nothing_about_health():
    play = Play(service("a", "b", vantages=1, origin=False))
    play.watch(300, lambda name, *_: 1.0 if name == "a" else 0.0)
    assert play.found.streams[0].failures <= 3
