"""What one client may do to an edge over HTTP/1: each limit's answer and its metric."""

import contextlib
import socket
import threading

import pytest
from engine_process import poll
from gated import Gated, gated, guarded
from providers import HOST, Provider, answer, get, parse, read_to_end, says, upstream

from polycdn.model.settings import Access, ClientLimits, Gate

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]


def post(body_head: str, body: bytes = b"") -> bytes:
    return f"POST / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{body_head}\r\n\r\n".encode() + body


def test_a_uri_that_is_too_long_is_answered_414(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port), uri_bytes_max=200))
    assert one.ask(get("/" + "a" * 199)).status == 200
    assert one.ask(get("/" + "a" * 200)).status == 414
    assert one.refused("uri_bytes") == 1
    # Beyond what any head may have, it is refused before its end.
    assert one.ask(b"GET /" + b"a" * 70_000).status == 414
    assert (one.refused("uri_bytes"), len(provider.requests)) == (2, 1)


def test_a_head_that_is_too_large_is_answered_431(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port), head_fields_max=5))
    lines = "connection: close\r\n" + "".join(f"x-{number}: 1\r\n" for number in range(5))
    assert one.ask(get("/", lines)).status == 200
    assert one.ask(get("/", lines + "x-6: 1\r\n")).status == 431
    many = "".join(f"x-{number}: 1\r\n" for number in range(200))
    assert one.ask(get("/", many)).status == 431
    assert one.refused("head_fields") == 2
    assert one.ask(get("/", f"x-long: {'a' * 70_000}\r\n")).status == 431
    assert (one.refused("head_bytes"), len(provider.requests)) == (1, 1)


def test_a_body_that_is_too_large_is_answered_413(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port), body_bytes_max=1_000))
    assert one.ask(post("content-length: 1000", b"x" * 1_000)).status == 200
    assert one.ask(post("content-length: 1001", b"x" * 1_001)).status == 413
    # Whoever waits to be told to go on is told at once, and sends nothing in vain.
    reply = one.ask(post("expect: 100-continue\r\ncontent-length: 1001"))
    assert reply.status == 413
    assert one.refused("body_bytes") == 2
    chunked = b"3e8\r\n" + b"x" * 1_000 + b"\r\n"
    assert one.ask(post("transfer-encoding: chunked", chunked + b"0\r\n\r\n")).status == 200
    assert one.ask(post("transfer-encoding: chunked", chunked + b"1\r\nx\r\n0\r\n\r\n")).status == 413
    assert (one.refused("body_bytes"), len(provider.requests)) == (3, 2)


def test_a_head_that_comes_too_slowly_is_answered_408(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port)))
    with one.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert parse(read_to_end(connection)).status == 408
    assert one.refused("head_time") == 1


def drip(connection: socket.socket, every_s: float) -> threading.Event:
    """A byte now and then, until told to stop or nobody listens."""
    stop = threading.Event()

    def run() -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(every_s):
                connection.sendall(b"x")

    threading.Thread(target=run, daemon=True).start()
    return stop


def test_a_body_that_drips_is_cut_though_it_is_never_silent(one: Gated, provider):
    own = {"client_bytes_per_s_min": 1_000, "client_rate_window_ms": 500}
    one.serve(guarded(upstream("a", provider.port), **own))
    with one.connect() as connection:
        connection.sendall(post("content-length: 100000", b"x"))
        stop = drip(connection, 0.05)
        assert parse(read_to_end(connection)).status == 408
        stop.set()
    assert one.refused("slow_body") == 1


def test_a_body_that_keeps_the_least_rate_is_not_cut(one: Gated, provider):
    own = {"client_bytes_per_s_min": 10, "client_rate_window_ms": 500}
    one.serve(guarded(upstream("a", provider.port), **own))
    with one.connect() as connection:
        connection.sendall(post("content-length: 30"))
        stop = drip(connection, 0.04)
        assert parse(read_to_end(connection)).status == 200
        stop.set()
    assert one.refused("slow_body") == 0


def slow_reader(one: Gated) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", one.port))
    return connection


def test_a_client_that_takes_its_answer_too_slowly_is_cut(one: Gated):
    body = b"x" * 40_000_000
    whole = says(b"HTTP/1.1 200 OK\r\ncontent-length: 40000000\r\n\r\n" + body)
    with Provider(whole) as provider, slow_reader(one) as connection:
        own = {"client_bytes_per_s_min": 1_000_000, "client_rate_window_ms": 500}
        one.serve(guarded(upstream("a", provider.port), **own))
        connection.sendall(get())

        def is_cut() -> bool:
            connection.recv(100)
            return one.refused("slow_reader") == 1

        poll(is_cut, "the slow reader is not cut")


def test_a_connection_ends_after_its_last_request(one: Gated, provider):
    for is_cached in (False, True):
        limits = guarded(upstream("a", provider.port), is_cached=is_cached, requests_per_connection_max=3)
        one.serve(limits)
        fresh = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\ngood"
        provider.behave = says(fresh) if is_cached else answer()
        received = one.raw(get("/", "") * 5)
        assert received.count(b"HTTP/1.1 200 OK") == 3
        assert received.count(b"connection: close") == 1


def test_a_client_has_so_many_connections_and_others_have_theirs(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port), connections_per_prefix_max=2))
    with one.connect() as first, one.connect() as second:
        for connection in (first, second):
            connection.sendall(get("/", ""))
            assert connection.recv(1_000)
        with one.connect() as third:
            reply = parse(read_to_end(third))
        assert (reply.status, reply.value("retry-after")) == (429, "1")
        assert one.ask(get(), "127.0.0.2").status == 200
        assert one.refused("prefix_connections") == 1
    poll(lambda: one.ask(get()).status == 200, "the places do not become free")


def test_a_worker_has_so_many_connections(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port), connections_max=1))
    with one.connect() as first:
        first.sendall(get("/", ""))
        assert first.recv(1_000)
        with one.connect() as second:
            # What it has sent already does not turn the answer into a reset.
            second.sendall(get() * 20)
            assert parse(read_to_end(second)).status == 503
    assert one.refused("connections") == 1


@pytest.mark.parametrize("is_cached", [False, True])
def test_a_client_has_so_many_requests_and_others_have_theirs(one: Gated, is_cached):
    fresh = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\ngood"
    with Provider(says(fresh)) as provider:
        own = {"requests_per_prefix_rps": 1, "requests_per_prefix_burst": 10}
        one.serve(guarded(upstream("a", provider.port), is_cached=is_cached, **own))
        received = one.raw(get("/", "") * 30 + get())
        assert 10 <= received.count(b"HTTP/1.1 200 OK") <= 15
        assert received.count(b"HTTP/1.1 429 Too Many Requests") >= 16
        assert b"retry-after: 1\r\n" in received
        assert one.refused("prefix_requests") == received.count(b"HTTP/1.1 429")
        assert one.ask(get(), "127.0.0.2").status == 200
        poll(lambda: one.ask(get()).status == 200, "no token comes back")


def test_a_denied_client_is_told_so_before_anything_of_its_body_is_read(one: Gated, provider):
    access = Access(allow=("127.0.9.0/24",), deny=("127.0.0.2", "127.0.8.0/21"))
    one.serve(guarded(upstream("a", provider.port), gate=Gate(access=access)))
    upload = post("expect: 100-continue\r\ncontent-length: 5")
    for source in ("127.0.0.2", "127.0.8.1"):
        reply = one.ask(upload, source)
        assert (reply.status, reply.value("connection")) == (403, "close")
    assert one.refused("denied") == 2
    for source in ("127.0.0.1", "127.0.9.1"):
        assert one.ask(get(), source).status == 200
    assert len(provider.requests) == 2


def test_a_cached_answer_is_no_way_around_the_list(one: Gated):
    fresh = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\ngood"
    with Provider(says(fresh)) as provider:
        gate = Gate(access=Access(deny=("127.0.0.2",)))
        one.serve(guarded(upstream("a", provider.port), gate=gate, is_cached=True))
        assert one.ask(get()).status == 200
        assert one.ask(get()).status == 200
        assert one.ask(get(), "127.0.0.2").status == 403
        assert len(provider.requests) == 1


def test_a_file_of_prefixes_is_read_again_when_it_changes(one: Gated, provider, tmp_path):
    file = tmp_path / "deny"
    file.write_text("127.0.0.2 # a visitor\n")
    gate = Gate(access=Access(deny_file=str(file)))
    one.serve(guarded(upstream("a", provider.port), gate=gate))
    assert one.ask(get(), "127.0.0.2").status == 403
    file.write_text("127.0.0.3\n")
    poll(lambda: one.ask(get(), "127.0.0.2").status == 200, "the file is not read again")
    assert one.ask(get(), "127.0.0.3").status == 403


def test_a_listener_lets_only_those_connect_that_it_knows(provider):
    with gated(access={"allow": ["127.0.0.1"]}) as one:
        one.serve(guarded(upstream("a", provider.port)))
        assert one.ask(get()).status == 200
        with one.connect_from("127.0.0.2") as connection:
            assert parse(read_to_end(connection)).status == 403
        assert one.refused("listener_denied") == 1


def test_only_so_much_is_fetched_for_the_cache_at_once(one: Gated):
    slow = threading.Event()

    def behave(exchange):
        if exchange.target == "/slow":
            exchange.send(b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\n")
            slow.wait(10)
            exchange.send(b"slow")
        else:
            exchange.send(b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\ngood")

    with Provider(behave) as provider, one.connect() as first:
        one.serve(guarded(upstream("a", provider.port), is_cached=True, fills_max=1))
        assert one.ask(get("/kept")).status == 200
        first.sendall(get("/slow"))
        assert first.recv(12) == b"HTTP/1.1 200"
        reply = one.ask(get("/other"))
        assert (reply.status, reply.value("retry-after"), one.refused("fills")) == (503, "1", 1)
        assert one.ask(get("/kept")).status == 200
        slow.set()
        assert read_to_end(first).endswith(b"slow")
        poll(lambda: one.ask(get("/other")).status == 200, "the place does not become free")


def test_a_question_about_what_is_stale_is_a_fetch_too(one: Gated):
    slow = threading.Event()
    kept = b'content-length: 4\r\netag: "1"\r\ncache-control: max-age=0'

    def behave(exchange):
        if exchange.target == "/slow":
            exchange.send(b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\n")
            slow.wait(10)
            exchange.send(b"slow")
            return
        if exchange.value("if-none-match"):
            exchange.send(b'HTTP/1.1 304 Not Modified\r\netag: "1"\r\n\r\n')
            return
        ease = {"/eased": b", stale-if-error=60", "/meanwhile": b", stale-while-revalidate=60"}
        exchange.send(b"HTTP/1.1 200 OK\r\n" + kept + ease.get(exchange.target, b"") + b"\r\n\r\ngood")

    with Provider(behave) as provider, one.connect() as first:
        one.serve(guarded(upstream("a", provider.port), is_cached=True, fills_max=1))
        targets = ("/strict", "/eased", "/meanwhile")
        assert [one.ask(get(target)).status for target in targets] == [200] * 3
        first.sendall(get("/slow"))
        assert first.recv(12) == b"HTTP/1.1 200"
        asked = len(provider.requests)
        assert [one.ask(get(target)).status for target in targets] == [503, 200, 200]
        assert len(provider.requests) == asked
        slow.set()
        assert read_to_end(first).endswith(b"slow")
        poll(lambda: one.ask(get("/strict")).status == 200, "the place does not become free")
        poll(
            lambda: one.ask(get("/eased")).status == 200 and len(provider.requests) > asked + 1, "no question"
        )


def test_broken_requests_are_counted(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port)))
    assert one.ask(b"GET / HTTP/1.1\nhost: a\n\n").status == 400
    assert one.refused("malformed") == 1


def test_a_well_behaved_client_is_served_beside_a_flood(one: Gated, provider):
    own = {"requests_per_prefix_rps": 5, "requests_per_prefix_burst": 5}
    one.serve(guarded(upstream("a", provider.port), **own))
    loris = [one.connect_from("127.0.0.2") for _ in range(200)]
    for connection in loris:
        connection.sendall(b"GET / HTTP/1.1\r\nhost:")
    flood = one.connect_from("127.0.0.3")
    flood.sendall(get("/", "") * 2_000)
    reader = threading.Thread(target=read_to_end, args=(flood,), daemon=True)
    reader.start()
    assert [one.ask(get()).status for _ in range(5)] == [200] * 5
    poll(lambda: one.refused("prefix_requests") >= 1_900, "the flood is not limited")
    poll(lambda: one.refused("head_time") == 200, "the slow ones are not ended")
    flood.shutdown(socket.SHUT_RDWR)
    reader.join(15)
    for connection in (*loris, flood):
        connection.close()


def test_by_default_one_address_may_ask_as_much_as_it_likes(one: Gated, provider):
    one.serve(guarded(upstream("a", provider.port)))
    assert ClientLimits().requests_per_prefix_rps == 0
    received = one.raw(get("/", "") * 2_000 + get())
    assert received.count(b"HTTP/1.1 200 OK") == 2_001


def test_no_client_address_is_in_metrics_or_messages(one: Gated, provider):
    gate = Gate(access=Access(deny=("127.0.77.0/24",)))
    one.serve(guarded(upstream("a", provider.port), gate=gate))
    one.ask(get(), "127.0.77.88")
    assert "127.0.77" not in one.metrics()
    process = one.process.process
    assert process is not None
    one.process.process = None
    process.terminate()
    assert b"127.0.77" not in process.communicate(timeout=20)[1]


def test_a_redirect_is_passed_on_and_not_followed(one: Gated, provider):
    with Provider(answer()) as elsewhere:
        location = f"location: http://127.0.0.1:{elsewhere.port}/\r\n"
        provider.behave = answer(b"", "302 Found", location)
        one.serve(guarded(upstream("a", provider.port)))
        reply = one.ask(get())
        assert (reply.status, reply.value("location")) == (302, f"http://127.0.0.1:{elsewhere.port}/")
        assert elsewhere.connections == 0
