"""Large objects through the real edge: what the origin is asked for, and that no byte is wrong."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from alone import Alone, alone
from engine_process import poll
from providers import Provider, Reply, get, parse
from vast import BLOCK, GB, Vast, octets

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

READ_AHEAD_BYTES = 4 * BLOCK
"""Beyond the blocks that a range needs (`Limits::read_ahead_blocks`)."""

AHEAD_BYTES_MAX = 40 * BLOCK
"""What a fetch may bring that nobody reads: what it runs ahead, and what lies in the kernel's buffers."""

HUNDRED_GB = 100 * GB


@dataclass
class Scene:
    origin: Vast
    provider: Provider
    edge: Alone

    def ask(self, fields: str = "", method: str = "GET", target: str = "/") -> Reply:
        return parse(self.edge.raw(get(target, f"{fields}connection: close\r\n", method)))

    def span(self, spec: str) -> Reply:
        return self.ask(f"range: bytes={spec}\r\n")

    def expect(self, first: int, last: int, seed: int = 0) -> None:
        """Asks for these bytes and gets them."""
        reply = self.span(f"{first}-{last}")
        assert reply.status == 206
        assert reply.value("content-range") == f"bytes {first}-{last}/{self.origin.length}"
        assert reply.body == octets(first, last + 1, seed)

    def is_calm(self) -> bool:
        """Whether the origin has sent nothing for half a second."""
        before = self.origin.sent_bytes
        time.sleep(0.5)
        return self.origin.sent_bytes == before


@contextlib.contextmanager
def scene(origin: Vast, *words: str) -> Iterator[Scene]:
    with Provider(origin.behave) as provider, alone(provider.port, words=words) as edge:
        yield Scene(origin, provider, edge)


def read_some(connection: socket.socket, least_bytes: int) -> bytes:
    received = b""
    while len(received) < least_bytes:
        piece = connection.recv(65_536)
        assert piece, "the connection ended"
        received += piece
    return received


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def block_range(first: int, last: int) -> str:
    return f"bytes={first * BLOCK}-{(last + 1) * BLOCK - 1}"


def test_ranges_of_a_huge_object_fetch_their_blocks_and_a_bounded_read_ahead():
    with scene(Vast(HUNDRED_GB)) as on:
        at = 50 * GB // BLOCK
        on.expect(at * BLOCK + 17, at * BLOCK + 26)
        on.expect(at * BLOCK, at * BLOCK + BLOCK - 1)
        assert on.origin.asked == [block_range(at, at)]
        on.expect((at + 1) * BLOCK - 5, (at + 1) * BLOCK + 5)
        assert on.origin.asked[1:] == [block_range(at + 1, at + 5)]
        on.expect((at + 3) * BLOCK, (at + 4) * BLOCK)
        assert len(on.origin.asked) == 2
        assert on.origin.sent_bytes <= 2 * BLOCK + READ_AHEAD_BYTES


@pytest.mark.parametrize(("first", "last", "blocks"), [(0, 0, 1), (5, 1_000, 1), (BLOCK - 1, 2 * BLOCK, 3)])
def test_a_first_range_in_the_first_block_fetches_no_more_than_its_blocks(first, last, blocks):
    with scene(Vast(HUNDRED_GB)) as on:
        for _ in range(2):
            on.expect(first, last)
        assert on.origin.asked == [block_range(0, blocks - 1)]
        poll(lambda: on.origin.sent_bytes == blocks * BLOCK, "more or less comes")


def test_a_small_object_that_came_as_the_range_of_its_block_is_whole():
    for etag in ('"strong"', "", 'W/"weak"'):
        with scene(Vast(1_000, etag=etag)) as on:
            on.expect(5, 9)
            whole = on.ask()
            assert (whole.status, whole.body) == (200, octets(0, 1_000))
            assert on.span("-7").body == octets(993, 1_000)
            assert on.origin.asked == [block_range(0, 0)], etag


def test_the_end_of_an_object_of_unknown_length_is_kept_in_blocks():
    with scene(Vast(HUNDRED_GB)) as on:
        for _ in range(2):
            reply = on.span("-1000")
            assert (reply.status, reply.body) == (206, octets(HUNDRED_GB - 1_000, HUNDRED_GB))
            first = HUNDRED_GB - 1_000
            assert reply.value("content-range") == f"bytes {first}-{HUNDRED_GB - 1}/{HUNDRED_GB}"
            assert reply.value("content-length") == "1000"
        last_block = HUNDRED_GB // BLOCK * BLOCK
        on.expect(last_block, last_block + 99)
        assert len(on.origin.asked) == 1
        assert on.origin.sent_bytes < 2 * BLOCK


def test_an_open_range_whose_reader_leaves_stops_soon():
    with scene(Vast(HUNDRED_GB)) as on:
        at = 30 * GB // BLOCK * BLOCK
        with on.edge.connect() as leaver:
            leaver.sendall(get("/", f"range: bytes={at + 5}-\r\n"))
            reply = parse(read_some(leaver, 5 * BLOCK))
            assert reply.body == octets(at + 5, at + 5 + len(reply.body))
        poll(lambda: on.provider.open_number() == 0, "the fetch goes on")
        assert on.origin.asked == [f"bytes={at}-"]
        assert on.origin.sent_bytes < AHEAD_BYTES_MAX + 5 * BLOCK
        on.expect(at, at + 2 * BLOCK)
        assert len(on.origin.asked) == 1


def test_several_ranges_of_a_huge_object_fetch_the_blocks_of_each():
    with scene(Vast(HUNDRED_GB)) as on:
        spans = [(10, 20), (40 * GB, 40 * GB + 9), (HUNDRED_GB - 5, HUNDRED_GB - 1)]
        spec = "bytes=" + ",".join(f"{first}-{last}" for first, last in spans[:2]) + ",-5"
        reply = on.ask(f"range: {spec}\r\n")
        assert reply.status == 206
        boundary = str(reply.value("content-type")).partition("boundary=")[2]
        parts = reply.body.split(f"--{boundary}".encode())[1:-1]
        for part, (first, last) in zip(parts, spans, strict=True):
            head, _, body = part.partition(b"\r\n\r\n")
            assert f"bytes {first}-{last}/{HUNDRED_GB}" in head.decode()
            assert body[:-2] == octets(first, last + 1)
        assert reply.value("content-length") == str(len(reply.body))
        assert len(on.origin.asked) == 3
        assert on.origin.sent_bytes <= 3 * (BLOCK + READ_AHEAD_BYTES)


def test_if_range_decides_between_the_part_and_the_whole():
    with scene(Vast(5 * BLOCK)) as on:
        assert on.ask('range: bytes=0-4\r\nif-range: "other"\r\n').body == octets(0, 5 * BLOCK)
        assert on.ask('range: bytes=0-4\r\nif-range: "one"\r\n').body == octets(0, 5)
        assert on.ask('range: bytes=0-4\r\nif-range: "other"\r\n').status == 200
    with scene(Vast(5 * BLOCK)) as on:
        reply = on.ask(f'range: bytes={3 * BLOCK}-{3 * BLOCK + 4}\r\nif-range: "one"\r\n')
        assert (reply.status, reply.body) == (206, octets(3 * BLOCK, 3 * BLOCK + 5))
        assert on.origin.asked == [block_range(3, 3)]


def test_a_range_outside_of_the_object_is_refused_with_its_length():
    with scene(Vast(3 * BLOCK + 10)) as on:
        for spec in (f"{3 * BLOCK + 20}-", f"{3 * BLOCK + 20}-{3 * BLOCK + 30}", f"{9 * BLOCK}-{9 * BLOCK}"):
            reply = on.span(spec)
            assert (reply.status, reply.value("content-range")) == (416, f"bytes */{3 * BLOCK + 10}")


def test_a_full_request_whose_reader_leaves_early_leaves_its_blocks_and_no_fetch():
    with scene(Vast(HUNDRED_GB)) as on:
        with on.edge.connect() as leaver:
            leaver.sendall(get("/", ""))
            assert parse(read_some(leaver, 3 * BLOCK)).value("content-length") == str(HUNDRED_GB)
        poll(lambda: on.provider.open_number() == 0, "the fetch goes on")
        assert on.origin.sent_bytes < AHEAD_BYTES_MAX
        on.expect(BLOCK, 2 * BLOCK + 5)
        assert on.origin.asked == [None]


def test_readers_join_a_full_request_under_way_and_get_the_first_byte_at_once():
    gate = threading.Event()
    with scene(Vast(6 * BLOCK, holds_at=(2 * BLOCK + 100, gate))) as on:
        joined = [on.edge.connect() for _ in range(5)]
        try:
            for connection in joined:
                connection.sendall(get("/", "connection: close\r\n"))
                first = read_some(connection, BLOCK)
                body = parse(first).body
                assert body == octets(0, len(body))
            assert len(on.origin.asked) == 1
            gate.set()
        finally:
            for connection in joined:
                connection.close()
        assert on.ask().body == octets(0, 6 * BLOCK)
        assert len(on.origin.asked) == 1


def test_a_range_further_on_than_a_fill_under_way_fetches_that_block_alone():
    gate = threading.Event()
    with scene(Vast(HUNDRED_GB, holds_at=(2 * BLOCK, gate))) as on, on.edge.connect() as slow:
        slow.sendall(get("/", ""))
        read_some(slow, BLOCK)
        at = 70 * GB // BLOCK * BLOCK
        on.expect(at + 5, at + 14)
        asked = on.origin.asked[1:]
        assert len(asked) == 1
        assert str(asked[0]).startswith(f"bytes={at}-")
        gate.set()
        # A reader far ahead must not make the full fetch run after it.
        poll(on.is_calm, "the origin sends on and on")
        assert on.origin.sent_bytes < AHEAD_BYTES_MAX + BLOCK + READ_AHEAD_BYTES


@pytest.mark.parametrize("workers", ["1", "2"])
def test_any_number_who_want_one_block_make_one_fetch_also_when_the_first_leaves(workers):
    gate = threading.Event()
    at = 20 * GB // BLOCK * BLOCK
    with scene(Vast(HUNDRED_GB, holds_head=gate), "--workers", workers) as on:
        leaver = on.edge.connect()
        leaver.sendall(get("/", f"range: bytes={at}-{at + 9}\r\n"))
        poll(lambda: on.origin.asked, "nobody asks")
        replies: list[Reply] = []
        threads = [
            threading.Thread(target=lambda: replies.append(on.span(f"{at}-{at + 9}"))) for _ in range(30)
        ]
        for thread in threads:
            thread.start()
        poll(lambda: on.edge.metric("polycdn_cache_collapsed_total") >= 30, "they do not wait")
        reset(leaver)
        # What comes after the reset is answered after the edge has seen it.
        for _ in range(8):
            assert on.ask("cache-control: only-if-cached\r\n", target="/never").status == 504
        gate.set()
        for thread in threads:
            thread.join()
        assert [reply.body for reply in replies] == [octets(at, at + 10)] * 30
        assert len(on.origin.asked) == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_any_number_who_want_the_whole_make_one_fetch(workers):
    gate = threading.Event()
    with scene(Vast(5 * BLOCK, holds_head=gate), "--workers", workers) as on:
        replies: list[Reply] = []
        threads = [threading.Thread(target=lambda: replies.append(on.ask())) for _ in range(12)]
        for thread in threads:
            thread.start()
        poll(lambda: on.edge.metric("polycdn_cache_collapsed_total") >= 11, "they do not wait")
        gate.set()
        for thread in threads:
            thread.join()
        assert all(reply.body == octets(0, 5 * BLOCK) for reply in replies)
        assert len(replies) == 12
        assert len(on.origin.asked) == 1


@pytest.mark.parametrize(
    "origin",
    [
        Vast(5 * BLOCK, etag=""),
        Vast(5 * BLOCK, etag='W/"weak"'),
        Vast(5 * BLOCK, takes_ranges=False),
        Vast(5 * BLOCK, tells_ranges=False),
    ],
    ids=["no validator", "weak validator", "no ranges", "ranges untold"],
)
def test_what_cannot_be_fetched_in_blocks_is_kept_whole_or_passed_on(origin):
    with scene(replace(origin, asked=[])) as on:
        for first, last in ((5, 9), (2 * BLOCK + 5, 4 * BLOCK), (BLOCK - 1, BLOCK)):
            on.expect(first, last)
        assert on.ask().body == octets(0, 5 * BLOCK)
        asked = len(on.origin.asked)
        on.expect(3 * BLOCK, 4 * BLOCK)
        assert on.span("-9").body == octets(5 * BLOCK - 9, 5 * BLOCK)
        assert len(on.origin.asked) == asked, "the whole is stored"


@pytest.mark.parametrize("spec", ["5-9", "2097160-3145733", "-9", "5242000-"])
def test_a_part_that_may_not_be_stored_comes_exactly_as_it_was_asked_for(spec):
    with scene(Vast(5 * BLOCK, cache_control="no-store")) as on:
        for _ in range(2):
            reply = on.span(spec)
            first, _, last = spec.partition("-")
            whole = octets(0, 5 * BLOCK)
            body = whole[int(first) : int(last) + 1 if last else None] if first else whole[-int(last) :]
            assert (reply.status, reply.body) == (206, body)
            assert reply.value("content-length") == str(len(body))
            place = 5 * BLOCK - len(body) if not first else int(first)
            assert reply.value("content-range") == f"bytes {place}-{place + len(body) - 1}/{5 * BLOCK}"
        assert on.origin.asked[1] == f"bytes={spec}"


def test_an_object_that_changes_between_its_blocks_is_never_mixed():
    with scene(Vast(24 * BLOCK)) as on:
        on.expect(0, BLOCK)
        on.origin.etag, on.origin.seed = '"two"', 2
        cut = on.ask()
        assert len(cut.body) < 24 * BLOCK, "an answer that cannot go on is cut"
        assert cut.body == octets(0, len(cut.body))
        whole = on.ask()
        assert whole.value("etag") == '"two"'
        assert whole.body == octets(0, 24 * BLOCK, 2)
        on.expect(20 * BLOCK, 21 * BLOCK, 2)


def test_an_object_larger_than_the_memory_comes_right_however_it_is_read():
    with scene(Vast(60 * BLOCK), "--memory", "16MB") as on:
        assert on.ask().body == octets(0, 60 * BLOCK)
        for at in (50, 3, 27):
            on.expect(at * BLOCK - 9, (at + 2) * BLOCK)
        assert on.ask().body == octets(0, 60 * BLOCK)


def test_a_change_through_the_edge_drops_what_was_being_fetched():
    gate = threading.Event()
    with scene(Vast(1_000, holds_head=gate)) as on:
        early: list[Reply] = []
        thread = threading.Thread(target=lambda: early.append(on.ask()))
        thread.start()
        poll(lambda: on.origin.asked, "nobody asks")
        on.origin.holds_head = None
        assert on.ask("content-length: 0\r\n", "PUT").status == 200
        gate.set()
        thread.join()
        assert early[0].body == octets(0, 1_000)
        on.origin.seed, on.origin.etag = 3, '"three"'
        assert on.ask().body == octets(0, 1_000, 3)


def test_a_change_through_the_edge_drops_what_is_on_disk_alone(tmp_path):
    words = ("--disk", f"{tmp_path / 'disk'}:64MB")
    origin = Vast(100_000)
    with scene(origin, *words) as on:
        on.ask()
        poll(lambda: on.edge.metric('polycdn_cache_disk_records{kind="head"}') >= 1, "nothing is written")
        assert on.edge.stop() == 0
    with scene(origin, *words) as on:
        origin.seed, origin.etag = 4, '"four"'
        assert on.ask("content-length: 0\r\n", "DELETE").status == 200
        on.edge.process.kill()
        on.edge.process.wait()
    with scene(origin, *words) as on:
        assert on.ask().body == octets(0, 100_000, 4)
