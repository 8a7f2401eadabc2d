"""Every way in which a server can fail, and the one word for it."""

import asyncio
import hashlib
import resource
import socket

import pytest
from h3_server import speaking_h3
from misbehaving import Misbehaving, answer, late, raw

from polycdn.measure.http import Prober
from polycdn.measure.look import Look, Protocol, Question
from polycdn.model.observation import Reason
from polycdn.model.topology import Endpoint, Expect
from polycdn.run.clock import Wall

HELLO = hashlib.sha256(b"hello").hexdigest()
ERROR_PAGE = b"<html>Error 500: something went wrong</html>"


def question(port: int, **changes) -> Question:
    endpoint = changes.pop("endpoint", None) or Endpoint("www.test", port, False, ("127.0.0.1",))
    return Question("cdn-a", endpoint, **{"deadline_ms": 2_000, **changes})


def look_at(
    behave, tls=None, ca_file=None, count=1, host="www.test", **changes
) -> tuple[list[Look], Misbehaving]:
    """Looks, one after another, at a server that behaves so."""

    async def run():
        async with Misbehaving(behave, tls) as server, Prober(Wall()) as prober:
            endpoint = Endpoint(host, server.port, tls is not None, ("127.0.0.1",), ca_file)
            asked = question(server.port, endpoint=endpoint, **changes)
            return [await prober.look(asked) for _ in range(count)], server

    return asyncio.run(run())


def look_once(behave, **changes) -> Look:
    return look_at(behave, **changes)[0][0]


def test_a_good_answer_is_ok_and_tells_everything():
    look = look_once(
        answer(), expect=Expect(200, 5, HELLO, "text/plain", (("content-type", "text/plain"),), "ell")
    )
    assert (look.reason, look.status, look.body_bytes, look.sha256) == (Reason.OK, 200, 5, HELLO)
    assert look.protocol == "h1"
    assert look.is_fresh
    assert look.phases.connect_us > 0
    assert look.phases.processing_us > 0
    assert look.phases.tls_us == 0
    assert look.first_byte_ms >= 1
    assert look.address == "127.0.0.1"
    assert look.at_ms > 1_600_000_000_000


WRECKS = {
    "empty": (raw(b""), Reason.EMPTY),
    "reset before a byte": (raw(b"", then="reset"), Reason.RESET),
    "hangs": (raw(b"", then="hang"), Reason.TIMEOUT),
    "hangs in mid-body": (
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel", then="hang"),
        Reason.STALLED,
    ),
    "closes in mid-body": (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel"), Reason.TRUNCATED),
    "closes in mid-chunk": (
        raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhel"),
        Reason.TRUNCATED,
    ),
    "closes in mid-head": (raw(b"HTTP/1.1 200 OK\r\ncontent-le"), Reason.TRUNCATED),
    "not HTTP": (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), Reason.PROTOCOL),
    "bad chunk": (raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), Reason.PROTOCOL),
    "5xx": (answer(status="503 Service Unavailable"), Reason.HTTP_5XX),
    "another status": (answer(status="404 Not Found"), Reason.STATUS),
    "a redirect": (answer(status="302 Found", fields="location: /sorry\r\n"), Reason.STATUS),
}


@pytest.mark.parametrize("name", WRECKS)
def test_a_failure_has_its_reason(name):
    behave, reason = WRECKS[name]
    look = look_once(behave, deadline_ms=300)
    assert look.reason is reason, look.detail
    assert not look.is_good
    assert look.detail
    assert look.observation("eu", "v1").failures == 1


def test_a_reset_in_mid_body_is_a_reset():
    start = b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n" + b"x" * 1000

    async def behave(_reader, writer, head):
        writer.write(start)
        await writer.drain()
        await asyncio.sleep(0.05)
        await raw(b"", then="reset")(_reader, writer, head)

    assert look_once(behave).reason is Reason.RESET


WRONG = {
    "type": Expect(content_type="text/html"),
    "size": Expect(body_bytes=6),
    "digest": Expect(sha256="0" * 64),
    "text": Expect(contains="welcome"),
    "header": Expect(headers=(("x-app", "shop"),)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_200_with_the_wrong_content_is_a_failure(name):
    look = look_once(answer(), expect=WRONG[name])
    assert look.reason is Reason.CONTENT
    assert "expected" in look.detail or "contain" in look.detail


def test_a_200_that_carries_an_error_page_is_a_failure():
    page = answer(ERROR_PAGE, fields="content-type: text/html\r\n")
    assert look_once(page, expect=Expect(content_type="text/plain")).reason is Reason.CONTENT
    assert look_once(page, expect=Expect(sha256=HELLO)).reason is Reason.CONTENT
    assert look_once(page, expect=Expect(contains="hello")).reason is Reason.CONTENT


def test_an_expected_error_status_is_fine():
    assert look_once(answer(status="503 Sorry"), expect=Expect(status=503)).reason is Reason.OK
    assert look_once(answer(status="404 Nope"), expect=Expect(status=404)).reason is Reason.OK


def test_a_late_first_byte_is_slow_but_an_answer():
    look = look_once(late(0.15), slow_ms=100)
    assert look.reason is Reason.SLOW
    assert look.is_good
    assert look.observation("eu", "v1").failures == 0
    assert look.first_byte_ms >= 150
    assert look_once(late(0.05), slow_ms=1_000).reason is Reason.OK


def test_a_body_larger_than_expected_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr("polycdn.measure.transfer.BODY_BYTES_MAX", 1_000)
    big = answer(b"x" * 100_000)
    look = look_once(big, expect=Expect(body_bytes=5))
    assert look.reason is Reason.CONTENT
    assert look_once(big).reason is Reason.OK
    assert look_once(big).sha256 == ""
    assert look_once(big, expect=Expect(sha256="0" * 64)).reason is Reason.CONTENT
    assert look_once(big, expect=Expect(body_bytes=100_000)).reason is Reason.OK


def test_nobody_listening_is_refused():
    async def run():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            async with Prober(Wall()) as prober:
                return await prober.look(question(taken.getsockname()[1]))

    look = asyncio.run(run())
    assert look.reason is Reason.REFUSED
    assert look.phases.connect_us > 0


def test_a_full_accept_queue_is_a_timeout():
    async def run():
        with socket.socket() as lazy:
            lazy.bind(("127.0.0.1", 0))
            lazy.listen(0)
            port = lazy.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):
                async with Prober(Wall()) as prober:
                    return await prober.look(question(port, deadline_ms=200))

    look = asyncio.run(run())
    assert look.reason is Reason.TIMEOUT
    assert look.phases.connect_us >= 150_000


def one_look(asked: Question) -> Look:
    async def run():
        async with Prober(Wall()) as prober:
            return await prober.look(asked)

    return asyncio.run(run())


def test_a_name_without_address_is_a_dns_failure():
    endpoint = Endpoint("no-such-name.invalid", 80, False)
    assert one_look(question(80, endpoint=endpoint)).reason in (Reason.DNS_EMPTY, Reason.DNS_SERVFAIL)


def test_an_own_address_that_is_not_ours_blinds_the_vantage():
    look = one_look(question(80, source_address="203.0.113.9"))
    assert look.reason is Reason.BLIND
    assert look.observation("eu", "v1").reason is Reason.BLIND


def test_looks_come_from_the_source_address():
    seen = []

    async def behave(reader, writer, head):
        seen.append(writer.get_extra_info("peername")[0])
        await answer()(reader, writer, head)

    assert look_once(behave, source_address="127.0.0.7").is_good
    assert seen == ["127.0.0.7"]


def test_no_descriptors_left_blinds_the_vantage():
    async def run():
        async with Misbehaving(answer()) as server, Prober(Wall()) as prober:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            with socket.socket() as newest:
                resource.setrlimit(resource.RLIMIT_NOFILE, (newest.fileno() + 1, hard))
                try:
                    return await prober.look(question(server.port))
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert asyncio.run(run()).reason is Reason.BLIND


def test_an_unreadable_authority_blinds_the_vantage(authority):
    leaf = authority.leaf("www.test")
    assert look_once(answer(), tls=leaf, ca_file="/nonexistent/ca.pem").reason is Reason.BLIND


def test_tls_with_the_right_names_is_ok_and_shows_the_chain(authority):
    leaf = authority.leaf("www.test", days_left=30)
    looks, server = look_at(answer(), tls=leaf, ca_file=authority.ca_file, host="www.test")
    look = looks[0]
    assert look.reason is Reason.OK, look.detail
    assert look.phases.tls_us > 0
    assert look.chain is not None
    assert look.chain.is_valid
    assert look.chain.days_left(look.at_ms) == 30
    assert "www.test" in look.chain.subject
    assert server.server_names == ["www.test"]
    assert f"Host: www.test:{server.port}".encode() in server.heads[0]


def test_host_may_differ_from_the_server_name(authority):
    leaf = authority.leaf("cdn.test")
    asked = {"tls": leaf, "ca_file": authority.ca_file}
    looks, server = look_at(answer(), **asked, host="cdn.test", headers=(("x-lab-key", "v1/7"),))
    assert looks[0].is_good
    assert b"x-lab-key: v1/7\r\n" in server.heads[0]
    assert server.server_names == ["cdn.test"]


CHAINS = {
    "expired": ({"days_left": -1}, True, Reason.CERT_EXPIRED),
    "another name": ({"hostname": "other.test"}, True, Reason.TLS),
    "self-signed": ({"self_signed": True}, True, Reason.TLS),
    "unknown authority": ({}, False, Reason.TLS),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_bad_chain_is_a_failure_even_if_all_else_is_right(authority, name):
    changes, is_trusted, reason = CHAINS[name]
    leaf = authority.leaf(**{"hostname": "www.test", **changes})
    look = look_once(answer(), tls=leaf, ca_file=authority.ca_file if is_trusted else None)
    assert look.reason is reason, look.detail
    assert look.status == 0


def test_plain_http_where_tls_is_expected_is_a_tls_failure(authority):
    async def run():
        async with Misbehaving(answer()) as server, Prober(Wall()) as prober:
            endpoint = Endpoint("www.test", server.port, True, ("127.0.0.1",), authority.ca_file)

            async def garbage(reader, writer):
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                await writer.drain()
                writer.close()

            plain = await asyncio.start_server(garbage, "127.0.0.1", 0)
            async with plain:
                port = plain.sockets[0].getsockname()[1]
                return await prober.look(
                    question(0, endpoint=Endpoint("www.test", port, True, ("127.0.0.1",), endpoint.ca_file))
                )

    assert asyncio.run(run()).reason is Reason.TLS


def test_an_insisted_protocol_that_is_not_spoken_is_a_failure(authority):
    leaf = authority.leaf("www.test")
    look = look_once(answer(), tls=leaf, ca_file=authority.ca_file, protocol=Protocol.H2)
    assert look.reason is Reason.PROTOCOL
    assert "h1" in look.detail


@pytest.mark.parametrize("protocol", [Protocol.AUTO, Protocol.H2])
def test_http_2_is_spoken(authority, protocol):
    async def run():
        async with (
            Misbehaving(answer(), authority.leaf("www.test"), "h2") as server,
            Prober(Wall()) as prober,
        ):
            endpoint = Endpoint("www.test", server.port, True, ("127.0.0.1",), authority.ca_file)
            asked = question(
                0, endpoint=endpoint, protocol=protocol, is_fresh=False, expect=Expect(sha256=HELLO)
            )
            return [await prober.look(asked) for _ in range(2)], server.connections

    looks, connections = asyncio.run(run())
    assert [(look.reason, look.protocol) for look in looks] == [(Reason.OK, "h2")] * 2
    assert connections == 1


def test_http_3_is_spoken(authority):
    async def run():
        async with speaking_h3(*authority.leaf("www.test")) as port, Prober(Wall()) as prober:
            endpoint = Endpoint("www.test", port, True, ("127.0.0.1",), authority.ca_file)
            expect = Expect(200, 5, HELLO, "text/plain")
            asked = question(
                0, endpoint=endpoint, protocol=Protocol.H3, expect=expect, is_fresh=False, deadline_ms=30_000
            )
            return [await prober.look(asked) for _ in range(2)]

    first, second = asyncio.run(run())
    assert [(look.reason, look.protocol, look.status) for look in (first, second)] == [
        (Reason.OK, "h3", 200)
    ] * 2
    assert first.is_fresh
    assert not second.is_fresh
    assert first.chain is not None
    assert first.chain.is_valid
    assert first.phases.connect_us > 0


def test_http_3_from_whom_nobody_trusts_is_a_tls_fault(authority):
    async def run():
        leaf = authority.leaf("www.test", self_signed=True)
        async with speaking_h3(*leaf) as port, Prober(Wall()) as prober:
            endpoint = Endpoint("www.test", port, True, ("127.0.0.1",), authority.ca_file)
            asked = question(0, endpoint=endpoint, protocol=Protocol.H3, deadline_ms=30_000)
            return await prober.look(asked)

    assert asyncio.run(run()).reason is Reason.TLS


def test_http_3_goes_over_udp_and_a_closed_port_is_refused(authority):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        endpoint = Endpoint("www.test", port, True, ("127.0.0.1",), authority.ca_file)
        asked = question(port, endpoint=endpoint, protocol=Protocol.H3, deadline_ms=300)
        assert one_look(asked).reason is Reason.TIMEOUT
        assert taken.recv(2_000)[0] & 0xC0 == 0xC0, "a QUIC packet with a long header"
    assert one_look(asked).reason is Reason.REFUSED


def test_kept_connections_are_used_again_and_fresh_looks_make_new_ones():
    looks, server = look_at(answer(), count=3, is_fresh=False)
    assert [look.is_fresh for look in looks] == [True, False, False]
    assert server.connections == 1
    assert looks[1].phases.connect_us == 0
    looks, server = look_at(answer(), count=3, is_fresh=True)
    assert server.connections == 3


def test_a_kept_connection_that_the_server_closed_is_not_a_failure():
    async def once(reader, writer, head):
        await answer()(reader, writer, head)
        writer.close()

    looks, server = look_at(once, count=3, is_fresh=False)
    assert all(look.is_good for look in looks)
    assert server.connections == 3


def test_many_looks_run_at_once():
    arrived = 0
    everybody = asyncio.Event()

    async def behave(reader, writer, head):
        """Answers nobody before all have asked."""
        nonlocal arrived
        arrived += 1
        if arrived == 50:
            everybody.set()
        await everybody.wait()
        await answer()(reader, writer, head)

    async def run():
        async with Misbehaving(behave) as server, Prober(Wall()) as prober:
            return await prober.looks([question(server.port, deadline_ms=60_000)] * 50)

    assert all(look.is_good for look in asyncio.run(run()))


def test_concurrency_is_bounded():
    most = now = 0

    async def behave(reader, writer, head):
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        await answer()(reader, writer, head)

    async def run():
        async with Misbehaving(behave) as server, Prober(Wall(), concurrency=4) as prober:
            return await prober.looks([question(server.port)] * 20)

    assert all(look.is_good for look in asyncio.run(run()))
    assert most == 4


def test_a_cancelled_look_leaves_the_prober_usable():
    async def run():
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def behave(reader, writer, head):
            asked.set()
            await go_on.wait()
            await answer()(reader, writer, head)

        async with Misbehaving(behave) as server, Prober(Wall()) as prober:
            task = asyncio.create_task(prober.look(question(server.port)))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()
            return await prober.look(question(server.port))

    assert asyncio.run(run()).is_good


def test_addresses_take_turns_and_a_name_can_stand_for_them():
    two = Endpoint("www.test", 80, False, ("192.0.2.1", "192.0.2.2"))
    assert [question(80, endpoint=two, turn=turn).connect_host for turn in range(3)] == [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.1",
    ]
    by_name = Endpoint("www.test", 80, False)
    assert question(80, endpoint=by_name).connect_host == "www.test"
    assert question(80, endpoint=by_name, resolve_name="cdn.test").connect_host == "cdn.test"


def test_a_name_is_resolved_in_place_of_the_host():
    async def run():
        async with Misbehaving(answer()) as server, Prober(Wall()) as prober:
            endpoint = Endpoint("www.test", server.port, False)
            look = await prober.look(
                question(0, endpoint=endpoint, resolve_name="localhost", host="shop.test")
            )
            return look, server.heads

    look, heads = asyncio.run(run())
    assert look.is_good, look.detail
    assert heads[0].count(b"Host: shop.test:") == 1
    assert heads[0].lower().count(b"host:") == 1
