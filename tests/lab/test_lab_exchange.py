"""Ranges and conditions of an answer with an ETag."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.lab.exchange import Answer, Request, conditional

BODY = bytes(range(100))
WHOLE = Answer(200, {"etag": '"v1"', "content-type": "application/octet-stream"}, BODY)


def asked(**fields):
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return conditional(Request("GET", "/x", named, b"", "k"), WHOLE)


@given(st.integers(0, 99), st.integers(0, 200))
def test_a_range_is_those_bytes_and_says_which(first, beyond):
    last = first + beyond
    answer = asked(range=f"bytes={first}-{last}")
    assert bytes(answer.body) == BODY[first : last + 1]
    assert answer.status == 206
    assert answer.fields["content-range"] == f"bytes {first}-{min(last, 99)}/100"


@pytest.mark.parametrize(
    ("wanted", "body"), [("bytes=90-", BODY[90:]), ("bytes=-5", BODY[95:]), ("bytes=-500", BODY)]
)
def test_open_ranges(wanted, body):
    assert bytes(asked(range=wanted).body) == body


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=100-200", "bytes=5-4", "bytes=-0"])
def test_a_range_outside_cannot_be_satisfied(wanted):
    answer = asked(range=wanted)
    assert (answer.status, answer.fields["content-range"]) == (416, "bytes */100")


@pytest.mark.parametrize("wanted", ["lines=1-2", "bytes=a-b", "bytes", "bytes=-", "bytes=0-1,5-6"])
def test_what_is_not_one_range_of_bytes_is_answered_whole(wanted):
    assert (asked(range=wanted).status, asked(range=wanted).body) == (200, BODY)


def test_a_range_of_another_version_is_answered_whole():
    assert asked(range="bytes=1-2", if_range='"v0"').status == 200
    assert asked(range="bytes=1-2", if_range='"v1"').status == 206


def test_who_has_the_version_gets_no_body():
    assert asked(if_none_match='"v0", "v1"').status == 304
    assert asked(if_none_match='"v1"').body == b""
    assert asked(if_none_match='"v0"').status == 200
