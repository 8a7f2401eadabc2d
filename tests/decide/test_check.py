"""The second reader: each broken plan is caught, and a good one is not."""

from dataclasses import replace

import pytest
from scenery import START_MS, decided, forcing, provider, seen, service, start

from polycdn.decide.check import check
from polycdn.model.event import Stance
from polycdn.model.plan import Note, RegionPlan, Severity
from polycdn.model.policy import Policy
from polycdn.model.state import Demand
from polycdn.model.topology import Region
from polycdn.model.verdict import Status

OF = service(
    provider("a"), provider("b", capacity_rps=700), provider("c", ceiling_bp=5_000, regions=("eu",)),
    regions=(Region("eu", demand_rps=1_000), Region("us")),
)  # fmt: skip
STATE = decided(start(OF), {}, START_MS).state
NEXT = replace(STATE.plan, generation=2, parent=1)
ALL_A = (("a", 10_000),)


def eu(shares=ALL_A, order=("a", "b", "c"), ttl_s=10):
    """The next plan with another region eu."""
    return replace(NEXT, regions=(RegionPlan("eu", tuple(shares), tuple(order), ttl_s), NEXT.regions[1]))


def with_verdicts(statuses, state=STATE):
    found = seen(state, statuses)
    return replace(state, verdicts=found.verdicts, standings=found.standings)


def codes(plan, state=STATE, severity=Severity.ERROR):
    return [note.code for note in check(plan, state) if note.severity is severity]


def test_a_good_plan_is_not_objected_to():
    assert check(NEXT, STATE) == ()
    assert check(eu([("a", 7_000), ("b", 3_000)]), STATE) == ()


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (replace(NEXT, service="other"), "service"),
        (replace(NEXT, generation=1), "generation"),
        (replace(NEXT, generation=1, parent=1), "generation"),
        (replace(NEXT, parent=0), "parent"),
        (replace(NEXT, regions=NEXT.regions[:1]), "regions"),
        (replace(NEXT, regions=(*NEXT.regions, NEXT.regions[0])), "regions"),
        (replace(NEXT, regions=()), "regions"),
        (eu([("a", 9_999)]), "sum"),
        (eu([("a", 10_500), ("b", -500)]), "share"),
        (eu([("a", 10_000), ("b", 0)]), "share"),
        (eu([("a", 5_000), ("a", 5_000)]), "twice"),
        (eu(order=("a", "b", "b")), "twice"),
        (eu([], []), "empty"),
        (eu([("nobody", 10_000)], ("nobody",)), "provider"),
        (eu(order=("a", "nobody")), "provider"),
        (replace(NEXT, regions=(NEXT.regions[0], RegionPlan("us", ALL_A, ("a", "c"), 10))), "provider"),
        (eu([("a", 9_000), ("b", 1_000)], ("a", "c")), "order"),
        (eu(ttl_s=9), "ttl"),
        (eu(ttl_s=61), "ttl"),
    ],
)
def test_a_broken_plan_is_an_error(plan, code):
    assert code in codes(plan)


def test_moving_more_than_allowed_is_an_error_that_says_how_much():
    notes = check(eu([("a", 5_800), ("b", 4_200)]), STATE)
    assert notes == (
        Note(
            Severity.ERROR,
            "move",
            "service www: region eu: 42.0% of traffic would move, limit 30.0% (policy.move_max_bp)",
        ),
    )


def test_moving_more_is_allowed_away_from_a_lost_a_forced_or_an_overloaded_provider():
    plan = eu([("b", 6_000), ("c", 4_000)], ("b", "c", "a"))
    assert codes(plan) == ["move"]
    assert codes(plan, with_verdicts({"a": Status.DOWN})) == []
    assert codes(plan, forcing(STATE, "a", Stance.DOWN, START_MS * 2)) == []
    small = service(provider("a", capacity_rps=500), *OF.providers[1:], regions=OF.regions)
    assert codes(plan, replace(STATE, service=small)) == []
    gone = service(*OF.providers[1:], regions=OF.regions[:1])
    assert codes(replace(plan, regions=(RegionPlan("eu", plan.regions[0].shares, ("b", "c"), 10),)),
                 replace(STATE, service=gone)) == []  # fmt: skip


def test_giving_a_lost_provider_more_than_it_had_while_another_has_room_is_an_error():
    state = with_verdicts({"b": Status.DOWN})
    assert codes(eu([("a", 9_000), ("b", 1_000)]), state) == ["down"]


def test_leaving_a_lost_provider_only_in_part_while_another_has_room_is_a_warning():
    state = with_verdicts({"a/eu": Status.DOWN})
    assert codes(eu([("b", 5_000), ("a", 5_000)]), state, Severity.WARNING) == ["down"]
    assert codes(eu([("b", 5_000), ("a", 5_000)]), state) == []


def test_overload_while_another_has_room_is_a_warning():
    plan = eu([("b", 7_100), ("a", 2_900)], ("b", "a", "c"))
    state = with_verdicts({}, replace(STATE, policy=Policy(move_max_bp=10_000)))
    assert codes(plan, state, Severity.WARNING) == ["room"]
    assert codes(plan, replace(state, demand=(Demand("eu", 980, 0),)), Severity.WARNING) == []


def test_floors_and_ceilings_hold_or_a_note_says_why():
    plan = eu([("c", 6_000), ("a", 4_000)], ("c", "a", "b"))
    state = with_verdicts({}, replace(STATE, policy=Policy(move_max_bp=10_000)))
    assert codes(plan, state, Severity.WARNING) == ["ceiling"]
    noted = replace(plan, notes=(Note(Severity.WARNING, "ceiling", "nobody else has room"),))
    assert codes(noted, state, Severity.WARNING) == []
    floored = service(provider("a"), provider("b", floor_bp=500), OF.providers[2], regions=OF.regions)
    assert codes(NEXT, replace(STATE, service=floored), Severity.WARNING) == ["floor", "floor"]
