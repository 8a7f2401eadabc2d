"""Reports of vantages: only the right key, the right bytes, the right time, and once."""

from hypothesis import given
from hypothesis import strategies as st

from polycdn.measure.sign import MAC_HEADER, STAMP_HEADER, VANTAGE_HEADER, WINDOW_MS, refusal, signed_headers

KEY = b"k" * 32
NOW = 1_763_465_000_000


def headers(body=b"{}", at_ms=NOW, vantage="v1", key=KEY):
    return dict(signed_headers(key, vantage, at_ms, body))


def test_a_signed_report_is_believed_once():
    assert refusal(KEY, headers(), b"{}", NOW, 0) == ""
    assert refusal(KEY, headers(), b"{}", NOW, NOW - 1) == ""
    assert "sent before" in refusal(KEY, headers(), b"{}", NOW, NOW)


@given(st.binary(max_size=40), st.binary(min_size=16, max_size=40))
def test_other_bytes_or_another_key_are_not_believed(body, key):
    signed = headers(b"the report")
    assert (refusal(KEY, signed, body, NOW, 0) == "") == (body == b"the report")
    assert (refusal(key, signed, b"the report", NOW, 0) == "") == (key == KEY)


def test_another_vantage_or_stamp_is_not_believed():
    for name, value in ((VANTAGE_HEADER, "v2"), (STAMP_HEADER, str(NOW + 1)), (MAC_HEADER, "0" * 64)):
        assert "does not match" in refusal(KEY, {**headers(), name: value}, b"{}", NOW, 0)


def test_parts_cannot_be_shifted_into_each_other():
    one = headers(body=b"1{}", vantage="v")
    assert refusal(KEY, {**one, VANTAGE_HEADER: "v1"}, b"{}", NOW, 0) != ""
    assert headers(b"1", vantage="v1")[MAC_HEADER] != headers(b"11", vantage="v")[MAC_HEADER]


def test_a_stamp_outside_the_window_is_refused():
    assert refusal(KEY, headers(at_ms=NOW - WINDOW_MS), b"{}", NOW, 0) == ""
    assert "from now" in refusal(KEY, headers(at_ms=NOW - WINDOW_MS - 1), b"{}", NOW, 0)
    assert "from now" in refusal(KEY, headers(at_ms=NOW + WINDOW_MS + 1), b"{}", NOW, 0)


@given(st.dictionaries(st.sampled_from([VANTAGE_HEADER, STAMP_HEADER, MAC_HEADER]), st.text()))
def test_garbage_is_refused_without_an_error(garbage):
    assert refusal(KEY, garbage, b"{}", NOW, 0) != ""
