"""A body that breaks in its middle: the client sees one whole answer, or one that is visibly cut."""

import base64
import hashlib
import http.client
import threading
from collections.abc import Callable, Iterator

import pytest
from engine_process import poll
from gated import END_HEADERS, END_STREAM, HEADERS, Frames, fields, frame
from providers import HOST, Edge, Exchange, Hangup, Provider, answer, edge, get, parse, settings, upstream
from vast import BLOCK, Vast, octets

from polycdn.model.settings import CacheRules, Digest, Fallback, Limits, Reflexes, Settings
from polycdn.model.topology import Expect, ProbedObject

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

BODY = bytes(range(256)) * 4_096  # 1 MiB
ETAG = '"one"'
LIMITS = Limits(
    connect_timeout_ms=1_000, first_byte_timeout_ms=2_000, idle_timeout_ms=5_000, client_head_timeout_ms=800
)


@pytest.fixture(scope="module")
def shared_edge() -> Iterator[Edge]:
    with edge(memory_bytes=64 << 20) as one:
        yield one


def serves(body: bytes = BODY, etag: str = ETAG, more: str = "") -> Callable[[Exchange], None]:
    """An object with ranges and If-Range, as a good provider has it."""

    def behave(exchange: Exchange) -> None:
        exchange.send(head_of(exchange, body, etag, more) + part_of(exchange, body, etag))

    return behave


def span_of(exchange: Exchange, body: bytes, etag: str) -> tuple[int, int] | None:
    wanted = exchange.value("range")
    condition = exchange.value("if-range")
    if wanted is None or condition not in (None, etag):
        return None
    first, last = wanted.removeprefix("bytes=").split("-")
    return int(first), int(last or len(body) - 1)


def part_of(exchange: Exchange, body: bytes, etag: str) -> bytes:
    span = span_of(exchange, body, etag)
    return body if span is None else body[span[0] : span[1] + 1]


def head_of(exchange: Exchange, body: bytes, etag: str, more: str = "") -> bytes:
    span = span_of(exchange, body, etag)
    line, length = "200 OK", len(body)
    if span is not None:
        line, length = "206 Partial Content", span[1] - span[0] + 1
        more += f"content-range: bytes {span[0]}-{span[1]}/{len(body)}\r\n"
    fields = f"content-type: video/mp4\r\naccept-ranges: bytes\r\ncache-control: max-age=60\r\n{more}"
    etag_field = f"etag: {etag}\r\n" if etag else ""
    return f"HTTP/1.1 {line}\r\n{fields}{etag_field}content-length: {length}\r\n\r\n".encode()


def breaks(after: int, how: str, body: bytes = BODY, etag: str = ETAG) -> Callable[[Exchange], None]:
    """The same object, but only `after` bytes of it; then `reset`, `close` or `stall`."""

    def behave(exchange: Exchange) -> None:
        exchange.send(head_of(exchange, body, etag) + part_of(exchange, body, etag)[:after])
        if how == "reset":
            exchange.reset()
        if how == "stall":
            exchange.hang()
        raise Hangup

    return behave


def drips(exchange: Exchange) -> None:
    """A tenth of a second for every hundred bytes, for as long as anybody listens."""
    exchange.send(head_of(exchange, BODY, ETAG))
    pause = threading.Event()
    for at in range(0, len(BODY), 100):
        exchange.send(BODY[at : at + 100])
        pause.wait(0.1)


def service(*providers: Provider, cache: bool = False, **more: object) -> Settings:
    upstreams = [upstream(f"p{place}", one.port) for place, one in enumerate(providers)]
    rules = CacheRules() if cache else None
    return settings(*upstreams, limits=LIMITS, cache=rules, **more)


@pytest.mark.parametrize("cache", [False, True], ids=["cache off", "cache on"])
@pytest.mark.parametrize("how", ["reset", "close", "stall"])
@pytest.mark.parametrize("after", [1, 300_000, len(BODY) - 1])
def test_the_client_sees_one_whole_answer_when_a_body_breaks_off(shared_edge, how, after, cache):
    with Provider(breaks(after, how)) as bad, Provider(serves()) as good:
        shared_edge.serve(service(bad, good, cache=cache))
        reply = parse(shared_edge.raw(get(f"/{how}/{after}/{cache}")))
        assert (reply.status, reply.value("content-length")) == (200, str(len(BODY)))
        assert reply.body == BODY
        assert [one.value("range") for one in good.requests] != [None] or after == 1
        poll(lambda: has_failed(shared_edge, "p0"), "the failure was not counted")


def was_reported(shared_edge: Edge, provider: str, reason: str) -> bool:
    return any((row["provider"], row["reason"]) == (provider, reason) for row in shared_edge.counts())


def has_failed(shared_edge: Edge, provider: str) -> bool:
    return any(row["provider"] == provider and row["reason"] != "ok" for row in shared_edge.counts())


def test_a_body_that_drips_is_fetched_elsewhere(shared_edge):
    with Provider(drips) as slow, Provider(serves()) as good:
        shared_edge.serve(service(slow, good))
        assert parse(shared_edge.raw(get("/drip"))).body == BODY
        assert good.requests[0].value("range")


def test_a_range_is_taken_up_within_its_end(shared_edge):
    with Provider(breaks(1_000, "reset")) as bad, Provider(serves()) as good:
        shared_edge.serve(service(bad, good))
        reply = parse(shared_edge.raw(get("/range", "connection: close\r\nrange: bytes=5000-99999\r\n")))
        assert (reply.status, reply.body) == (206, BODY[5_000:100_000])
        assert good.requests[0].value("range") == "bytes=6000-99999"


def test_a_provider_without_ranges_goes_on_too(shared_edge):
    with (
        Provider(breaks(400_000, "reset")) as bad,
        Provider(answer(BODY, fields=f"etag: {ETAG}\r\n")) as good,
    ):
        shared_edge.serve(service(bad, good))
        assert parse(shared_edge.raw(get("/no-ranges"))).body == BODY


def test_another_version_never_follows_and_the_answer_is_visibly_cut(shared_edge):
    other = BODY[::-1]

    def breaks_once(exchange: Exchange) -> None:
        if exchange.value("range"):
            exchange.reset()
        breaks(400_000, "reset")(exchange)

    with Provider(breaks_once) as bad, Provider(serves(other, '"two"')) as good:
        shared_edge.serve(service(bad, good))
        connection = http.client.HTTPConnection("127.0.0.1", shared_edge.port, timeout=15)
        connection.request("GET", "/versions", headers={"host": HOST})
        reply = connection.getresponse()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)) as cut:
            reply.read()
        connection.close()
        if isinstance(cut.value, http.client.IncompleteRead):
            assert cut.value.partial == BODY[: len(cut.value.partial)]
        poll(lambda: was_reported(shared_edge, "p1", "parity"), "the disagreement was not reported")


def test_providers_with_etags_of_their_own_agree_by_size_and_date_when_told_to(shared_edge):
    date = "last-modified: Tue, 18 Nov 2025 11:20:00 GMT\r\n"
    with (
        Provider(lambda exchange: breaks_dated(exchange, date)) as bad,
        Provider(serves(etag='"of-b"', more=date)) as good,
    ):
        shared_edge.serve(service(bad, good, reflexes=Reflexes(identity="size+last-modified")))
        assert parse(shared_edge.raw(get("/dated"))).body == BODY


def breaks_dated(exchange: Exchange, date: str) -> None:
    exchange.send(head_of(exchange, BODY, '"of-a"', date) + BODY[:200_000])
    exchange.reset()


def test_faults_may_move_from_provider_to_provider(shared_edge):
    with Provider(breaks(100_000, "reset")) as one, Provider(breaks(150_000, "close")) as two:
        shared_edge.serve(service(one, two))
        assert parse(shared_edge.raw(get("/moving"))).body == BODY
        assert len(one.requests) >= 3 and len(two.requests) >= 3


def test_a_body_with_a_wrong_digest_comes_from_elsewhere(shared_edge):
    body = BODY[:100_000]
    wrong = b"\xff" + body[1:]
    pinned = ProbedObject("/pinned", Expect(sha256=hashlib.sha256(body).hexdigest(), body_bytes=len(body)))
    with Provider(serves(wrong)) as bad, Provider(serves(body)) as good:
        shared_edge.serve(service(bad, good, objects=(pinned,)))
        assert parse(shared_edge.raw(get("/pinned"))).body == body
        poll(lambda: was_reported(shared_edge, "p0", "corrupt"), "the corruption was not reported")


@pytest.mark.parametrize("cache", [False, True], ids=["cache off", "cache on"])
def test_a_wrong_block_comes_from_elsewhere_and_the_others_do_not(shared_edge, cache):
    path, size = f"/blocks/{cache}", 65_536
    hexes = tuple(hashlib.sha256(BODY[at : at + size]).hexdigest() for at in range(0, len(BODY), size))
    known = Digest(path, len(BODY), hashlib.sha256(BODY).hexdigest(), size, hexes)
    wrong = BODY[:500_000] + b"\x00" + BODY[500_001:]
    assert wrong != BODY
    with Provider(serves(wrong)) as bad, Provider(serves()) as good:
        shared_edge.serve(service(bad, good, cache=cache, digests=(known,)))
        for _ in range(2):
            assert parse(shared_edge.raw(get(path))).body == BODY
        assert good.requests[0].value("range") == f"bytes={500_000 // size * size}-{len(BODY) - 1}"
        poll(lambda: was_reported(shared_edge, "p0", "corrupt"), "the corruption was not reported")


def test_a_body_that_contradicts_its_own_digest_never_looks_whole(shared_edge):
    right = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    wrong = b"\xff" + BODY[1:]
    with Provider(serves(wrong, more=f"repr-digest: sha-256=:{right}:\r\n")) as bad:
        shared_edge.serve(service(bad, cache=True))
        for _ in range(2):
            _, _, body = shared_edge.raw(get("/told")).partition(b"\r\n\r\n")
            assert len(body) < len(BODY)
        assert len(bad.requests) == 2, "what was wrong was kept"


@pytest.mark.parametrize("cache", [False, True])
def test_a_body_that_nobody_has_right_is_an_error_that_names_everyone(shared_edge, cache):
    wrong = bytes(len(BODY))
    pinned = ProbedObject("/none", Expect(sha256=hashlib.sha256(BODY).hexdigest(), body_bytes=len(BODY)))
    with Provider(serves(wrong)) as one, Provider(serves(wrong)) as two:
        shared_edge.serve(service(one, two, cache=cache, objects=(pinned,)))
        reply = parse(shared_edge.raw(get("/none")))
        assert (reply.status, reply.value("cache-control"), reply.value("retry-after")) == (
            502,
            "no-store",
            "2",
        )
        told = reply.value("proxy-status") or ""
        assert all(f'next-hop="{name}"; details="corrupt"' in told for name in ("p0", "p1")), told


def test_over_http2_it_is_the_same_error(shared_edge):
    wrong = bytes(len(BODY))
    pinned = ProbedObject("/none", Expect(sha256=hashlib.sha256(BODY).hexdigest(), body_bytes=len(BODY)))
    with Provider(serves(wrong)) as one, shared_edge.connect() as connection:
        shared_edge.serve(service(one, objects=(pinned,)))
        client = Frames(connection)
        client.begin()
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, fields("/none")))
        assert client.status() == "502"


def head_alone(exchange: Exchange) -> None:
    exchange.send(head_of(exchange, BODY, ETAG))
    raise Hangup


@pytest.mark.parametrize("cache", [False, True])
def test_a_body_that_ends_before_its_first_byte_everywhere_is_an_error(shared_edge, cache):
    with Provider(head_alone) as one, Provider(head_alone) as two:
        shared_edge.serve(service(one, two, cache=cache))
        reply = parse(shared_edge.raw(get("/empty")))
        assert reply.status == 502
        assert "http_response_incomplete" in (reply.value("proxy-status") or "")


DATED = "last-modified: Tue, 18 Nov 2025 11:20:00 GMT\r\n"


@pytest.mark.parametrize(("identity", "is_shared"), [("size+last-modified", True), ("etag", False)])
def test_blocks_of_providers_with_etags_of_their_own_make_one_body_when_told_to(
    shared_edge, identity, is_shared
):
    first, second = Vast(6 * BLOCK, '"of-a"', more=DATED), Vast(6 * BLOCK, '"of-b"', more=DATED)
    target = f"/blocks-{is_shared}"
    with Provider(first.behave) as one, Provider(second.behave) as two:
        shared_edge.serve(service(one, two, cache=True, reflexes=Reflexes(identity=identity)))
        reply = parse(shared_edge.raw(get(target, f"range: bytes=0-{BLOCK - 1}\r\nconnection: close\r\n")))
        assert (reply.status, reply.body) == (206, octets(0, BLOCK))
        one.close()
        whole = parse(shared_edge.raw(get(target)))
        if is_shared:
            assert (whole.value("etag"), whole.body) == ('"of-a"', octets(0, 6 * BLOCK))
            assert all(asked and not asked.startswith("bytes=0-") for asked in second.asked), second.asked
        else:
            assert whole.body == octets(0, len(whole.body)), "bytes of another version"
        again = parse(shared_edge.raw(get(target)))
        assert again.body == octets(0, 6 * BLOCK)


def test_a_block_of_another_date_never_joins(shared_edge):
    newer = DATED.replace("11:20", "11:21")
    first, second = Vast(4 * BLOCK, '"of-a"', more=DATED), Vast(4 * BLOCK, '"of-b"', seed=1, more=newer)
    with Provider(first.behave) as one, Provider(second.behave) as two:
        shared_edge.serve(service(one, two, cache=True, reflexes=Reflexes(identity="size+last-modified")))
        part = get("/moved", f"range: bytes=0-{BLOCK - 1}\r\nconnection: close\r\n")
        assert parse(shared_edge.raw(part)).body == octets(0, BLOCK)
        one.close()
        cut = parse(shared_edge.raw(get("/moved"))).body
        assert cut == octets(0, len(cut)) and len(cut) < 4 * BLOCK
        assert parse(shared_edge.raw(get("/moved"))).body == octets(0, 4 * BLOCK, 1)


def test_an_event_stream_goes_on_behind_the_last_event(shared_edge):
    def events(first: int, last: int) -> bytes:
        return b"".join(f"id: {number}\ndata: {number}\n\n".encode() for number in range(first, last))

    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"

    def breaks_in_an_event(exchange: Exchange) -> None:
        chunked = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        piece = events(1, 5) + b"id: 5\nda"
        exchange.send(chunked + f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        exchange.reset()

    def goes_on(exchange: Exchange) -> None:
        exchange.send(head + events(int(exchange.value("last-event-id") or 0) + 1, 9))
        raise Hangup

    with Provider(breaks_in_an_event) as bad, Provider(goes_on) as good:
        shared_edge.serve(service(bad, good))
        reply = parse(shared_edge.raw(f"GET /events HTTP/1.0\r\nhost: {HOST}\r\n\r\n".encode()))
        assert reply.body == events(1, 9)
        assert good.requests[0].value("last-event-id") == "4"


def test_an_error_page_in_place_of_a_known_object_is_not_believed(shared_edge):
    state = {"is_broken": False}

    def sometimes(exchange: Exchange) -> None:
        if state["is_broken"]:
            answer(b"<h1>oops</h1>", fields="content-type: text/html\r\n")(exchange)
        else:
            serves()(exchange)

    with Provider(sometimes) as bad, Provider(serves()) as good:
        shared_edge.serve(service(bad, good))
        assert parse(shared_edge.raw(get("/known"))).body == BODY
        state["is_broken"] = True
        assert parse(shared_edge.raw(get("/known"))).body == BODY
        assert len(good.requests) == 1


def test_an_object_that_really_changed_is_believed_once_two_say_so(shared_edge):
    page = answer(b"<h1>new</h1>", fields="content-type: text/html\r\n")
    state = {"behave": serves()}
    with Provider(lambda exchange: state["behave"](exchange)) as one, Provider(page) as two:
        shared_edge.serve(service(one, two))
        assert parse(shared_edge.raw(get("/changed"))).body == BODY
        state["behave"] = page
        for _ in range(2):
            assert parse(shared_edge.raw(get("/changed"))).body == b"<h1>new</h1>"
        assert (len(one.requests), len(two.requests)) == (3, 1)


def test_a_silent_provider_is_overtaken_by_the_next(shared_edge):
    with Provider(lambda exchange: exchange.hang()) as silent, Provider(answer()) as good:
        shared_edge.serve(service(silent, good))
        assert parse(shared_edge.raw(get("/silent"))).body == b"good"
        assert len(good.requests) == 1


def test_the_services_own_word_serves_when_nobody_answers(shared_edge, tmp_path):
    page = tmp_path / "sorry.html"
    page.write_text("<h1>back soon</h1>")
    reflexes = Reflexes(fallback=Fallback(503, "text/html", str(page)))
    with Provider(lambda exchange: exchange.reset()) as bad:
        shared_edge.serve(service(bad, reflexes=reflexes))
        reply = parse(shared_edge.raw(get("/down")))
        assert (reply.status, reply.body) == (503, b"<h1>back soon</h1>")
        assert reply.value("retry-after") and "next-hop" in str(reply.value("proxy-status"))


def test_no_more_requests_reach_an_upstream_at_once_than_it_has_room_for(shared_edge):
    inside, most, lock, release = [0], [0], threading.Lock(), threading.Event()

    def slow(exchange: Exchange) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        if inside[0] >= 8:
            release.set()
        release.wait(10)
        with lock:
            inside[0] -= 1
        answer()(exchange)

    with Provider(slow) as one:
        shared_edge.serve(service(one, reflexes=Reflexes(concurrency_max=8)))
        replies: list[int] = []

        def ask(number: int) -> None:
            replies.append(parse(shared_edge.raw(get(f"/herd/{number}"))).status)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert replies == [200] * 40
        assert most[0] == 8


def test_a_keyed_post_is_sent_again_only_where_the_service_shares_its_keys(shared_edge):
    key = "connection: close\r\ncontent-length: 2\r\nidempotency-key: k\r\n"
    request = get("/pay", key, method="POST") + b"hi"
    for scope, status in (("provider", 502), ("service", 200)):
        with Provider(lambda exchange: exchange.reset()) as bad, Provider(answer()) as good:
            shared_edge.serve(service(bad, good, reflexes=Reflexes(idempotency_scope=scope)))
            assert parse(shared_edge.raw(request)).status == status
            assert len(good.requests) == (1 if status == 200 else 0)


def test_two_providers_that_disagree_are_reported_although_nobody_needed_the_second(shared_edge):
    with Provider(serves()) as one, Provider(serves(BODY[::-1])) as two:
        shared_edge.serve(service(one, two, reflexes=Reflexes(sample_bp=10_000)))
        assert parse(shared_edge.raw(get("/sampled"))).body == BODY
        poll(lambda: was_reported(shared_edge, "p1", "parity"), "the disagreement was not reported")
