"""Cohorts of users: who still uses the sick provider, and what each client kind loses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polycdn.model.observation import Reason
from polycdn.world.certificate import lost_ppm_seconds
from polycdn.world.cohort import PARTS, Cohort
from polycdn.world.fault import Moment
from polycdn.world.population import Population
from polycdn.world.users import (
    CLIENTS,
    Exposure,
    Ledger,
    Lookups,
    lost_ppm,
    mean_ppm,
    slow_ppm,
    together,
    user_minutes,
)

LAB = Population.lab()
PUBLIC = Population.default()
SICK = Moment(600_000, 0, True, Reason.HTTP_5XX)


def after(cohort, seconds):
    for _ in range(seconds):
        cohort.pass_second()
    return cohort.sick_parts


def test_obedient_users_leave_within_the_old_ttl_and_evenly():
    cohort = Cohort(LAB.habits(), 10_000, 60)
    cohort.tell(100, 0, 10)
    assert after(cohort, 30) == pytest.approx(PARTS // 2, rel=0.02)
    assert after(cohort, 30) == 0
    assert cohort.is_settled


def test_a_ttl_that_was_shortened_in_time_makes_the_move_quick():
    cohort = Cohort(LAB.habits(), 10_000, 60)
    cohort.tell(0, 10_000, 10)
    assert after(cohort, 60) == PARTS
    cohort.tell(60, 0, 10)
    assert after(cohort, 10) == 0


def test_resolvers_that_overstay_and_kept_connections_leave_last():
    cohort = Cohort(PUBLIC.habits(), 10_000, 60)
    cohort.tell(0, 0, 10)
    obedient = PARTS * (10_000 - PUBLIC.overstay_bp) // 10_000 * (10_000 - PUBLIC.kept_bp) // 10_000
    assert after(cohort, 60) <= PARTS - obedient
    assert after(cohort, PUBLIC.overstay_s - 60) > 0
    assert after(cohort, PUBLIC.session_s) == 0


def test_a_share_of_the_answers_moves_a_share_of_the_users():
    cohort = Cohort(LAB.habits(), 0, 10)
    cohort.tell(0, 3_000, 10)
    assert after(cohort, 10) == pytest.approx(PARTS * 3 // 10, abs=100)


def test_telling_the_same_again_changes_nothing():
    cohort = Cohort(LAB.habits(), 10_000, 60)
    cohort.tell(5, 10_000, 60)
    assert cohort.is_settled


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([10, 60]), st.integers(1, 90)), max_size=8))
def test_nobody_is_lost_and_nobody_is_made(answers):
    cohort = Cohort(PUBLIC.habits(), 10_000, 60)
    now_s = 0
    for sick_bp, ttl_s, seconds in answers:
        cohort.tell(now_s, sick_bp, ttl_s)
        for _ in range(seconds):
            if cohort.is_settled:
                cohort.pass_calm(now_s + 1)
            else:
                cohort.pass_second()
            now_s += 1
            assert 0 <= cohort.sick_parts <= PARTS
    cohort.tell(now_s, 0, 10)
    while not cohort.is_settled:
        cohort.pass_second()
    assert cohort.sick_parts == 0


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_all_habits_together_are_all_users(overstay_bp, kept_bp):
    habits = Population(overstay_bp=overstay_bp, kept_bp=kept_bp).habits()
    assert sum(habit.parts for habit in habits) == PARTS


def test_one_outage_takes_a_request_once():
    assert together([(PARTS, 500_000), (PARTS, 500_000)]) == 500_000
    assert together([(PARTS // 2, 800_000), (PARTS, 400_000)]) == 600_000
    assert together([]) == 0


def test_the_edge_fails_only_where_nobody_can_save_a_request():
    exposed = Exposure(SICK, PARTS, PARTS, PARTS)
    assert lost_ppm(LAB, [exposed])["edge"] == 0
    assert lost_ppm(PUBLIC, [exposed])["edge"] == 600_000 * PUBLIC.unrepeatable_bp // 10_000
    alone = Exposure(SICK, PARTS, PARTS, PARTS, has_other=False)
    assert lost_ppm(LAB, [alone])["edge"] == 600_000


def test_single_is_lost_with_its_provider_whatever_the_others_did():
    lost = lost_ppm(LAB, [Exposure(SICK, 0, 0, 0)])
    assert lost == {"single": 600_000, "threshold": 0, "dns": 0, "edge": 0}


def test_the_other_name_server_saves_an_error_but_not_an_empty_answer():
    servfail = lost_ppm(LAB, [], Lookups(failed_ppm=1_000_000))
    assert servfail == {"single": 1_000_000, "threshold": 0, "dns": 0, "edge": 0}
    empty = lost_ppm(LAB, [], Lookups(failed_ppm=1_000_000, empty_ppm=1_000_000))
    assert empty == {"single": 1_000_000, "threshold": 500_000, "dns": 500_000, "edge": 500_000}


def test_a_resolver_outage_hurts_its_users_whatever_the_service_does():
    lost = lost_ppm(PUBLIC, [], Lookups(resolver_ppm=900_000))
    assert set(lost.values()) == {900_000 * PUBLIC.resolver_users_bp // 10_000}


def test_a_request_that_waited_for_a_deadline_is_slow_at_the_edge():
    late = Moment(500_000, 0, True, Reason.TIMEOUT)
    assert slow_ppm([Exposure(late, 0, 0, PARTS)])["edge"] == 500_000
    assert slow_ppm([Exposure(SICK, 0, 0, PARTS)])["edge"] == 0


def test_slow_is_counted_apart_from_lost_and_never_twice():
    ledger = Ledger()
    ledger.add(10_000, 60, dict.fromkeys(CLIENTS, 700_000), dict.fromkeys(CLIENTS, 500_000))
    assert user_minutes(1_000_000, ledger.lost["dns"]) == 700_000
    assert user_minutes(1_000_000, ledger.slow["dns"]) == 300_000
    assert mean_ppm(ledger.lost["dns"], 120) == 350_000


def test_a_certificate_outage_hurts_only_certificates_that_expire_in_it():
    day_s = 86_400
    lost = lost_ppm_seconds(PUBLIC, day_s, lambda _: 1_000_000)
    late = PUBLIC.certificate_late_bp / 10_000
    expected = late * (day_s / (PUBLIC.certificate_days * day_s)) * day_s / 2 * 1_000_000
    assert lost == pytest.approx(expected, rel=0.01)
    assert lost_ppm_seconds(PUBLIC, day_s, lambda _: 0) == 0
    assert lost_ppm_seconds(Population(certificate_late_bp=0), day_s, lambda _: 1_000_000) == 0


def test_a_renewal_that_is_tried_again_ends_the_loss():
    def first_hour_only(at_s):
        return 1_000_000 if at_s < 3_600 else 0

    patient = lost_ppm_seconds(Population(certificate_retry_s=43_200), 86_400, first_hour_only)
    eager = lost_ppm_seconds(Population(certificate_retry_s=600), 86_400, first_hour_only)
    assert 0 < eager < patient


def test_the_assumptions_are_told_by_name():
    assert PUBLIC.assumptions()["overstay_bp"] == 874
    assert LAB.assumptions()["overstay_bp"] == 0
