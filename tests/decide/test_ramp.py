"""How fast traffic moves, and how long answers may be kept."""

from dataclasses import replace
from itertools import pairwise

import pytest
from scenery import START_MS, after, decided, forcing, on_probation, provider, seen, service, shares, start

from polycdn.decide.ramp import changes_shares
from polycdn.decide.step import decide_on
from polycdn.model.event import Stance
from polycdn.model.policy import Policy, Rule
from polycdn.model.topology import Region
from polycdn.model.verdict import Status

DOWN, DEGRADED, UNKNOWN = Status.DOWN, Status.DEGRADED, Status.UNKNOWN
SECOND_MS, MINUTE_MS = 1_000, 60_000
AB = service(provider("a"), provider("b"))
UNTIL_MS = START_MS + 72 * 3_600_000


def ttls(state):
    return [region.ttl_s for region in state.plan.regions]


def share_by_second(state, statuses, seconds, name="b"):
    """What a provider carries after each second, from the given state on."""
    row = []
    for _ in range(seconds):
        state = decided(state, statuses, state.now_ms + SECOND_MS).state
        row.append(shares(state).get(name, 0))
    return row


def test_a_lost_provider_is_left_in_one_step():
    state = decided(start(AB), {}, START_MS).state
    assert after(state, {"a": DOWN}, START_MS + 1) == {"b": 10_000}, "not even the dwell is waited for"


def test_a_drained_provider_is_left_at_the_ramps_speed_after_the_dwell():
    state = decided(start(AB), {}, START_MS).state
    row = share_by_second(forcing(state, "a", Stance.DRAIN, UNTIL_MS), {}, 300)
    changes = {
        second: share for second, share in enumerate(row, 1) if row[second - 2 : second - 1] != [share]
    }
    assert changes == {1: 0, 60: 3_000, 120: 6_000, 180: 9_000, 240: 10_000}


def test_a_provider_forced_down_is_left_in_one_step():
    state = decided(start(AB), {}, START_MS).state
    assert after(forcing(state, "a", Stance.DOWN, UNTIL_MS), {}, START_MS + 1) == {"b": 10_000}


@pytest.mark.parametrize("dwell_ms", [0, 1_000, 7_000, 60_000, 100_000])
@pytest.mark.parametrize("limit_bp", [1, 250, 3_000])
def test_wishes_keep_to_the_dwell_and_to_the_limit_in_every_minute(dwell_ms, limit_bp):
    policy = Policy(dwell_ms=dwell_ms, move_max_bp=limit_bp)
    state = decided(start(AB, policy), {}, START_MS).state
    row = [0, *share_by_second(forcing(state, "a", Stance.DRAIN, UNTIL_MS), {}, 240)]
    moved_at = [second for second in range(1, len(row)) if row[second] != row[second - 1]]
    assert all(later - earlier >= dwell_ms // 1_000 for earlier, later in pairwise(moved_at))
    for second in range(len(row)):
        assert row[second] - row[max(0, second - 59)] <= limit_bp
    assert row[-1] >= limit_bp * (240 // max(60, dwell_ms // 1_000)) // 2, "and it does move"


def test_a_loss_within_the_dwell_is_left_at_once_and_starts_the_dwell_anew():
    of = service(provider("a"), provider("b"), provider("c"))
    state = decided(start(of), {}, START_MS).state
    state = forcing(state, "a", Stance.DRAIN, UNTIL_MS)
    state = decided(state, {}, START_MS + MINUTE_MS).state
    assert shares(state) == {"a": 7_000, "b": 3_000}
    state = decided(state, {"b": DOWN}, START_MS + MINUTE_MS + SECOND_MS).state
    assert shares(state) == {"a": 7_000, "c": 3_000}
    assert after(state, {"b": DOWN}, START_MS + 2 * MINUTE_MS) == {"a": 7_000, "c": 3_000}
    assert after(state, {"b": DOWN}, START_MS + 2 * MINUTE_MS + SECOND_MS) == {"c": 6_000, "a": 4_000}


def test_regions_move_together_and_each_keeps_its_own_limit():
    of = service(provider("a"), provider("b"), regions=(Region("eu"), Region("us")))
    state = decided(start(of), {"a/us": DOWN}, START_MS).state
    assert shares(state, 1) == {"b": 10_000}
    state = forcing(state, "a", Stance.DRAIN, UNTIL_MS, region="eu")
    state = decided(state, {}, START_MS + MINUTE_MS).state
    assert shares(state, 0) == {"a": 7_000, "b": 3_000}
    assert shares(state, 1) == {"b": 7_000, "a": 3_000}


def test_a_wish_too_small_to_notice_makes_no_plan():
    of = service(provider("a", weight=100), provider("b", weight=100))
    state = decided(start(of, Policy(rule=Rule.WEIGHTED)), {}, START_MS).state
    nearly = service(provider("a", weight=101), provider("b", weight=100))
    assert after(replace(state, service=nearly), {}, START_MS + MINUTE_MS) == {"a": 5_000, "b": 5_000}
    clearly = service(provider("a", weight=110), provider("b", weight=100))
    moved = after(replace(state, service=clearly), {}, START_MS + MINUTE_MS)
    assert moved == {"a": 5_238, "b": 4_762}


def test_a_ceiling_is_mended_however_small_the_move():
    state = decided(start(AB), {}, START_MS).state
    capped = service(provider("a", ceiling_bp=9_990), provider("b"))
    assert after(replace(state, service=capped), {}, START_MS + MINUTE_MS) == {"a": 9_990, "b": 10}


def test_a_ttl_is_short_from_the_first_doubt_and_long_only_after_a_lasting_calm():
    policy = Policy(soak_ms=300_000, ttl_calm_s=60, ttl_doubt_s=10)
    state = decided(start(AB, policy), {}, START_MS).state
    assert ttls(state) == [10]
    state = decided(state, {}, START_MS + 299_999).state
    assert ttls(state) == [10]
    state = decided(state, {}, START_MS + 300_000).state
    assert ttls(state) == [60]
    state = decided(state, {}, START_MS + 300_001, alarm_bp=2_499).state
    assert ttls(state) == [60]
    state = decided(state, {}, START_MS + 300_002, alarm_bp=2_500).state
    assert ttls(state) == [10]
    state = decided(state, {}, START_MS + 300_003).state
    assert ttls(state) == [10], "no flapping"
    state = decided(state, {}, START_MS + 600_003).state
    assert ttls(state) == [60]


@pytest.mark.parametrize("statuses", [{"b": DOWN}, {"b": DEGRADED}, {"b": UNKNOWN}])
def test_a_ttl_is_short_while_anyone_is_not_up(statuses):
    state = decided(start(AB, Policy(soak_ms=0)), {}, START_MS).state
    assert ttls(state) == [60]
    assert ttls(decided(state, statuses, START_MS + 1).state) == [10]


def test_a_ttl_is_short_on_probation_under_force_and_while_ramping():
    calm = decided(start(AB, Policy(soak_ms=0)), {}, START_MS).state
    back = on_probation(seen(calm, {}), "b", 500, START_MS)
    assert ttls(decide_on(calm, back, START_MS + 1).state) == [10]
    forced = forcing(calm, "b", Stance.UP, UNTIL_MS)
    assert ttls(decided(forced, {}, START_MS + 1).state) == [10]
    reordered = service(provider("b"), provider("a"))
    assert ttls(decided(replace(calm, service=reordered), {}, START_MS + 1).state) == [10]


def test_a_doubt_in_one_region_shortens_the_answers_of_that_region_alone():
    of = service(provider("a"), provider("b"), regions=(Region("eu"), Region("us")))
    state = decided(start(of, Policy(soak_ms=0)), {}, START_MS).state
    assert ttls(decided(state, {"b/us": DOWN}, START_MS + 1).state) == [60, 10]


def test_only_shares_and_order_make_a_plan_change():
    calm = decided(start(AB, Policy(soak_ms=0)), {}, START_MS).state
    doubtful = decided(calm, {}, START_MS + 1, alarm_bp=5_000).state
    assert doubtful.plan.generation == calm.plan.generation + 1
    assert not changes_shares(calm.plan, doubtful.plan)
    assert changes_shares(calm.plan, decided(calm, {"a": DOWN}, START_MS + 1).plan)
    assert changes_shares(None, calm.plan)


def test_mixed_steps_keep_to_capacity_on_the_way():
    of = service(
        provider("a", capacity_rps=1_000), provider("b", capacity_rps=1_000), provider("c"),
        regions=(Region("eu", demand_rps=700), Region("us", demand_rps=700)),
    )  # fmt: skip
    state = decided(start(of), {}, START_MS).state
    turned = service(of.providers[1], of.providers[0], of.providers[2], regions=of.regions)
    state = replace(state, service=turned)
    for minute in range(1, 8):
        state = decided(state, {}, START_MS + minute * MINUTE_MS).state
        for name in "ab":
            load = sum(700 * shares(state, region).get(name, 0) for region in (0, 1))
            assert load <= 1_000 * 10_000
    assert sum(shares(state, region)["b"] for region in (0, 1)) * 700 > 9_990_000
