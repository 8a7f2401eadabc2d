"""What one client may do to an edge over HTTP/2: streams, resets, floods, slow heads and slow readers."""

import contextlib
import struct
import threading
from collections.abc import Iterator

import pytest
from engine_process import poll
from gated import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frames,
    Gated,
    fields,
    frame,
    guarded,
)
from providers import Provider, get, says, upstream

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

CANCEL = struct.pack(">I", 8)


@contextlib.contextmanager
def opened(one: Gated, settings: bytes = b"") -> Iterator[Frames]:
    with one.connect() as connection:
        client = Frames(connection)
        client.begin(settings)
        yield client


def request(stream: int, path: str = "/", more: tuple[tuple[str, str], ...] = ()) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, fields(path, more))


def test_streams_that_are_reset_at_once_end_the_connection(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port), h2_resets_max=50))
    with opened(one) as client:
        for number in range(500):
            stream = 2 * number + 1
            client.send(request(stream), frame(RST_STREAM, 0, stream, CANCEL))
        assert client.goaway() == ENHANCE_YOUR_CALM
        poll(lambda: one.refused("h2_resets") + one.refused("h2_flood") == 1, "it is not counted")
        assert one.ask(get()).status == 200


def test_a_client_that_cancels_now_and_then_is_left_alone(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port), h2_resets_max=50))
    with opened(one) as client:
        for number in range(40):
            stream = 2 * number + 1
            client.send(request(stream))
            assert client.status() == "200"
            client.send(frame(RST_STREAM, 0, stream, CANCEL))
        client.send(request(101))
        assert client.status() == "200"
        assert one.refused("h2_resets") + one.refused("h2_flood") == 0


@pytest.mark.parametrize("payload", [b"", b"\x00\x01a\x01b" * 100])
def test_fields_without_end_end_the_connection(one: Gated, provider, payload):
    one.serve(guarded(upstream("a", provider.port)))
    with opened(one) as client:
        client.send(frame(HEADERS, END_STREAM, 1, fields()))
        for _ in range(3_000):
            client.send(frame(CONTINUATION, 0, 1, payload))
        assert client.goaway() == ENHANCE_YOUR_CALM
        poll(lambda: one.refused("h2_flood") == 1, "it is not counted")
        assert one.ask(get()).status == 200


@pytest.mark.parametrize("idle", [frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0)])
def test_frames_that_only_want_an_answer_end_the_connection(one: Gated, provider, idle):
    one.serve(guarded(upstream("a", provider.port)))
    with opened(one) as client:
        sender = threading.Thread(target=client.send, args=(idle * 5_000,), daemon=True)
        sender.start()
        assert client.goaway() == ENHANCE_YOUR_CALM
        sender.join(15)
        poll(lambda: one.refused("h2_flood") == 1, "it is not counted")


def test_a_head_that_comes_too_slowly_ends_the_connection(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port)))
    with opened(one) as client:
        client.send(frame(HEADERS, END_STREAM, 1, fields()))
        assert client.goaway() == ENHANCE_YOUR_CALM
        poll(lambda: one.refused("head_time") == 1, "it is not counted")


def test_no_more_streams_than_told_are_open_at_once(one: Gated):
    free = threading.Event()

    def behave(exchange):
        free.wait(10)
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with Provider(behave) as provider:
        one.serve(guarded(upstream("a", provider.port), h2_streams_max=2))
        with opened(one) as client:
            settings = client.until(SETTINGS)[3]
            assert (3).to_bytes(2) + (2).to_bytes(4) in settings
            client.send(request(1), request(3), request(5))
            _, _, stream, payload = client.until(RST_STREAM)
            assert (stream, payload) == (5, struct.pack(">I", 7))
            free.set()
            assert [client.status(), client.status()] == ["200", "200"]


def test_a_large_head_is_answered_431(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port), head_fields_max=5))
    with opened(one) as client:
        block = fields("/", tuple((f"x-{number}", "a" * 15_000) for number in range(5)))
        first, rest = block[:16_000], [block[at : at + 16_000] for at in range(16_000, len(block), 16_000)]
        frames = [frame(HEADERS, END_STREAM, 1, first)]
        frames += [frame(CONTINUATION, END_HEADERS if part is rest[-1] else 0, 1, part) for part in rest]
        client.send(*frames)
        assert client.status() == "431"
        assert one.refused("head_bytes") == 1
        client.send(request(3, "/", tuple((f"x-{number}", "a") for number in range(6))))
        assert client.status() == "431"
        assert one.refused("head_fields") == 1


def test_a_connection_ends_after_its_last_stream(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port), requests_per_connection_max=3))
    with opened(one) as client:
        for stream in (1, 3, 5):
            client.send(request(stream))
            assert client.status() == "200"
        assert GOAWAY in client.kinds_to_the_end()


def test_a_client_that_grants_its_window_by_single_bytes_is_cut(one: Gated):
    whole = says(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1_000_000)
    with Provider(whole) as provider:
        own = {"client_bytes_per_s_min": 10_000, "client_rate_window_ms": 500}
        one.serve(guarded(upstream("a", provider.port), **own))
        no_window = (4).to_bytes(2) + (0).to_bytes(4)
        with opened(one, no_window) as client:
            client.send(request(1))
            client.until(HEADERS)

            def is_cut() -> bool:
                client.send(frame(WINDOW_UPDATE, 0, 1, (1).to_bytes(4)))
                return one.refused("slow_reader") == 1

            poll(is_cut, "the slow reader is not cut")


def test_requests_of_one_client_are_limited_over_all_its_streams(one: Gated, provider):
    own = {"requests_per_prefix_rps": 1, "requests_per_prefix_burst": 5}
    one.serve(guarded(upstream("a", provider.port), **own))
    with opened(one) as client:
        client.send(*(request(stream) for stream in range(1, 41, 2)))
        statuses = [client.status() for _ in range(20)]
        assert 5 <= statuses.count("200") <= 10
        assert statuses.count("429") == 20 - statuses.count("200") == one.refused("prefix_requests")
