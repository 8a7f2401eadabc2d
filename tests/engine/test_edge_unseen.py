"""Faults at objects that were never seen, without validator or expectation: what can be told is told."""

import base64
import hashlib
import threading
from collections.abc import Iterator

import pytest
from providers import HOST, Edge, Exchange, Hangup, Provider, answer, edge, parse, settings, upstream

from polycdn.model.settings import Digest, Limits, Reflexes, Settings

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

LIMITS = Limits(connect_timeout_ms=1_000, first_byte_timeout_ms=8_000, idle_timeout_ms=8_000)
PAGE = b"<h1>oops</h1>"
JSON = "content-type: application/json\r\n"


@pytest.fixture(scope="module")
def shared_edge() -> Iterator[Edge]:
    with edge(memory_bytes=64 << 20, workers=2) as one:
        yield one


def service(*providers: Provider, **more: object) -> Settings:
    upstreams = [upstream(f"p{place}", one.port) for place, one in enumerate(providers)]
    return settings(*upstreams, limits=LIMITS, **more)


def told(body: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return f"{JSON}content-digest: sha-256=:{digest}:\r\n"


def asked(one: Edge, target: str, head: str = "") -> bytes:
    reply = parse(
        one.raw(f"GET {target} HTTP/1.1\r\nhost: {HOST}\r\n{head}connection: close\r\n\r\n".encode())
    )
    assert reply.status == 200
    return reply.body


def test_an_error_page_in_place_of_an_object_never_seen_is_told_by_its_kin(shared_edge):
    good_one = answer(b"segment", fields='content-type: video/mp2t\r\netag: "s"\r\n')
    state = {"behave": good_one}
    with Provider(lambda exchange: state["behave"](exchange)) as bad, Provider(good_one) as good:
        shared_edge.serve(service(bad, good))
        assert [asked(shared_edge, f"/live/{number}.ts") for number in range(3)] == [b"segment"] * 3
        state["behave"] = answer(PAGE, fields="content-type: text/html\r\n")
        assert [asked(shared_edge, f"/live/{number}.ts") for number in range(3, 9)] == [b"segment"] * 6


def test_where_two_agree_a_page_is_a_page(shared_edge):
    state = {"behave": answer(b"text", fields="content-type: text/plain\r\n")}
    with (
        Provider(lambda exchange: state["behave"](exchange)) as one,
        Provider(lambda exchange: state["behave"](exchange)) as two,
    ):
        shared_edge.serve(service(one, two))
        assert [asked(shared_edge, f"/docs/{number}") for number in range(3)] == [b"text"] * 3
        state["behave"] = answer(PAGE, fields="content-type: text/html\r\n")
        assert [asked(shared_edge, f"/docs/{number}") for number in range(3, 9)] == [PAGE] * 6
        assert len(two.requests) == 1


def test_an_object_of_another_length_than_its_digest_is_of_comes_from_the_next(shared_edge):
    wrong = answer(PAGE, fields="content-type: application/zip\r\n")
    right = answer(b"p" * 5_000, fields="content-type: application/zip\r\n")
    pinned = Digest("/patch.zip", 5_000, hashlib.sha256(b"p" * 5_000).hexdigest())
    with Provider(wrong) as bad, Provider(right) as good:
        shared_edge.serve(service(bad, good, digests=(pinned,)))
        assert asked(shared_edge, "/patch.zip") == b"p" * 5_000


@pytest.mark.parametrize("spoilt", [b'{"text":"hellO"}', b'{"text"'], ids=["corrupt", "halved"])
def test_a_small_wrong_body_is_told_by_the_digest_that_it_carries(shared_edge, spoilt):
    right = b'{"text":"hello"}'
    with (
        Provider(answer(spoilt, fields=told(right))) as bad,
        Provider(answer(right, fields=told(right))) as good,
    ):
        shared_edge.serve(service(bad, good))
        assert asked(shared_edge, "/feed/1") == right


def test_a_wrong_answer_to_a_post_goes_to_nobody(shared_edge):
    right = b'{"id":1}'
    head = f"host: {HOST}\r\nidempotency-key: k\r\ncontent-length: 2\r\nconnection: close"
    post = f"POST /feed HTTP/1.1\r\n{head}\r\n\r\n{{}}"
    with (
        Provider(answer(b'{"id":7}', fields=told(right))) as bad,
        Provider(answer(right, fields=told(right))) as good,
    ):
        shared_edge.serve(service(bad, good))
        assert parse(shared_edge.raw(post.encode())).status == 502
        assert good.requests == []
        shared_edge.serve(service(bad, good, reflexes=Reflexes(idempotency_scope="service")))
        reply = parse(shared_edge.raw(post.encode()))
        assert (reply.status, reply.body) == (200, right)


def test_a_small_body_that_hardly_comes_is_fetched_elsewhere_and_passed_on_when_nobody_does_better(
    shared_edge,
):
    def drips(exchange: Exchange) -> None:
        exchange.send(f"HTTP/1.1 200 OK\r\n{JSON}content-length: 12\r\n\r\n".encode())
        pause = threading.Event()
        for at in range(12):
            exchange.send(b'{"slow":"s"}'[at : at + 1])
            pause.wait(0.15)

    with Provider(drips) as bad, Provider(answer(b'{"ok":1}', fields=JSON)) as good:
        shared_edge.serve(service(bad, good))
        assert asked(shared_edge, "/feed/2") == b'{"ok":1}'
    with Provider(drips) as one, Provider(drips) as two:
        shared_edge.serve(service(one, two))
        assert asked(shared_edge, "/feed/3") == b'{"slow":"s"}'


def test_an_event_stream_that_falls_silent_goes_on_elsewhere(shared_edge):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"

    def events(first: int, last: int) -> list[bytes]:
        return [f"id: {number}\ndata: {number}\n\n".encode() for number in range(first, last)]

    def falls_silent(exchange: Exchange) -> None:
        exchange.send(head)
        pause = threading.Event()
        for event in events(1, 8):
            exchange.send(event)
            pause.wait(0.02)
        exchange.hang()

    def goes_on(exchange: Exchange) -> None:
        exchange.send(head + b"".join(events(int(exchange.value("last-event-id") or 0) + 1, 11)))
        raise Hangup

    with Provider(falls_silent) as bad, Provider(goes_on) as good:
        shared_edge.serve(service(bad, good))
        reply = parse(shared_edge.raw(f"GET /events HTTP/1.0\r\nhost: {HOST}\r\n\r\n".encode()))
        assert reply.body == b"".join(events(1, 11))
        assert good.requests[0].value("last-event-id") == "7"


def test_all_requests_leave_a_provider_that_falls_silent_while_users_still_wait(shared_edge):
    silent = threading.Event()

    def behave(exchange: Exchange) -> None:
        if silent.is_set():
            exchange.hang()
        else:
            answer(b"one")(exchange)

    with Provider(behave) as bad, Provider(answer(b"two")) as good:
        shared_edge.serve(service(bad, good))
        assert [asked(shared_edge, f"/{number}") for number in range(8)] == [b"one"] * 8
        silent.set()
        found: list[bytes] = []
        threads = [
            threading.Thread(target=lambda n=number: found.append(asked(shared_edge, f"/{n}")))
            for number in range(30)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(7)
        assert found == [b"two"] * 30
