"""HTTP/1.1 at the edge, byte by byte: what passes, what is added, and what is refused."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from engine_process import poll
from providers import (
    HOST,
    Edge,
    Exchange,
    Hangup,
    Provider,
    edge,
    get,
    parse,
    read_to_end,
    settings,
    upstream,
)

from polycdn.model.settings import Limits

pytestmark = pytest.mark.lab


def behave(exchange: Exchange) -> None:
    """Answers by path; /echo gives the request's body back."""
    paths = {
        "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
        "/304": b'HTTP/1.1 304 Not Modified\r\netag: "a"\r\ncontent-length: 5\r\n\r\n',
        "/head": b"HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n",
        "/chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: 1\r\n\r\n",
        "/interim": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "/hops": b"HTTP/1.1 200 OK\r\nconnection: x-secret\r\nx-secret: 1\r\nkeep-alive: 5\r\nx-kept: 1\r\n"
        b"content-length: 2\r\n\r\nok",
    }
    if exchange.target == "/echo":
        exchange.send(
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(exchange.body), exchange.body)
        )
    elif exchange.target == "/until-close":
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        raise Hangup
    else:
        exchange.send(paths.get(exchange.target, b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood"))


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider(behave) as one:
        yield one


@pytest.fixture(scope="module")
def shared_edge(provider: Provider) -> Iterator[Edge]:
    with edge() as one:
        limits = Limits(client_head_timeout_ms=700, idle_timeout_ms=1_500, head_bytes_max=8_192)
        one.serve(settings(upstream("cdn", provider.port), limits=limits))
        yield one


def test_a_request_arrives_as_a_proxy_should_send_it(shared_edge, provider):
    fields = (
        "x-forwarded-for: 192.0.2.7\r\nconnection: close, x-private\r\nx-private: 1\r\nkeep-alive: 3\r\n"
        "te: trailers\r\nproxy-connection: x\r\naccept: a\r\naccept: b\r\nvia: 1.1 before\r\n"
    )
    reply = parse(shared_edge.raw(get("/a?b=c", fields)))
    assert (reply.status, reply.body) == (200, b"good")
    assert reply.value("via") == "1.1 polycdn"
    assert reply.value("date")
    seen = provider.requests[-1]
    assert (seen.method, seen.target, seen.value("host")) == ("GET", "/a?b=c", HOST)
    assert seen.value("x-forwarded-for") == "127.0.0.1"
    assert seen.value("x-forwarded-proto") == "http"
    assert seen.value("via") == "1.1 before, 1.1 polycdn"
    assert seen.value("accept") == "a, b"
    for gone in ("connection", "x-private", "keep-alive", "te", "proxy-connection"):
        assert seen.value(gone) is None


def test_fields_of_the_upstreams_connection_stay_there(shared_edge):
    reply = parse(shared_edge.raw(get("/hops")))
    assert reply.value("x-kept") == "1"
    assert reply.value("x-secret") is None
    assert reply.value("keep-alive") is None


def test_answers_without_a_body_have_none(shared_edge):
    assert parse(shared_edge.raw(get("/204"))).body == b""
    unchanged = parse(shared_edge.raw(get("/304")))
    assert (unchanged.status, unchanged.value("etag"), unchanged.body) == (304, '"a"', b"")
    head = parse(shared_edge.raw(get("/head", method="HEAD")))
    assert (head.status, head.value("content-length"), head.body) == (200, "12345", b"")


def test_chunked_and_closed_bodies_come_whole_to_old_and_new_clients(shared_edge):
    new = parse(shared_edge.raw(get("/chunks")))
    assert new.value("transfer-encoding") == "chunked"
    assert dechunk(new.body, b"t: 1\r\n") == b"abcde"
    assert dechunk(parse(shared_edge.raw(get("/until-close"))).body) == b"all of it"
    old = parse(shared_edge.raw(f"GET /chunks HTTP/1.0\r\nhost: {HOST}\r\n\r\n".encode()))
    assert (old.value("transfer-encoding"), old.body) == (None, b"abcde")


def dechunk(body: bytes, trailers: bytes = b"") -> bytes:
    whole = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            assert body == trailers + b"\r\n"
            return whole
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]


@pytest.mark.parametrize("length", [0, 1, 100_000, 3_000_000])
def test_bodies_of_any_length_pass_in_both_framings(shared_edge, length):
    body = bytes(index % 251 for index in range(length))
    plain = get("/echo", f"content-length: {length}\r\nconnection: close\r\n", "POST") + body
    assert parse(both_ways(shared_edge, plain)).body == body
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(p), p) for p in (body[i : i + 7_000] for i in range(0, length, 7_000))
    )
    chunked = (
        get("/echo", "transfer-encoding: chunked\r\nconnection: close\r\n", "POST") + chunks + b"0\r\n\r\n"
    )
    assert parse(both_ways(shared_edge, chunked)).body == body


def both_ways(one: Edge, content: bytes) -> bytes:
    """Sends while it reads, as a client with a long body must."""
    with one.connect() as connection:
        sender = threading.Thread(target=connection.sendall, args=(content,))
        sender.start()
        received = read_to_end(connection)
        sender.join()
        return received


def test_requests_sent_ahead_are_answered_in_order(shared_edge):
    ahead = get("/a", "") + get("/echo", "content-length: 3\r\n", "POST") + b"abc" + get("/chunks")
    received = shared_edge.raw(ahead)
    assert received.index(b"good") < received.index(b"abc") < received.index(b"transfer-encoding")


def test_interim_answers_are_passed_on_to_who_understands_them(shared_edge):
    first, _, rest = shared_edge.raw(get("/interim")).partition(b"\r\n\r\n")
    assert first == b"HTTP/1.1 103 Early Hints\r\nlink: </a>"
    assert (parse(rest).status, parse(rest).body) == (200, b"ok")
    old = get("/interim").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert (parse(shared_edge.raw(old)).status, parse(shared_edge.raw(old)).body) == (200, b"ok")


def test_trailers_go_up_but_none_that_would_come_too_late():
    seen = bytearray()

    def behave(exchange: Exchange) -> None:
        while not seen.endswith(b"\r\n\r\n"):
            seen.extend(exchange.connection.recv(1_000))
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with Provider(behave, reads_body=False) as own, edge() as one:
        one.serve(settings(upstream("cdn", own.port)))
        with one.connect() as connection:
            connection.sendall(get("/", "transfer-encoding: chunked\r\nconnection: close\r\n", "POST"))
            poll(lambda: own.requests, "the head does not arrive")
            connection.sendall(b"1\r\na\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n")
            assert parse(read_to_end(connection)).status == 200
    assert bytes(seen) == b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"


def test_a_request_that_comes_back_is_refused(shared_edge, provider):
    shared_edge.raw(get())
    own = provider.requests[-1].value("cdn-loop")
    assert own is not None
    assert own.startswith("polycdn-")
    before = len(provider.requests)
    for value in (own, f"other; a=b, {own}; c", own.upper()):
        reply = parse(shared_edge.raw(get("/", f"cdn-loop: {value}\r\nconnection: close\r\n")))
        assert reply.status == 508, value
    assert len(provider.requests) == before
    shared_edge.raw(get("/", "cdn-loop: other; a=b\r\nconnection: close\r\n"))
    assert provider.requests[-1].value("cdn-loop") == f"other; a=b, {own}"


def test_a_client_that_waits_to_go_on_is_told_so(shared_edge, provider):
    with shared_edge.connect() as connection:
        fields = "content-length: 5\r\nexpect: 100-continue\r\nconnection: close\r\n"
        connection.sendall(get("/echo", fields, "POST"))
        assert connection.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert parse(read_to_end(connection)).body == b"hello"
        assert provider.requests[-1].value("expect") is None


def test_events_pass_as_they_happen():
    go_on = threading.Event()

    def events(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        exchange.send(b"id: 1\ndata: one\n\n")
        assert go_on.wait(10)
        exchange.send(b"id: 2\ndata: two\n\n")
        raise Hangup

    with Provider(events) as source, edge() as one:
        one.serve(settings(upstream("cdn", source.port)))
        with one.connect() as connection:
            connection.sendall(get())
            received = b""
            while b"data: one" not in received:
                received += connection.recv(1_000)
            assert b"data: two" not in received
            go_on.set()
            assert b"data: two" in read_to_end(connection)


def test_an_upgraded_connection_is_a_tunnel():
    def socket_echo(exchange: Exchange) -> None:
        assert (exchange.value("upgrade"), exchange.value("connection")) == ("websocket", "upgrade")
        exchange.send(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nhi"
        )
        exchange.send(exchange.connection.recv(100).upper())
        raise Hangup

    with Provider(socket_echo) as source, edge() as one:
        one.serve(settings(upstream("cdn", source.port)))
        with one.connect() as connection:
            connection.sendall(get("/", "connection: Upgrade\r\nupgrade: websocket\r\n"))
            received = b""
            while not received.endswith(b"\r\n\r\nhi"):
                received += connection.recv(1_000)
            assert received.startswith(b"HTTP/1.1 101 ")
            connection.sendall(b"ping")
            assert read_to_end(connection) == b"PING"


def test_nobody_reaches_http2_behind_the_edge_by_an_upgrade(shared_edge, provider):
    fields = "connection: Upgrade, HTTP2-Settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    assert parse(shared_edge.raw(get("/", fields))).status == 200
    assert provider.requests[-1].value("upgrade") is None
    assert provider.requests[-1].value("http2-settings") is None


def test_a_name_that_is_no_services_is_421(shared_edge):
    assert (
        parse(shared_edge.raw(b"GET / HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n")).status
        == 421
    )
    absolute = (
        f"GET http://{HOST.upper()}:80/x HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n".encode()
    )
    assert parse(shared_edge.raw(absolute)).status == 200


H = f"host: {HOST}\r\n".encode()

SMUGGLED = {
    "length and chunked": b"POST / HTTP/1.1\r\n"
    + H
    + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n" + H + b"content-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
    "list of lengths": b"POST / HTTP/1.1\r\n" + H + b"content-length: 4, 4\r\n\r\nabcd",
    "signed length": b"POST / HTTP/1.1\r\n" + H + b"content-length: +4\r\n\r\nabcd",
    "huge length": b"POST / HTTP/1.1\r\n" + H + b"content-length: 99999999999999999999\r\n\r\nabcd",
    "empty length": b"POST / HTTP/1.1\r\n" + H + b"content-length:\r\n\r\nabcd",
    "twice chunked": b"POST / HTTP/1.1\r\n"
    + H
    + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    "chunked not last": b"POST / HTTP/1.1\r\n" + H + b"transfer-encoding: chunked, identity\r\n\r\n",
    "chunked misspelt": b"POST / HTTP/1.1\r\n" + H + b"transfer-encoding: xchunked\r\n\r\n",
    "chunked with vertical tab": b"POST / HTTP/1.1\r\n" + H + b"transfer-encoding: \x0bchunked\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\n" + H + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded line": b"GET / HTTP/1.1\r\n" + H + b"a: b\r\n c\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\n" + H + b"\r\n",
    "bare LF between fields": b"GET / HTTP/1.1\r\n" + H + b"a: b\nc: d\r\n\r\n",
    "bare CR": b"GET / HTTP/1.1\r\n" + H + b"a: b\rc: d\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\n" + H + b"a: b\x00\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\n" + H + b"content-length : 4\r\n\r\nabcd",
    "space before name": b"GET / HTTP/1.1\r\n content-length: 4\r\n" + H + b"\r\nabcd",
    "no colon": b"GET / HTTP/1.1\r\n" + H + b"abc\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\na: b\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + H + H + b"\r\n",
    "list of hosts": b"GET / HTTP/1.1\r\nhost: " + HOST.encode() + b", other\r\n\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nhost: " + HOST.encode() + b"/x\r\n\r\n",
    "host with a user": b"GET / HTTP/1.1\r\nhost: user@" + HOST.encode() + b"\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n" + H + b"\r\n",
    "fragment": b"GET /#a HTTP/1.1\r\n" + H + b"\r\n",
    "target without a slash": b"GET a HTTP/1.1\r\n" + H + b"\r\n",
    "version": b"GET / HTTP/1.2\r\n" + H + b"\r\n",
    "chunk size": b"POST / HTTP/1.1\r\n" + H + b"transfer-encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\n",
    "chunk end": b"POST / HTTP/1.1\r\n" + H + b"transfer-encoding: chunked\r\n\r\n4\r\nabcdX0\r\n\r\n",
    "chunk line end": b"POST / HTTP/1.1\r\n" + H + b"transfer-encoding: chunked\r\n\r\n4\nabcd\r\n0\r\n\r\n",
    "TLS on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("case", SMUGGLED, ids=str)
def test_what_two_parsers_could_read_in_two_ways_is_refused(shared_edge, provider, case):
    before = len(provider.requests)
    received = shared_edge.raw(SMUGGLED[case] + get("/smuggled"))
    assert parse(received).status in (400, 505)
    assert received.count(b"HTTP/1.1 ") == 1, "the connection went on"
    assert parse(received).value("connection") == "close"
    assert all(one.target != "/smuggled" for one in provider.requests[before:])


def test_too_large_a_head_is_431(shared_edge):
    assert parse(shared_edge.raw(get("/", f"x: {'y' * 9_000}\r\n"))).status == 431
    assert parse(shared_edge.raw(get("/", "x: y\r\n" * 200))).status == 431


def test_a_request_line_longer_than_a_head_may_be_is_414(shared_edge):
    assert parse(shared_edge.raw(b"GET /" + b"x" * 9_000)).status == 414


def test_a_head_that_takes_too_long_is_408(shared_edge):
    with shared_edge.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost:")
        assert parse(read_to_end(connection)).status == 408


def test_a_body_that_takes_too_long_is_408(shared_edge):
    with shared_edge.connect() as connection:
        connection.sendall(get("/echo", "content-length: 10\r\n", "POST") + b"abc")
        assert parse(read_to_end(connection)).status == 408


def test_a_slow_reader_holds_the_upstream_back():
    sent = 0

    def endless(exchange: Exchange) -> None:
        nonlocal sent
        exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            exchange.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            sent += 65_536

    with Provider(endless) as source, edge() as one:
        one.serve(settings(upstream("cdn", source.port), limits=Limits(idle_timeout_ms=2_000)))
        with one.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            connection.sendall(get())
            poll(lambda: sent, "nothing is read from the provider")
            before, now = -1, sent
            while before != now:
                time.sleep(0.3)
                before, now = now, sent
            assert 0 < now < 30_000_000
            assert memory_kib(one) < 120_000


def test_an_upstream_that_does_not_read_holds_the_client_back():
    def deaf(exchange: Exchange) -> None:
        exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        threading.Event().wait(3)
        raise Hangup

    with Provider(deaf, reads_body=False) as source, edge() as one:
        one.serve(settings(upstream("cdn", source.port), limits=Limits(idle_timeout_ms=2_000)))
        with one.connect() as connection:
            connection.settimeout(0.5)
            connection.sendall(get("/", "transfer-encoding: chunked\r\n", "POST"))
            sent = 0
            with pytest.raises(TimeoutError):
                while True:
                    connection.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                    sent += 65_536
            assert sent < 30_000_000
            assert memory_kib(one) < 120_000


def memory_kib(one: Edge) -> int:
    assert one.process.process
    with open(f"/proc/{one.process.process.pid}/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_a_drain_finishes_what_is_under_way_and_ends_with_0():
    go_on = threading.Event()

    def slow(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf")
        assert go_on.wait(10)
        exchange.send(b"done")

    with Provider(slow) as source, edge() as one:
        one.serve(settings(upstream("cdn", source.port), limits=Limits()))
        with one.connect() as busy, one.connect() as idle:
            busy.sendall(get("/", ""))
            received = b""
            while not received.endswith(b"half"):
                received += busy.recv(1_000)
            assert one.process.process
            one.process.process.terminate()
            assert idle.recv(1) == b""
            with pytest.raises(ConnectionRefusedError):
                while True:
                    one.connect().close()
                    time.sleep(0.02)
            go_on.set()
            assert read_to_end(busy) == b"done"
        assert one.process.process.wait(120) == 0
        one.process.stop()


def test_a_garbage_flood_breaks_nothing(shared_edge):
    for seed in range(40):
        noise = bytes((seed * 7 + index * index) % 256 for index in range(200))
        shared_edge.raw(noise + b"\r\n\r\n")
    assert parse(shared_edge.raw(get())).status == 200


def test_an_answer_outlives_a_client_that_only_stops_sending(shared_edge):
    with shared_edge.connect() as connection:
        connection.sendall(get("/", ""))
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection).endswith(b"good")
