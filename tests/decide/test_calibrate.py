"""Thresholds against other ways to the same numbers: floats, counting by hand, and literal steps."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polycdn.decide.calibrate import (
    LIAR_MARGIN,
    crossing_rate,
    limits,
    rounds_per_alarm,
)
from polycdn.decide.likelihood import (
    EXCESS_FALL_MNAT,
    EXCESS_RISE_MNAT,
    SCORE_MAX_MNAT,
    TOTAL,
    healthy_levels_bp,
    ln_mnat,
    sick_bp,
    steps_of,
)

MONTH = rounds_per_alarm(30, 1_000)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_integer_logarithm_is_the_logarithm(one, other):
    above, below = max(one, other), min(one, other)
    assert abs(ln_mnat(above, below) - 1_000 * math.log(above / below)) <= 0.5 + 1e-9


def test_steps_are_the_log_likelihood_ratios_on_a_lattice():
    steps = steps_of(50)
    assert steps.fall[:2] == (46, 218)
    assert steps.rise == (50 * 46, 17 * 218, 5_298)
    for share, rise in zip(sick_bp(50), steps.rise, strict=True):
        assert abs(rise - 1_000 * math.log(share / 50)) < 0.01 * rise


@pytest.mark.parametrize("healthy", [1, 50, 100, 200, 500, 2_000])
def test_no_alternative_is_near_the_healthy_share(healthy):
    assert all(share >= min(10_000, 2.5 * healthy) for share in sick_bp(healthy))
    steps = steps_of(healthy)
    assert all(rise > 0 and fall > 0 for rise, fall in zip(steps.rise, steps.fall, strict=True))
    assert steps.fall[TOTAL] == SCORE_MAX_MNAT


def test_a_healthy_score_drifts_down_and_a_sick_one_up():
    for healthy in healthy_levels_bp(50):
        for share, rise, fall in zip(sick_bp(healthy), *vars_of(healthy), strict=True):
            assert healthy * rise < (10_000 - healthy) * fall
            assert share * rise > (10_000 - share) * fall


def vars_of(healthy):
    steps = steps_of(healthy)
    return steps.rise, steps.fall


def test_the_excess_score_is_a_cusum_when_both_directions_are_as_likely():
    assert (math.exp(EXCESS_RISE_MNAT / 1_000) + math.exp(-EXCESS_FALL_MNAT / 1_000)) / 2 < 1


@pytest.mark.parametrize(
    ("vantages", "is_robust", "down", "up"),
    [
        (1, False, (13_294, 12_862, 15_894), 11_638),
        (2, True, (20_332, 19_620, 21_192), 19_136),
        (3, True, (22_034, 20_928, 26_490), 22_080),
    ],
)
def test_thresholds_of_the_default_policy_are_these(vantages, is_robust, down, up):
    found = limits(50, vantages, is_robust, MONTH)
    assert (found.down, found.up) == (down, up)


@pytest.mark.parametrize("vantages", [1, 2, 3])
def test_all_alternatives_together_keep_to_the_wished_rate(vantages):
    is_robust = vantages > 1
    found = limits(50, vantages, is_robust, MONTH)
    rates = [crossing_rate(50, way, vantages, limit) for way, limit in enumerate(found.down)]
    total = sum(above for above, _ in rates) / rates[0][1]
    assert total <= 1 / (MONTH * (LIAR_MARGIN if is_robust else 1))


def test_a_lower_threshold_would_alarm_too_often():
    found = limits(50, 1, False, MONTH)
    steps = steps_of(50)
    lower = [limit - fall for limit, fall in zip(found.down[:2], steps.fall[:2], strict=True)]
    rates = [crossing_rate(50, way, 1, limit) for way, limit in enumerate((*lower, found.down[2]))]
    assert sum(above for above, _ in rates) / rates[0][1] > 1 / MONTH


def test_the_mild_threshold_is_confirmed_by_floats_and_another_method():
    """Mean rounds to pass the limit by first-step equations, an independent reckoning."""
    limit = limits(50, 1, False, MONTH).down[0]
    above, one = crossing_rate(50, 0, 1, limit)
    assert mean_rounds(limit // 46, 50, 0.005) >= one / above
    assert mean_rounds(limit // 46, 50, 0.005) < 1.5 * one / above


def mean_rounds(height: int, rise: int, p: float) -> float:
    """Mean time of a walk from 0, up `rise` with chance p, else down 1 (not below 0), to `height` or more."""
    passed = [0.0] * (height + rise + 1)
    spent = [0.0] * (height + rise + 1)
    for at in range(height - 1, -1, -1):
        lost, time = (1.0, 0.0) if at + rise >= height else (0.0, 0.0)
        if at + rise < height:
            for step in range(at + rise, at, -1):
                time += (1 - lost) * spent[step]
                lost += (1 - lost) * passed[step]
        if at == 0:
            return (1 + p * time) / (p * lost)
        passed[at] = p * lost / (1 - p * (1 - lost))
        spent[at] = (1 + p * time) / (1 - p * (1 - lost))
    raise AssertionError("a height above zero")


def test_a_frequent_alarm_comes_as_often_as_literal_steps_say():
    limit = limits(500, 1, False, 1_000).down[1]
    rise, fall = steps_of(500).rise[1], steps_of(500).fall[1]
    dice, score, crossings = random.Random(1), 0, 0
    for _ in range(200_000):
        before = score
        score = max(0, score + (rise if dice.random() < 0.05 else -fall))
        crossings += before < limit <= score
    above, one = crossing_rate(500, 1, 1, limit)
    assert 0.7 * crossings <= 200_000 * above / one <= 2 * crossings


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 4), st.sampled_from([10_000, 100_000, 2_592_000]))
def test_rarer_alarms_and_more_vantages_need_more_evidence(vantages, rounds):
    few, many = limits(50, vantages, True, rounds), limits(50, vantages, True, 10 * rounds)
    more = limits(50, vantages + 1, True, rounds)
    assert all(low <= high for low, high in zip(few.down, many.down, strict=True))
    assert all(low <= high for low, high in zip(few.down, more.down, strict=True))
    assert few.up <= many.up


def test_a_mildly_sick_provider_comes_back_at_most_as_often_as_wished():
    limit = limits(50, 1, False, 5_000).up
    rise, fall = steps_of(50).rise[0], steps_of(50).fall[0]
    dice, score, crossings = random.Random(2), 0, 0
    for _ in range(400_000):
        before = score
        score = max(0, score + (-rise if dice.random() < 0.05 else fall))
        crossings += before < limit <= score
    assert 20 <= crossings <= 80 * 1.4


def test_the_rate_of_looks_sets_the_rounds_between_alarms():
    assert rounds_per_alarm(30, 1_000) == 2_592_000
    assert rounds_per_alarm(30, 10_000) == 259_200
    assert rounds_per_alarm(0, 1_000) == 1_000
