"""The count of plan changes and of false moves, on plans made by hand."""

from polycdn.model.plan import Plan, RegionPlan
from polycdn.run.moves import false_moves, plan_changes

PREFERENCE = ("a", "b", "c")


def plans(*shares):
    return [
        Plan("www", n + 1, n, n * 1_000, (RegionPlan("r", tuple(one.items()), PREFERENCE, 30),))
        for n, one in enumerate(shares)
    ]


A, B = {"a": 10_000}, {"b": 10_000}


def faulty(*names):
    return lambda name, at_ms: name in names


def test_a_plan_with_the_same_shares_is_no_change():
    assert plan_changes(plans(A, A, B, B, A)) == 2
    assert plan_changes(plans(A)) == 0


def test_leaving_a_faulty_provider_is_right():
    assert false_moves(plans(A, B), PREFERENCE, faulty("a")) == 0


def test_leaving_a_healthy_provider_is_wrong():
    assert false_moves(plans(A, B), PREFERENCE, faulty()) == 1


def test_going_home_to_a_healthy_provider_is_right():
    assert false_moves(plans(B, A), PREFERENCE, faulty()) == 0


def test_going_home_to_a_faulty_provider_is_wrong():
    assert false_moves(plans(B, A), PREFERENCE, faulty("a")) == 1


def test_a_faulty_provider_may_be_used_when_all_are_faulty():
    assert false_moves(plans(B, {"a": 5_000, "b": 5_000}), PREFERENCE, faulty(*PREFERENCE)) == 0


def test_the_time_of_the_move_decides():
    def is_faulty(name, at_ms):
        return name == "a" and at_ms < 2_000

    assert false_moves(plans(A, B, A, B), PREFERENCE, is_faulty) == 1
