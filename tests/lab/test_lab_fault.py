"""The fate of a request: a pure function of schedule, provider, key and time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.lab.fault import (
    AT_CONNECTION,
    AT_QUERY,
    AT_REQUEST,
    FaultKind,
    Schedule,
    Window,
    fault_for,
    is_refusing,
    read_schedule,
    share_ppm_at,
)
from polycdn.model.chance import MILLION_PPM, chance_ppm
from polycdn.model.wire import WireError, canonical

HTTP_5XX = FaultKind.HTTP_5XX


def fates(schedule, at_ms=50, count=4_000, group="feed-get"):
    keys = [f"single/{group}/{number}" for number in range(count)]
    return [fault_for(schedule, "alpha", key, at_ms) for key in keys]


def share_of(found, kind):
    return sum(fault is not None and fault.kind is kind for fault in found) / len(found)


def test_every_kind_is_decided_in_exactly_one_place():
    assert sorted([*AT_CONNECTION, *AT_REQUEST, *AT_QUERY]) == sorted(FaultKind)


@given(st.integers(0, MILLION_PPM), st.text("abc/0123456789", min_size=1), st.integers(0, 1_000))
def test_a_request_fails_when_its_own_draw_is_below_the_share(share_ppm, key, seed):
    schedule = Schedule(seed, (Window("alpha", 0, 100, HTTP_5XX, share_ppm),))
    is_hit = chance_ppm(seed, "alpha", key) < share_ppm
    assert (fault_for(schedule, "alpha", key, 50) is not None) is is_hit


def test_a_share_hits_about_that_share_of_the_keys():
    found = fates(Schedule(1, (Window("alpha", 0, 100, HTTP_5XX, 300_000),)))
    assert abs(share_of(found, HTTP_5XX) - 0.3) < 0.03


def test_a_window_ends_before_its_last_millisecond_and_hits_nobody_else():
    schedule = Schedule(1, (Window("alpha", 100, 200, HTTP_5XX),))
    hit = [at_ms for at_ms in (99, 100, 199, 200) if fault_for(schedule, "alpha", "k", at_ms)]
    assert hit == [100, 199]
    assert fault_for(schedule, "beta", "k", 150) is None


def test_a_flap_fails_with_twice_its_share_in_the_first_half_of_each_period():
    window = Window("alpha", 1_000, 10_000, HTTP_5XX, 400_000, period_ms=300)
    at = [share_ppm_at(window, 1_000 + offset_ms) for offset_ms in (0, 149, 150, 299, 300, 449, 450)]
    assert at == [800_000, 800_000, 0, 0, 800_000, 800_000, 0]


def test_a_flap_of_more_than_half_fails_all_in_its_bad_half():
    assert share_ppm_at(Window("alpha", 0, 100, HTTP_5XX, 700_000, period_ms=10), 0) == MILLION_PPM


def test_overlapping_windows_take_their_share_of_what_is_left():
    windows = (
        Window("alpha", 0, 100, HTTP_5XX, 500_000),
        Window("alpha", 0, 100, FaultKind.CORRUPT, 500_000),
    )
    found = fates(Schedule(1, windows))
    assert abs(share_of(found, HTTP_5XX) - 0.5) < 0.03
    assert abs(share_of(found, FaultKind.CORRUPT) - 0.25) < 0.03


def test_a_window_for_some_groups_spares_the_others():
    schedule = Schedule(1, (Window("alpha", 0, 100, HTTP_5XX, groups=("chat", "music")),))
    assert share_of(fates(schedule, group="chat", count=10), HTTP_5XX) == 1
    assert share_of(fates(schedule, group="feed-get", count=10), HTTP_5XX) == 0


def test_only_the_kinds_that_are_asked_for_are_answered():
    schedule = Schedule(1, (Window("alpha", 0, 100, FaultKind.HANG),))
    assert fault_for(schedule, "alpha", "k", 50, AT_REQUEST) is None
    assert fault_for(schedule, "alpha", "k", 50, AT_CONNECTION).kind is FaultKind.HANG


def test_a_delay_is_that_of_the_window_or_of_the_kind():
    own = Schedule(1, (Window("alpha", 0, 100, FaultKind.SLOW_FIRST_BYTE, delay_ms=70),))
    usual = Schedule(1, (Window("alpha", 0, 100, FaultKind.SLOW_FIRST_BYTE),))
    assert fault_for(own, "alpha", "k", 0).delay_ms == 70
    assert fault_for(usual, "alpha", "k", 0).delay_ms == 2_500


def test_nobody_listens_only_while_every_connection_is_refused():
    whole = Schedule(1, (Window("alpha", 0, 100, FaultKind.REFUSE),))
    part = Schedule(1, (Window("alpha", 0, 100, FaultKind.REFUSE, 999_999),))
    assert is_refusing(whole, "alpha", 50)
    assert not is_refusing(whole, "alpha", 100)
    assert not is_refusing(whole, "beta", 50)
    assert not is_refusing(part, "alpha", 50)


def test_a_schedule_comes_back_from_its_file():
    schedule = Schedule(7, (Window("alpha", 1, 2, HTTP_5XX, 3, 4, 5, ("chat",)), Window("b", 1, 2, HTTP_5XX)))
    assert read_schedule(canonical(schedule)) == schedule


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"windows":[{}]}', b'{"seed":"x"}', b"\xff"])
def test_a_broken_schedule_is_refused(raw):
    with pytest.raises(WireError):
        read_schedule(raw)
