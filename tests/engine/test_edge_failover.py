"""What a client of the edge sees while providers fail: nothing, as long as one is well."""

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from engine_process import poll
from providers import (
    HOST,
    QUICK,
    Edge,
    Exchange,
    Hangup,
    Provider,
    answer,
    edge,
    get,
    hangs,
    parse,
    refused_port,
    resets,
    says,
    settings,
    upstream,
)

from polycdn.model.settings import Limits, Reflexes, Upstream
from polycdn.model.topology import Endpoint, Expect, ProbedObject, ProviderKind, Region

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def shared_edge() -> Iterator[Edge]:
    with edge() as one:
        yield one


PROBED = (ProbedObject("/probed", Expect(body_bytes=4, content_type="text/plain")),)

FAULTS = {
    "reset": (resets, "reset"),
    "empty": (says(b"", close=True), "empty"),
    "timeout": (hangs, "timeout"),
    "protocol": (says(b"SSH-2.0-OpenSSH\r\n\r\n"), "protocol"),
    "garbage without an end": (says(b"\x00" * 100), "protocol"),
    "both framings": (
        says(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n"),
        "protocol",
    ),
    "503": (answer(b"sorry", "503 Service Unavailable"), "http_5xx"),
    "cut head": (says(b"HTTP/1.1 200 OK\r\ncontent-", close=True), "truncated"),
    "cut small body": (says(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngo", close=True), "truncated"),
    "no body at all": (says(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", close=True), "truncated"),
    "wrong status": (answer(b"none", "404 Not Found"), "status"),
    "wrong type": (answer(b"good", fields="content-type: text/html\r\n"), "content"),
    "wrong length": (answer(b"too long"), "content"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_any_fault_before_the_first_byte_goes_on_to_the_next_provider(shared_edge, fault):
    behave, reason = FAULTS[fault]
    with Provider(behave) as bad, Provider(answer()) as good:
        ups = (upstream("bad", bad.port), upstream("good", good.port))
        shared_edge.serve(settings(*ups, objects=PROBED, reflexes=Reflexes(hedge_budget_bp=0)))
        reply = parse(shared_edge.raw(get("/probed")))
        assert (reply.status, reply.body) == (200, b"good")
        assert len(bad.requests) == 1
        wanted = {("bad", reason), ("good", "ok")}
        poll(
            lambda: wanted <= {(row["provider"], row["reason"]) for row in shared_edge.counts()}, "no counts"
        )


def test_a_provider_known_by_its_cname_is_reached_by_it_not_by_the_services_name(shared_edge):
    with Provider(answer()) as good:
        endpoint = Endpoint(HOST, good.port, tls=False)
        shared_edge.serve(settings(Upstream("named", ProviderKind.CDN, endpoint, cname="localhost")))
        reply = parse(shared_edge.raw(get("/")))
        assert (reply.status, reply.body) == (200, b"good")
        assert good.requests[0].value("host") == HOST


def test_a_refused_connection_goes_on_to_the_next_provider(shared_edge):
    with Provider(answer()) as good:
        shared_edge.serve(settings(upstream("shut", refused_port()), upstream("good", good.port)))
        assert parse(shared_edge.raw(get())).body == b"good"
        poll(
            lambda: ("shut", "refused") in {(r["provider"], r["reason"]) for r in shared_edge.counts()},
            "no count",
        )


def test_answers_of_an_object_without_expectations_pass_whatever_they_are(shared_edge):
    with Provider(answer(b"none", "404 Not Found")) as first, Provider(answer()) as second:
        shared_edge.serve(settings(upstream("a", first.port), upstream("b", second.port), objects=PROBED))
        assert parse(shared_edge.raw(get("/other"))).status == 404
        assert not second.requests


def test_a_large_body_that_breaks_off_cuts_the_client_off(shared_edge):
    whole = b"x" * 500_000

    def dies(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + whole)
        raise Hangup

    def dies_in_chunks(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7a120\r\n" + whole + b"\r\n")
        raise Hangup

    for behave in (dies, dies_in_chunks):
        with Provider(behave) as bad, Provider(answer()) as good:
            shared_edge.serve(settings(upstream("bad", bad.port), upstream("good", good.port)))
            content = shared_edge.raw(get())
            assert content.count(b"x") >= 500_000
            assert not content.endswith(b"0\r\n\r\n")
            assert not good.requests
            poll(lambda: any(r["reason"] == "truncated" for r in shared_edge.counts()), "not counted")


def test_all_refused_is_503_and_names_every_attempt(shared_edge):
    shared_edge.serve(settings(upstream("a", refused_port()), upstream("b", refused_port())))
    reply = parse(shared_edge.raw(get()))
    assert reply.status == 503
    status = reply.value("proxy-status") or ""
    assert 'error=connection_refused; next-hop="a"' in status
    assert 'error=connection_refused; next-hop="b"' in status


def test_all_silent_is_504_and_all_broken_502(shared_edge):
    with Provider(hangs) as a, Provider(hangs) as b:
        shared_edge.serve(settings(upstream("a", a.port), upstream("b", b.port)))
        assert parse(shared_edge.raw(get())).status == 504
    with Provider(resets) as a, Provider(hangs) as b:
        shared_edge.serve(settings(upstream("a", a.port), upstream("b", b.port)))
        assert parse(shared_edge.raw(get())).status == 502


def test_the_last_providers_5xx_is_passed_on_when_all_failed(shared_edge):
    with Provider(answer(b"one", "500 No")) as a, Provider(answer(b"two", "503 No")) as b:
        shut = upstream("shut", refused_port())
        shared_edge.serve(settings(upstream("a", a.port), upstream("b", b.port), shut))
        reply = parse(shared_edge.raw(get()))
        assert (reply.status, reply.body) == (503, b"two")


@pytest.mark.parametrize("behave", [resets, hangs, answer(b"no", "503 No")], ids=["reset", "hang", "503"])
def test_a_post_that_was_sent_is_never_sent_again(shared_edge, behave):
    with Provider(behave) as bad, Provider(answer()) as good:
        shared_edge.serve(settings(upstream("bad", bad.port), upstream("good", good.port)))
        fields = "idempotency-key: 1\r\ncontent-length: 3\r\nconnection: close\r\n"
        reply = parse(shared_edge.raw(get(method="POST", fields=fields) + b"abc"))
        assert reply.status >= 500
        assert (len(bad.requests), len(good.requests)) == (1, 0)


def test_a_post_goes_on_when_nobody_can_have_seen_it(shared_edge):
    with Provider(answer()) as good:
        shared_edge.serve(settings(upstream("shut", refused_port()), upstream("good", good.port)))
        reply = parse(
            shared_edge.raw(get(method="POST", fields="content-length: 3\r\nconnection: close\r\n") + b"abc")
        )
        assert reply.status == 200
        assert [(one.method, one.body) for one in good.requests] == [("POST", b"abc")]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_put_takes_its_body_along_while_it_is_small(shared_edge, framing):
    body = b"0123456789" * 5_000
    wire = {
        "length": f"content-length: {len(body)}\r\nconnection: close\r\n",
        "chunked": "transfer-encoding: chunked\r\nconnection: close\r\n",
    }[framing]
    content = body if framing == "length" else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with Provider(answer(b"no", "500 No")) as bad, Provider(answer()) as good:
        shared_edge.serve(settings(upstream("bad", bad.port), upstream("good", good.port)))
        reply = parse(shared_edge.raw(get(method="PUT", fields=wire) + content))
        assert reply.status == 200
        assert [one.body for one in good.requests] == [body]


def test_a_put_longer_than_what_is_kept_is_not_sent_again(shared_edge):
    body = b"x" * 3_000
    limits = Limits(first_byte_timeout_ms=400, replay_bytes_max=1_000)
    with Provider(answer(b"no", "500 No")) as bad, Provider(answer()) as good:
        shared_edge.serve(settings(upstream("bad", bad.port), upstream("good", good.port), limits=limits))
        fields = f"content-length: {len(body)}\r\nconnection: close\r\n"
        assert parse(shared_edge.raw(get(method="PUT", fields=fields) + body)).status == 500
        assert not good.requests


def test_a_kept_connection_that_was_closed_meanwhile_costs_nothing(shared_edge):
    def closes_on_second(exchange: Exchange) -> None:
        if exchange.target == "/second" and exchange.number == 1:
            raise Hangup
        answer()(exchange)

    with Provider(closes_on_second) as one, Provider(answer(b"other")) as other:
        shared_edge.serve(settings(upstream("one", one.port), upstream("other", other.port)))
        assert parse(shared_edge.raw(get("/first"))).body == b"good"
        assert parse(shared_edge.raw(get("/second"))).body == b"good"
        assert [(r.number, r.target) for r in one.requests] == [(1, "/first"), (1, "/second"), (2, "/second")]
        assert not other.requests


def test_a_silent_provider_is_asked_last_after_a_few_failures(shared_edge):
    with Provider(hangs) as silent, Provider(answer()) as good:
        shared_edge.serve(settings(upstream("silent", silent.port), upstream("good", good.port)))
        for _ in range(25):
            assert parse(shared_edge.raw(get())).status == 200
        assert 5 <= len(silent.requests) <= 8


def test_a_silence_that_outlasts_the_client_counts_against_the_provider(shared_edge):
    with Provider(hangs) as silent, Provider(answer()) as good:
        limits = Limits(first_byte_timeout_ms=20_000)
        ups = (upstream("mute", silent.port), upstream("good", good.port))
        shared_edge.serve(settings(*ups, limits=limits))
        waiting = [shared_edge.connect() for _ in range(5)]
        for connection in waiting:
            connection.sendall(get())
        poll(lambda: len(silent.requests) == 5, "not asked")
        time.sleep(1.1)
        for connection in waiting:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        poll(
            lambda: ("mute", "timeout") in {(r["provider"], r["reason"]) for r in shared_edge.counts()},
            "no count",
        )
        assert parse(shared_edge.raw(get())).body == b"good"
        assert len(silent.requests) == 5


def test_a_provider_whose_bodies_break_off_is_asked_last_after_a_few(shared_edge):
    def dies(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 200_000)
        raise Hangup

    with Provider(dies) as bad, Provider(answer()) as good:
        shared_edge.serve(settings(upstream("bad", bad.port), upstream("good", good.port)))
        bodies = [parse(shared_edge.raw(get())).body for _ in range(12)]
        assert bodies[-1] == b"good"
        assert 5 <= len(bad.requests) <= 7


def test_when_all_fail_alike_the_origin_sees_at_most_a_fifth_more(shared_edge):
    requests = 300
    bad = answer(b"no", "503 No")
    with Provider(bad) as a, Provider(bad) as b, Provider(bad) as c:
        limits = Limits(retry_floor_rps=0)
        ups = [upstream(name, one.port) for name, one in (("a", a), ("b", b), ("c", c))]
        shared_edge.serve(settings(*ups, limits=limits))
        with shared_edge.connect() as connection, connection.makefile("rb") as stream:
            for _ in range(requests):
                connection.sendall(get(fields=""))
                assert b" 503 " in stream.readline()
                while (line := stream.readline()) != b"\r\n":
                    if line.startswith(b"content-length"):
                        length = int(line.split(b":")[1])
                stream.read(length)
        seen = len(a.requests) + len(b.requests) + len(c.requests)
        assert requests <= seen <= requests * 1.2 + 3
        assert len(a.requests) == requests, "the order changed while all were failing"


def test_clients_of_a_region_get_its_order_and_the_edge_itself_goes_to_the_origin(shared_edge):
    with Provider(answer(b"cdn")) as cdn, Provider(answer(b"origin")) as origin:
        own = upstream("own", refused_port())
        own = type(own)("own", ProviderKind.EDGE, own.endpoint)
        service = settings(
            upstream("cdn", cdn.port),
            own,
            origin=Endpoint("127.0.0.1", origin.port, tls=False),
            regions=(Region("far"), Region("here", ("127.0.0.0/8",))),
        )
        shared_edge.serve(service, {"far": ("cdn", "own"), "here": ("own", "cdn")})
        assert parse(shared_edge.raw(get())).body == b"origin"
        poll(
            lambda: "here" in {row["region"] for row in shared_edge.counts() if row["provider"] == "own"},
            "no count",
        )


def test_requests_are_counted_as_the_client_saw_them(shared_edge):
    with Provider(answer()) as good:
        shared_edge.serve(
            settings(upstream("good", good.port), hostnames=("www.example.test",), limits=QUICK)
        )
        assert parse(shared_edge.raw(get())).status == 200
        poll(lambda: any(row["outcome"] == "ok" for row in shared_edge.served()), "no ok")
    assert parse(shared_edge.raw(get())).status == 503
    poll(lambda: any(row["outcome"] == "failed" for row in shared_edge.served()), "no failed")
