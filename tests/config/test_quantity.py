"""Quantities as people write them: exactly, or not at all."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.config.quantity import BY_SUFFIX, UNITS, QuantityError, unit_of

GOOD = [
    ("ms", "10s", 10_000), ("ms", "1.5 s", 1_500), ("ms", "5m", 300_000), ("ms", "2h", 7_200_000),
    ("ms", "0s", 0), ("s", "1m", 60), ("s", "3000ms", 3), ("days", "30d", 30), ("days", "48h", 2),
    ("bp", "30%", 3_000), ("bp", "0.5 %", 50), ("bp", "130%", 13_000), ("bytes", "20 MiB", 20 * 2**20),
    ("bytes", "1.5 kB", 1_500), ("mbps", "10 Gbit/s", 10_000), ("mbps", "0.5Gbps", 500),
    ("rps", "20000 rps", 20_000), ("rps", "20 krps", 20_000),
    ("micros_per_gib", "0.08/GiB", 80_000), ("micros_per_gib", "0.08/GB", 85_899),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "text", "value"), GOOD)
def test_a_quantity_is_a_whole_number_of_its_unit(suffix, text, value):
    assert BY_SUFFIX[suffix].parse(text) == value


BAD = [
    ("ms", "10"), ("ms", ""), ("ms", "s"), ("ms", "-1s"), ("ms", "1e3s"), ("ms", "10 %"), ("ms", "0.0001s"),
    ("s", "500ms"), ("days", "12h"), ("bp", "30"), ("bp", "0.001%"), ("mbps", "10 GB/s"),
    ("mbps", "1 kbit/s"), ("bytes", "20 Mb"), ("micros_per_gib", "0.08"), ("ms", "9" * 400 + "s"),
    ("ms", "١s"), ("ms", "nans"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "text"), BAD)
def test_anything_else_is_refused(suffix, text):
    with pytest.raises(QuantityError):
        BY_SUFFIX[suffix].parse(text)


@given(st.sampled_from(UNITS), st.integers(0, 10**12))
def test_what_is_told_can_be_written_again(unit, value):
    assert unit.parse(unit.tell(value)) == value


@given(st.sampled_from(UNITS), st.text(max_size=12))
def test_no_text_makes_an_error_of_another_kind(unit, text):
    with contextlib.suppress(QuantityError):
        assert unit.parse(text) >= 0


def test_the_unit_is_the_end_of_the_key():
    assert unit_of("dwell_ms") == ("dwell", BY_SUFFIX["ms"])
    assert unit_of("cost_micros_per_gib") == ("cost", BY_SUFFIX["micros_per_gib"])
    assert unit_of("capacity_mbps") == ("capacity", BY_SUFFIX["mbps"])
    assert unit_of("regions") is None
    assert unit_of("_ms") is None
