"""Where traffic should go: rules, capacity, floors and ceilings, the operator's word, total loss."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenery import (
    START_MS,
    after,
    decided,
    forcing,
    on_probation,
    provider,
    seen,
    service,
    shares,
    start,
)

from polycdn.decide.fill import apportion, apportion_within
from polycdn.decide.step import decide_on
from polycdn.model.event import Stance
from polycdn.model.plan import Severity
from polycdn.model.policy import OnTotalLoss, Policy, Rule
from polycdn.model.state import Demand, Mismatch
from polycdn.model.topology import ProviderKind, Region
from polycdn.model.verdict import Status

UP, DOWN, DEGRADED, UNKNOWN = Status.UP, Status.DOWN, Status.DEGRADED, Status.UNKNOWN
LATER_MS = START_MS + 600_000
ABC = service(provider("a"), provider("b"), provider("c"))


def order(state, region=0):
    return state.plan.regions[region].order


def codes(decision):
    return [note.code for note in decision.plan.notes]


@given(st.integers(0, 10_000), st.lists(st.integers(0, 1_000), min_size=1, max_size=6))
def test_apportionment_is_whole_and_less_than_one_off_proportion(total, weights):
    parts = apportion(total, weights)
    assert sum(parts) == (total if any(weights) else 0)
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * sum(weights) - total * weight) < max(1, sum(weights))


def test_ties_in_remainders_go_to_the_earlier():
    assert apportion(10_000, [1, 1, 1]) == [3_334, 3_333, 3_333]


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 3_000), st.integers(3_000, 10_000)),
        min_size=1,
        max_size=5,
    )
)
def test_bounded_apportionment_keeps_its_bounds_and_gives_all_that_they_allow(rows):
    weights, lows, highs = zip(*rows, strict=True)
    parts = apportion_within(10_000, weights, lows, highs)
    assert all(low <= part <= high for low, part, high in zip(lows, parts, highs, strict=True))
    if sum(lows) <= 10_000:
        assert sum(parts) == min(10_000, sum(highs))


def test_priority_gives_all_to_the_first_that_is_up():
    state = decided(start(ABC), {}, START_MS).state
    assert shares(state) == {"a": 10_000}
    assert order(state) == ("a", "b", "c")
    assert after(state, {"a": DOWN, "b": DOWN}, LATER_MS) == {"c": 10_000}


def test_nobody_is_known_to_be_bad_at_first_so_the_policys_order_holds():
    state = decided(start(ABC), {"a": UNKNOWN, "b": UNKNOWN, "c": UNKNOWN}, START_MS).state
    assert shares(state) == {"a": 10_000}


def test_what_is_beyond_capacity_spills_over_to_the_next():
    of = service(
        provider("a", capacity_rps=600), provider("b", capacity_mbps=30), provider("c"),
        regions=(Region("eu", demand_rps=1_000, demand_mbps=100),),
    )  # fmt: skip
    decision = decided(start(of), {}, START_MS)
    assert shares(decision.state) == {"a": 6_000, "b": 3_000, "c": 1_000}
    assert codes(decision) == []


def test_capacity_counts_over_all_regions_and_is_shared_in_proportion():
    of = service(
        provider("a", capacity_rps=1_000), provider("b"),
        regions=(Region("eu", demand_rps=1_500), Region("us", demand_rps=500)),
    )  # fmt: skip
    state = decided(start(of), {}, START_MS).state
    assert shares(state, 0) == {"a": 5_000, "b": 5_000}
    assert shares(state, 1) == {"a": 5_000, "b": 5_000}


def test_one_regions_traffic_makes_room_for_another_that_has_no_choice():
    of = service(
        provider("a", capacity_rps=100), provider("b", capacity_rps=100, regions=("eu",)),
        regions=(Region("eu", demand_rps=100), Region("us", demand_rps=100)),
    )  # fmt: skip
    decision = decided(start(of), {}, START_MS)
    assert shares(decision.state, 1) == {"a": 10_000}, "only a serves us"
    assert shares(decision.state, 0) == {"b": 10_000}
    assert codes(decision) == []


def test_when_all_capacity_is_used_up_the_rest_is_spread_in_proportion_and_noted():
    of = service(
        provider("a", capacity_rps=600), provider("b", capacity_rps=200),
        regions=(Region("eu", demand_rps=1_600),),
    )  # fmt: skip
    decision = decided(start(of), {}, START_MS)
    assert shares(decision.state) == {"a": 7_500, "b": 2_500}
    capacity = [note for note in decision.plan.notes if note.code == "capacity"]
    assert [note.severity for note in capacity] == [Severity.WARNING] * 2
    assert capacity[0].text == (
        "service www: a is given 1200 requests/s, capacity 600: all capacity is used up"
    )


def test_a_lost_provider_keeps_only_what_the_others_have_no_room_for():
    of = service(provider("a"), provider("b", capacity_rps=700), regions=(Region("eu", demand_rps=1_000),))
    state = decided(start(of), {}, START_MS).state
    decision = decided(state, {"a": DOWN}, LATER_MS)
    assert shares(decision.state) == {"b": 7_000, "a": 3_000}
    assert "down_carries" in codes(decision)


def test_a_provider_forced_down_is_emptied_even_if_the_others_are_overloaded_by_it():
    of = service(provider("a"), provider("b", capacity_rps=700), regions=(Region("eu", demand_rps=1_000),))
    state = decided(start(of), {}, START_MS).state
    decision = decided(forcing(state, "a", Stance.DOWN, LATER_MS * 2), {}, LATER_MS)
    assert shares(decision.state) == {"b": 10_000}
    assert order(decision.state) == ("b",), "left out of the order too"
    assert "capacity" in codes(decision)


def test_weights_share_in_proportion_and_spill_in_proportion():
    of = service(provider("a", weight=3), provider("b", weight=1), provider("c", weight=0))
    state = decided(start(of, Policy(rule=Rule.WEIGHTED)), {}, START_MS).state
    assert shares(state) == {"a": 7_500, "b": 2_500}
    assert after(state, {"a": DOWN}, LATER_MS) == {"b": 10_000}
    assert after(state, {"a": DOWN, "b": DOWN}, LATER_MS) == {"c": 10_000}, "weight 0 is a standby"


def test_weights_meet_capacity_in_several_regions():
    of = service(
        provider("a", weight=1, capacity_rps=500), provider("b", weight=1), provider("c", weight=1),
        regions=(Region("eu", demand_rps=1_500), Region("us", demand_rps=1_500)),
    )  # fmt: skip
    state = decided(start(of, Policy(rule=Rule.WEIGHTED)), {}, START_MS).state
    for region in (0, 1):
        assert shares(state, region)["a"] == 1_666
        assert abs(shares(state, region)["b"] - shares(state, region)["c"]) <= 1


def test_floors_hold_inside_a_weighted_split():
    of = service(provider("a", weight=9), provider("b", weight=1, floor_bp=3_000))
    state = decided(start(of, Policy(rule=Rule.WEIGHTED)), {}, START_MS).state
    assert shares(state) == {"a": 7_000, "b": 3_000}


def test_floors_and_ceilings_bound_the_first_choice():
    of = service(provider("a", ceiling_bp=6_000), provider("b"), provider("c", floor_bp=500))
    state = decided(start(of), {}, START_MS).state
    assert shares(state) == {"a": 6_000, "b": 3_500, "c": 500}


def test_a_ceiling_gives_way_before_users_are_left_with_a_lost_provider():
    of = service(provider("a", ceiling_bp=5_000), provider("b", ceiling_bp=5_000))
    state = decided(start(of), {}, START_MS).state
    decision = decided(state, {"a": DOWN}, LATER_MS)
    assert shares(decision.state) == {"b": 10_000}
    assert "ceiling" in codes(decision)


def test_cost_prefers_the_cheapest_and_ties_go_to_the_operators_order():
    of = service(
        provider("a", cost_micros_per_gib=9), provider("b", cost_micros_per_gib=4),
        provider("c", cost_micros_per_gib=4),
    )  # fmt: skip
    state = decided(start(of, Policy(rule=Rule.COST)), {}, START_MS).state
    assert order(state) == ("b", "c", "a")
    assert shares(state) == {"b": 10_000}


@pytest.mark.parametrize(
    ("latency_ms", "is_left"),
    [(100, False), (81, False), (79, True), (0, False)],
    ids=["equal", "a little faster", "a fifth faster", "not known"],
)
def test_latency_moves_only_for_a_real_difference(latency_ms, is_left):
    policy = Policy(rule=Rule.LATENCY, move_max_bp=10_000)
    state = decided(start(service(provider("a"), provider("b")), policy), {}, START_MS).state
    found = seen(state, {}, latency_ms=100)
    first, second = found.verdicts
    found = replace(found, verdicts=(first, replace(second, latency_ms=latency_ms)))
    state = decide_on(state, found, LATER_MS).state
    assert shares(state) == ({"b": 10_000} if is_left else {"a": 10_000})


def test_latency_does_not_go_back_until_the_old_one_is_faster_again_by_as_much():
    policy = Policy(rule=Rule.LATENCY, move_max_bp=10_000, dwell_ms=0)
    state = decided(start(service(provider("a"), provider("b")), policy), {}, START_MS).state
    held = []
    for minute, (a_ms, b_ms) in enumerate([(100, 60), (100, 95), (85, 100), (70, 100)], 1):
        found = seen(state, {})
        a, b = found.verdicts
        found = replace(found, verdicts=(replace(a, latency_ms=a_ms), replace(b, latency_ms=b_ms)))
        state = decide_on(state, found, LATER_MS + minute * 60_000).state
        held += shares(state)
    assert held == ["b", "b", "b", "a"]


def test_a_provider_serves_only_its_regions():
    of = service(provider("a", regions=("us",)), provider("b"), regions=(Region("eu"), Region("us")))
    state = decided(start(of), {}, START_MS).state
    assert shares(state, 0) == {"b": 10_000}
    assert order(state, 0) == ("b",)
    assert shares(state, 1) == {"a": 10_000}


def test_a_region_that_nobody_is_named_for_is_served_by_all():
    of = service(provider("a", regions=("us",)), regions=(Region("eu"), Region("us")))
    state = decided(start(of), {}, START_MS).state
    assert shares(state, 0) == {"a": 10_000}


def test_unknown_is_no_reason_to_move_to_or_from():
    state = decided(start(ABC), {}, START_MS).state
    assert after(state, {"a": UNKNOWN}, LATER_MS) == {"a": 10_000}
    state = decided(state, {"a": DOWN}, LATER_MS).state
    assert shares(state) == {"b": 10_000}
    state = decided(state, {"a": UNKNOWN, "b": UNKNOWN, "c": UNKNOWN}, LATER_MS * 2).state
    assert shares(state) == {"b": 10_000}, "a was DOWN when it was last seen; b stays"


def test_a_lasting_degraded_provider_is_left_for_one_that_is_up_and_has_room():
    policy = Policy(move_max_bp=10_000)
    state = decided(start(ABC, policy), {}, START_MS).state
    fresh = decided(state, {"a": DEGRADED}, LATER_MS, since_ms=LATER_MS - 59_000).state
    assert shares(fresh) == {"a": 10_000}, "a doubt shorter than the dwell moves nobody"
    lasting = decided(state, {"a": DEGRADED}, LATER_MS, since_ms=LATER_MS - 60_000).state
    assert shares(lasting) == {"b": 10_000}
    all_of_them = {"a": DEGRADED, "b": DEGRADED, "c": DEGRADED}
    assert after(state, all_of_them, LATER_MS) == {"a": 10_000}


def test_probation_is_a_ceiling_until_nobody_else_is_left():
    state = decided(start(ABC), {"a": DOWN}, START_MS).state
    back = on_probation(seen(state, {}), "a", 500, LATER_MS)
    state = decide_on(state, back, LATER_MS).state
    assert shares(state) == {"b": 9_500, "a": 500}
    alone = on_probation(seen(state, {"b": DOWN, "c": DOWN}), "a", 500, LATER_MS)
    decision = decide_on(state, alone, LATER_MS + 1_000)
    assert shares(decision.state) == {"a": 10_000}
    assert "probation" in codes(decision)


def test_the_order_names_holders_then_healthy_then_probation_then_unknown_then_down():
    of = service(*[provider(name) for name in "abcdefg"])
    state = decided(start(of), {}, START_MS).state
    statuses = {"a": DOWN, "c": UNKNOWN}
    found = on_probation(seen(state, statuses), "d", 100, START_MS)
    state = forcing(state, "f", Stance.DOWN, LATER_MS * 2)
    state = forcing(state, "g", Stance.UP, LATER_MS * 2)
    state = decide_on(state, found, LATER_MS, is_changed=True).state
    assert order(state) == ("b", "e", "g", "d", "c", "a")


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (OnTotalLoss.ALL, {"a": 3_334, "b": 3_333, "own": 3_333}),
        (OnTotalLoss.OWN_EDGE, {"own": 10_000}),
        (OnTotalLoss.LAST_GOOD, {"a": 10_000}),
    ],
)
def test_when_all_look_down_the_policy_says_whom_to_serve(wish, expected):
    of = service(provider("a"), provider("b"), provider("own", kind=ProviderKind.EDGE))
    state = decided(start(of, Policy(on_total_loss=wish)), {}, START_MS).state
    state = decided(state, {}, LATER_MS).state
    decision = decided(state, {"a": DOWN, "b": DOWN, "own": DOWN}, LATER_MS + 1_000)
    assert state.good_plan is not None
    assert shares(decision.state) == expected
    assert set(order(decision.state)) == {"a", "b", "own"}
    assert "total_loss" in codes(decision)


def test_total_loss_without_a_good_plan_or_an_own_edge_serves_all():
    for wish in OnTotalLoss:
        state = decided(start(ABC, Policy(on_total_loss=wish)), {}, START_MS).state
        lost = after(state, {"a": DOWN, "b": DOWN, "c": DOWN}, START_MS + 1_000)
        assert sorted(lost) == ["a", "b", "c"]


def test_forced_down_is_left_out_at_total_loss_unless_nothing_else_remains():
    state = decided(start(ABC), {}, START_MS).state
    state = forcing(state, "a", Stance.DOWN, LATER_MS * 2)
    assert after(state, {"b": DOWN, "c": DOWN}, LATER_MS) == {"b": 5_000, "c": 5_000}
    for name in "bc":
        state = forcing(state, name, Stance.DOWN, LATER_MS * 2)
    assert sorted(after(state, {}, LATER_MS)) == ["a", "b", "c"]


def test_forced_up_overrides_a_verdict():
    state = decided(start(ABC), {}, START_MS).state
    state = forcing(state, "a", Stance.UP, LATER_MS * 2)
    assert after(state, {"a": DOWN}, LATER_MS) == {"a": 10_000}


def test_a_standby_whose_answers_differ_is_not_offered_traffic_unless_all_others_are_gone():
    mismatch = Mismatch("b", "eu", "v1", "/", START_MS)
    state = start(ABC, Policy(require_parity=True), mismatches=(mismatch,))
    state = decided(state, {}, START_MS).state
    assert after(state, {"a": DOWN}, LATER_MS) == {"c": 10_000}
    assert after(state, {"a": DOWN, "c": DOWN}, LATER_MS) == {"b": 10_000}
    relaxed = start(ABC, Policy(), mismatches=(mismatch,))
    relaxed = decided(relaxed, {}, START_MS).state
    assert after(relaxed, {"a": DOWN}, LATER_MS) == {"b": 10_000}


def test_demand_that_outgrows_a_provider_is_moved_at_once():
    of = service(provider("a", capacity_rps=1_000), provider("b"), regions=(Region("eu", demand_rps=900),))
    state = decided(start(of), {}, START_MS).state
    state = replace(state, demand=(Demand("eu", 2_000, 0),))
    assert after(state, {}, START_MS + 1_000) == {"a": 5_000, "b": 5_000}
