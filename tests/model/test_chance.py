"""Repeatable chance is repeatable, and uniform enough to stand in for dice."""

from hypothesis import given
from hypothesis import strategies as st

from polycdn.model.chance import MILLION_PPM, chance_ppm


@given(st.integers(), st.lists(st.text() | st.integers(), max_size=3))
def test_the_same_keys_give_the_same_number_in_range(seed, keys):
    first = chance_ppm(seed, *keys)
    assert first == chance_ppm(seed, *keys)
    assert 0 <= first < MILLION_PPM


def test_a_share_of_keys_falls_below_that_share():
    hits = sum(chance_ppm(7, "cdn-a", f"v1/{n}") < 300_000 for n in range(20_000))
    assert 5_700 < hits < 6_300


def test_keys_do_not_run_together():
    assert chance_ppm(1, "ab", "c") != chance_ppm(1, "a", "bc")
