"""HTTP/1.1 as the lab reads it: strict."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.lab.http1 import (
    ProtocolError,
    TruncatedError,
    answer_head,
    framed,
    parse_head,
    read_body,
    read_head,
    request_head,
)


def read(raw, *, bytes_max=1_000_000):
    async def work():
        reader = asyncio.StreamReader()
        reader.feed_data(raw)
        reader.feed_eof()
        head = await read_head(reader)
        body = await read_body(reader, head, is_answer=True, bytes_max=bytes_max)
        return head, body

    return asyncio.run(work())


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6))
def test_a_chunked_body_comes_back_whole(pieces):
    raw = answer_head(200, {"transfer-encoding": "chunked"}) + b"".join(map(framed, pieces)) + framed(b"")
    assert read(raw)[1] == b"".join(pieces)


@given(st.binary(max_size=2_000), st.integers(1, 2_000))
def test_a_body_that_lacks_bytes_is_truncated_not_shorter(body, missing):
    raw = answer_head(200, {"content-length": str(len(body) + missing)}) + body
    with pytest.raises(TruncatedError):
        read(raw)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_head_or_a_protocol_error(raw):
    with contextlib.suppress(ProtocolError):
        parse_head(raw + b"\r\n\r\n")


def test_a_chunked_body_without_its_end_is_truncated():
    with pytest.raises(TruncatedError):
        read(answer_head(200, {"transfer-encoding": "chunked"}) + framed(b"abc"))


def test_a_body_without_length_ends_with_the_connection():
    assert read(answer_head(200, {}) + b"all of it")[1] == b"all of it"


def test_names_are_lower_case_and_repeated_fields_joined():
    head = parse_head(b"HTTP/1.1 200 OK\r\nVia: a\r\nvia:  b \r\n\r\n")
    assert head.fields == {"via": "a, b"}
    assert head.status == 200


def test_a_request_head_is_read_back():
    head = parse_head(request_head("GET", "/feed/1?x=2", {"host": "h"}))
    assert head.first == ("GET", "/feed/1?x=2", "HTTP/1.1")


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 twohundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(raw):
    with pytest.raises(ProtocolError):
        parse_head(raw)


@pytest.mark.parametrize("length", ["-1", "1, 1", "0x10", "", "١"])
def test_a_strange_length_is_refused(length):
    raw = f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n".encode()
    with pytest.raises(ProtocolError):
        read(raw + b"x" * 20)


def test_a_body_larger_than_the_bound_is_refused():
    with pytest.raises(ProtocolError):
        read(answer_head(200, {"content-length": "11"}) + b"x" * 11, bytes_max=10)
    with pytest.raises(ProtocolError):
        read(answer_head(200, {}) + b"x" * 11, bytes_max=10)
