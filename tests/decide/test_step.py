"""Every kind of event, and what step refuses, remembers and promises."""

from dataclasses import fields, replace

import pytest
from scenery import START_MS, decided, on_probation, provider, seen, service, shares, start

from polycdn.decide import step as step_room
from polycdn.decide.assess import assess
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
from polycdn.model.plan import Severity
from polycdn.model.policy import Policy
from polycdn.model.state import State
from polycdn.model.topology import Region, Vantage
from polycdn.model.verdict import Status

HOUR_MS = 3_600_000
OF = replace(
    service(provider("a"), provider("b"), provider("c")),
    vantages=(Vantage("v1"), Vantage("v2"), Vantage("v3")),
)
FIRST = step(State(), Configured(START_MS, OF, Policy()), START_MS)


def looks(at_ms, failing=(), reason=Reason.HTTP_5XX, path="/"):
    return Observed(
        at_ms,
        tuple(
            Observation(
                at_ms, one.name, "anywhere", vantage.name,
                reason if one.name in failing else Reason.OK, failures=int(one.name in failing), path=path,
            )
            for vantage in OF.vantages
            for one in OF.providers
        ),
    )  # fmt: skip


def run(decision, rounds, failing=()):
    """So many rounds, one a second."""
    for _ in range(rounds):
        now_ms = decision.state.now_ms + 1_000
        decision = step(decision.state, looks(now_ms, failing), now_ms)
    return decision


def codes(decision):
    return [note.code for note in decision.report.notes]


def test_the_first_configuration_makes_a_plan_at_once():
    assert FIRST.plan.generation == 1
    assert FIRST.plan.parent == 0
    assert FIRST.plan.made_ms == START_MS
    assert shares(FIRST.state) == {"a": 10_000}


def test_generations_go_on_from_those_found_before_the_first_configuration():
    resumed = step(State(), Resumed(START_MS, 41), START_MS)
    assert resumed.plan is None
    decision = step(resumed.state, Configured(START_MS, OF, Policy()), START_MS)
    assert (decision.plan.generation, decision.plan.parent) == (42, 0)


@pytest.mark.parametrize(
    "event",
    [
        Observed(START_MS, ()),
        Quiet(START_MS, 5),
        Forced(START_MS, "a", Stance.DOWN, START_MS + 1),
        Released(START_MS, "a"),
        Frozen(START_MS, START_MS + 1),
        Measured(START_MS, "eu", 1, 1),
    ],
)
def test_nothing_is_decided_before_the_service_is_configured(event):
    decision = step(State(), event, START_MS)
    assert decision.plan is None
    assert codes(decision) == ["not_configured"]


def test_a_service_without_providers_is_refused_and_the_last_one_stays():
    decision = step(FIRST.state, Configured(START_MS, replace(OF, providers=()), Policy()), START_MS)
    assert decision.plan is None
    assert decision.state.service is OF
    assert decision.report.notes[0].severity is Severity.ERROR


def test_a_new_configuration_keeps_the_evidence_of_those_who_remain():
    lost = run(FIRST, 5, failing=("a",))
    smaller = replace(OF, providers=OF.providers[:1] + OF.providers[2:], vantages=OF.vantages[:2])
    decision = step(lost.state, Configured(lost.state.now_ms, smaller, Policy()), lost.state.now_ms)
    assert shares(decision.state) == {"c": 10_000}, "b is gone; a is still known to be DOWN"
    assert {stream.vantage for stream in decision.state.streams} == {"v1", "v2"}
    assert decision.plan.parent == lost.state.plan.generation


def test_a_new_region_is_steered_at_once():
    wider = replace(OF, regions=(Region("eu"), Region("us")))
    decision = step(FIRST.state, Configured(START_MS + 1, wider, Policy()), START_MS + 1)
    assert shares(decision.state, 1) == {"a": 10_000}


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (Forced(START_MS, "nobody", Stance.DOWN, START_MS + HOUR_MS), "force_refused"),
        (Forced(START_MS, "a", Stance.DOWN, START_MS + HOUR_MS, region="mars"), "force_refused"),
        (Forced(START_MS, "a", Stance.DOWN, START_MS), "force_refused"),
        (Forced(START_MS, "a", Stance.DOWN, START_MS + 72 * HOUR_MS + 1), "force_refused"),
        (Released(START_MS, "a"), "release_idle"),
        (Released(START_MS, "nobody"), "release_idle"),
        (Measured(START_MS, "mars", 1, 1), "measured_refused"),
        (Measured(START_MS, "eu", -1, 1), "measured_refused"),
    ],
)
def test_an_event_that_makes_no_sense_leaves_a_note_and_nothing_else(event, code):
    decision = step(FIRST.state, event, START_MS)
    assert decision.plan is None
    assert code in codes(decision)
    assert (decision.state.forced, decision.state.demand) == ((), ())


def test_a_word_of_72_hours_is_taken_and_ends_by_itself():
    until_ms = START_MS + 72 * HOUR_MS
    forced = step(FIRST.state, Forced(START_MS, "a", Stance.DOWN, until_ms, by="ann"), START_MS)
    assert shares(forced.state) == {"b": 10_000}
    assert forced.report.next_due_ms <= until_ms
    before = step(forced.state, Observed(until_ms - 1, ()), until_ms - 1)
    assert len(before.state.forced) == 1
    after = step(before.state, Observed(until_ms, ()), until_ms)
    assert after.state.forced == ()
    assert "force_expired" in codes(after)


def test_a_later_word_replaces_an_earlier_one_and_a_region_goes_before_everywhere():
    of = replace(OF, regions=(Region("eu"), Region("us")))
    state = step(State(), Configured(START_MS, of, Policy()), START_MS).state
    until_ms = START_MS + HOUR_MS
    state = step(state, Forced(START_MS, "a", Stance.DOWN, until_ms), START_MS).state
    state = step(state, Forced(START_MS, "b", Stance.DOWN, until_ms, "us"), START_MS).state
    assert (shares(state, 0), shares(state, 1)) == ({"b": 10_000}, {"c": 10_000})
    state = step(state, Forced(START_MS, "a", Stance.UP, until_ms, "us"), START_MS).state
    assert [(word.region, word.stance) for word in state.forced if word.provider == "a"] == [
        (None, Stance.DOWN),
        ("us", Stance.UP),
    ]
    state = step(state, Forced(START_MS, "a", Stance.DRAIN, until_ms), START_MS).state
    assert [word.stance for word in state.forced if word.provider == "a"] == [Stance.DRAIN]
    state = step(state, Released(START_MS, "b", "us"), START_MS).state
    assert [word.provider for word in state.forced] == ["a"]
    assert step(state, Released(START_MS, "a"), START_MS).state.forced == ()


def test_a_freeze_holds_even_when_the_carrier_is_lost_and_says_what_would_have_been():
    frozen = step(FIRST.state, Frozen(START_MS, START_MS + 60_000, by="ann"), START_MS)
    lost = run(frozen, 2, failing=("a",))
    assert lost.plan is None
    assert shares(lost.state) == {"a": 10_000}
    assert "frozen_change" in codes(lost)
    assert not lost.report.is_calm
    thawed = run(lost, 58, failing=("a",))
    assert thawed.state.now_ms == START_MS + 60_000
    assert shares(thawed.state) == {"b": 10_000}


def test_a_thaw_publishes_what_was_configured_during_the_freeze():
    frozen = step(FIRST.state, Frozen(START_MS, START_MS + HOUR_MS), START_MS)
    renamed = replace(OF, hostname="other.test")
    configured = step(frozen.state, Configured(START_MS + 1, renamed, Policy()), START_MS + 1)
    assert configured.plan is None
    thawed = step(configured.state, Frozen(START_MS + 2, START_MS + 2), START_MS + 2)
    assert thawed.plan.generation == 2
    assert thawed.plan.regions == FIRST.plan.regions


def test_demand_takes_effect_at_once_and_small_falls_do_not_count():
    of = replace(OF, providers=(provider("a", capacity_rps=600), provider("b")))
    state = step(State(), Configured(START_MS, of, Policy()), START_MS).state
    grown = step(state, Measured(START_MS, "eu", 1_000, 0), START_MS)
    assert shares(grown.state) == {"a": 6_000, "b": 4_000}
    fallen = step(grown.state, Measured(START_MS, "eu", 951, 0), START_MS)
    assert fallen.state.demand == grown.state.demand
    fallen = step(grown.state, Measured(START_MS, "eu", 950, 0), START_MS)
    assert fallen.state.demand[0].demand_rps == 950
    assert fallen.plan is None, "going back is a wish, and waits for the dwell"


def test_resuming_says_the_plan_anew_under_the_next_generation():
    resumed = step(FIRST.state, Resumed(START_MS + 5, 57), START_MS + 5)
    assert (resumed.plan.generation, resumed.plan.parent) == (58, 1)
    assert resumed.plan.regions == FIRST.plan.regions
    older = step(FIRST.state, Resumed(START_MS + 5, 0), START_MS + 5)
    assert older.plan.generation == 2


def test_an_older_now_is_taken_as_the_time_of_the_state():
    later = run(FIRST, 10)
    back = step(later.state, looks(START_MS), START_MS)
    assert back.state.now_ms == back.report.at_ms == START_MS + 10_000


def test_a_plan_is_good_once_all_its_carriers_were_up_for_the_soak_time():
    policy = Policy(soak_ms=100_000)
    decision = decided(start(OF, policy), {}, START_MS)
    assert decision.report.good_generation == 0
    soaking = decided(decision.state, {}, START_MS + 99_999)
    assert soaking.report.good_generation == 0
    assert decided(soaking.state, {"c": Status.DOWN}, START_MS + 100_000).state.good_plan.generation > 0
    doubted = decided(soaking.state, {"a": Status.DEGRADED}, START_MS + 100_000, since_ms=START_MS + 99_000)
    assert doubted.report.good_generation == 0
    healed = decided(doubted.state, {}, START_MS + 110_000)
    assert decided(healed.state, {}, START_MS + 209_999).report.good_generation == 0
    good = decided(healed.state, {}, START_MS + 210_000)
    assert good.report.good_generation == good.state.plan.generation


def test_a_plan_that_moves_traffic_has_to_prove_good_again():
    policy = Policy(soak_ms=100_000)
    good = decided(decided(start(OF, policy), {}, START_MS).state, {}, START_MS + 100_000)
    moved = decided(good.state, {"a": Status.DOWN}, START_MS + 100_001)
    assert moved.report.good_generation == good.report.good_generation
    later = decided(moved.state, {"a": Status.DOWN}, START_MS + 200_001)
    assert later.report.good_generation == later.state.plan.generation > good.report.good_generation


def test_a_round_that_changes_nothing_leaves_the_same_plan_object_and_no_plan_to_publish():
    calm = run(FIRST, 400)
    again = run(calm, 1)
    assert again.plan is None
    assert again.state.plan is calm.state.plan
    assert again.report.is_calm


def test_the_short_way_decides_what_the_long_way_decides():
    decision = FIRST
    for number in range(1, 200):
        now_ms = START_MS + number * 1_000
        event = looks(now_ms, ("a",) if 50 <= number < 60 else ())
        found = assess(decision.state, event.observations, now_ms)
        long = decide_on(decision.state, found, now_ms, is_changed=True)
        decision = step(decision.state, event, now_ms)
        assert decision.plan == long.plan
        assert decision.state == long.state


def test_everything_that_time_changes_happens_at_the_announced_moment_and_not_before():
    state = decided(start(OF), {"a": Status.DOWN}, START_MS).state
    state = decide_on(state, on_probation(seen(state, {}), "a", 8_000, START_MS), START_MS + 1).state
    seen_plans = 0
    for _ in range(8):
        due_ms = state.due_ms
        if not due_ms:
            break
        found = on_probation(seen(state, {}), "a", 8_000, START_MS)
        assert decide_on(state, found, due_ms - 1, is_changed=True).plan is None
        decision = decide_on(state, found, due_ms)
        seen_plans += decision.plan is not None
        state = decision.state
    assert seen_plans >= 3
    assert shares(state) == {"a": 8_000, "b": 2_000}


def test_a_plan_that_the_second_reader_refuses_is_not_published(monkeypatch):
    steal = lambda *_: [[0, 0, 10_000]]  # noqa: E731
    monkeypatch.setattr(step_room.steer, "rescue", steal)
    monkeypatch.setattr(step_room.steer, "aim", steal)
    decision = step(FIRST.state, Configured(START_MS + 1, OF, Policy()), START_MS + 1)
    assert decision.plan is None
    assert decision.state.plan is FIRST.plan
    assert codes(decision)[-2:] == ["move", "blocked"]


def test_a_standby_with_other_answers_is_remembered_until_a_good_look():
    policy = Policy(require_parity=True)
    state = step(State(), Configured(START_MS, OF, policy), START_MS).state
    found = step(state, looks(START_MS + 1_000, ("b",), Reason.PARITY), START_MS + 1_000)
    assert {mismatch.provider for mismatch in found.state.mismatches} == {"b"}
    other = step(found.state, looks(START_MS + 2_000, path="/other"), START_MS + 2_000)
    assert len(other.state.mismatches) == 3
    healed = step(other.state, looks(START_MS + 3_000), START_MS + 3_000)
    assert healed.state.mismatches == ()


def test_no_state_or_report_holds_a_float():
    decision = run(step(FIRST.state, Measured(START_MS, "eu", 1_000, 1), START_MS), 30, failing=("a",))
    for value in (decision.state, decision.report, decision.state.plan):
        assert not any(isinstance(getattr(value, field.name), float) for field in fields(value))
