"""Sentences for the night: each question that one may have is answered in words."""

from dataclasses import replace

import pytest
from scenery import START_MS, decided, forcing, on_probation, provider, seen, service, start

from polycdn.decide.explain import explain
from polycdn.decide.step import decide_on
from polycdn.decide.words import percent, span, utc
from polycdn.model.event import Stance
from polycdn.model.policy import Policy, Rule
from polycdn.model.state import Mismatch, Report, State
from polycdn.model.topology import Region
from polycdn.model.verdict import Blame, Status

OF = service(provider("a"), provider("b"), provider("c"))
FIRST = decided(start(OF), {}, START_MS)
UNTIL_MS = START_MS + 3_600_000


def said(decision):
    return "\n".join(explain(decision.state, decision.report))


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "1970-01-01 00:00:00 UTC"),
        (951_782_399_999, "2000-02-28 23:59:59 UTC"),
        (951_782_400_000, "2000-02-29 00:00:00 UTC"),
        (START_MS, "2025-11-18 11:48:00 UTC"),
        (4_107_542_400_000, "2100-03-01 00:00:00 UTC"),
    ],
)
def test_times_read_as_dates(at_ms, text):
    assert utc(at_ms) == text


def test_shares_and_spans_read_well():
    assert [percent(bp) for bp in (0, 5, 4_200, 10_000, -250)] == [
        "0.0%",
        "0.05%",
        "42.0%",
        "100.0%",
        "-2.5%",
    ]
    assert [span(ms) for ms in (0, 59_000, 725_000, 14_400_000, 262_800_000)] == [
        "0 s", "59 s", "12 min 5 s", "4 h", "3 d 1 h",
    ]  # fmt: skip


def test_nothing_is_said_of_nothing():
    assert explain(State(), Report(0)) == ("Nothing is configured yet, so nothing is steered.",)


def test_it_says_who_carries_what_since_when_and_who_stands_by():
    text = said(FIRST)
    assert "generation 1 is in force since 2025-11-18 11:48:00 UTC; no plan has proved good yet." in text
    assert "Region eu: a carries 100.0%, since 2025-11-18 11:48:00 UTC; answers may be kept 10 s." in text
    assert "b stands by in eu: by the order of preference others come first." in text


def test_it_says_whose_fault_a_loss_is_and_until_when_it_is_held_out():
    found = seen(FIRST.state, {"a": Status.DOWN}, blame=Blame.PROVIDER, why="all 5xx")
    standings = tuple(replace(s, hold_until_ms=START_MS + 600_000, relapses=1) for s in found.standings)
    decision = decide_on(FIRST.state, type(found)((), standings, found.verdicts, (), 0), START_MS + 1_000)
    text = said(decision)
    assert (
        "a is DOWN in eu since 2025-11-18 11:48:00 UTC; it is held out until 2025-11-18 11:58:00 UTC" in text
    )
    assert "(doubled 1 time for relapses)" in text
    assert "Evidence on a in eu: the fault is the provider's; all 5xx." in text
    assert "Next, at 2025-11-18 11:58:00 UTC: the hold-down of a in eu ends" in text


def test_it_says_what_probation_has_earned_and_when_the_next_move_is():
    state = decided(FIRST.state, {"a": Status.DOWN}, START_MS + 1).state
    found = on_probation(seen(state, {}), "a", 4_000, START_MS + 1)
    text = said(decide_on(state, found, START_MS + 2))
    assert "a is back in eu, on probation since 2025-11-18 11:48:00 UTC: it may carry 40.0% so far." in text
    assert "Next, at 2025-11-18 11:49:00 UTC: eu moves on towards a 40.0%, b 60.0%, at most 30.0%" in text


def test_it_says_what_the_operator_said():
    state = forcing(FIRST.state, "a", Stance.DOWN, UNTIL_MS)
    state = forcing(state, "b", Stance.DRAIN, UNTIL_MS, "eu")
    text = said(decided(state, {}, START_MS + 1))
    assert "a is forced down everywhere until 2025-11-18 12:48:00 UTC." in text
    assert "a gets nothing in eu: that is the operator's word until 2025-11-18 12:48:00 UTC." in text
    assert "b is drained in eu until 2025-11-18 12:48:00 UTC." in text
    assert "b is being emptied in eu" in text
    assert "Next, at 2025-11-18 12:48:00 UTC: a is no longer forced down." in text


@pytest.mark.parametrize(
    ("statuses", "fields", "text"),
    [
        ({"b": Status.UNKNOWN}, {}, "b is UNKNOWN in eu: there is no fresh evidence, so it stays as it was."),
        ({"b": Status.DEGRADED}, {"since_ms": 1}, "b is DEGRADED in eu: others are preferred"),
        ({}, {"minority": ("v2",)}, "Only v2 says that b in eu is DOWN; a minority moves nobody."),
        ({}, {"alarm_bp": 3_000}, "Evidence on b in eu: 30.0% of the way to an alarm."),
        ({"b": Status.DOWN}, {"left_out": ("v1",)}, "Left out as the most alarming on b in eu: v1."),
        (
            {"b": Status.DEGRADED},
            {"blame": Blame.ORIGIN},
            "the fault is the origin's, so that moving traffic would not help",
        ),
    ],
)
def test_it_says_what_is_thought_of_each(statuses, fields, text):
    assert text in said(decided(FIRST.state, statuses, START_MS + 1, **fields))


def test_it_repeats_the_plans_warnings_and_names_a_freeze():
    lost = decided(FIRST.state, {"a": Status.DOWN, "b": Status.DOWN, "c": Status.DOWN}, START_MS + 1)
    assert "Warning: service www, region eu: every provider looks DOWN" in said(lost)
    frozen = decided(replace(FIRST.state, frozen_until_ms=UNTIL_MS), {}, START_MS + 1)
    assert "Frozen until 2025-11-18 12:48:00 UTC: no plan changes, whatever is lost." in said(frozen)


def test_it_says_why_a_standby_is_not_offered_traffic():
    mismatch = Mismatch("b", "eu", "v1", "/", START_MS)
    state = start(OF, Policy(require_parity=True, rule=Rule.COST), mismatches=(mismatch,))
    text = said(decided(state, {}, START_MS))
    assert "b is not offered traffic in eu: its answers differ from its peers'." in text
    assert "c stands by in eu: by cost others come first." in text


def test_it_says_when_all_is_well():
    calm = decided(decided(start(OF, Policy(soak_ms=1_000)), {}, START_MS).state, {}, START_MS + 1_000)
    text = said(calm)
    assert "and has proved good." in text
    assert "Next: nothing changes unless the evidence does." in text


def test_each_region_is_told_apart():
    of = service(provider("a"), provider("b", regions=("us",)), regions=(Region("eu"), Region("us")))
    text = said(decided(start(of), {}, START_MS))
    assert "b stands by in us" in text
    assert "b stands by in eu" not in text
