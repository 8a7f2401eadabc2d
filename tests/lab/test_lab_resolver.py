"""Whom a client asks: caches, the file, and DNS with its faults."""

import asyncio

import dns.message
import dns.rcode
import pytest
from lab_stage import FOREVER_MS, HOSTNAME, Hand, running

from polycdn.lab.fault import FaultKind, Schedule, Window
from polycdn.lab.injector import write_faults
from polycdn.lab.nameserver import run_nameserver
from polycdn.lab.places import split_listen
from polycdn.lab.resolver import Resolver, Unresolved, make_resolvers, write_target
from polycdn.lab.spec import Aim, Answer, LoadSpec, NameserverSpec, Process
from polycdn.model.observation import Reason

ANSWER = Answer(HOSTNAME, ("127.0.0.9",), ttl_s=30)


class Counted:
    """A source whose answers can be told apart."""

    def __init__(self, ttl_s):
        self.ttl_s = ttl_s
        self.asked = 0

    async def ask(self):
        self.asked += 1
        await asyncio.sleep(0)
        return str(self.asked), self.ttl_s


def load_spec(tmp_path, aim, **more):
    process = Process("client", "wall", str(tmp_path / "ready"))
    return LoadSpec(process, aim, HOSTNAME, 443, "ca.pem", str(tmp_path / "log"), **more)


def nameserver_spec(tmp_path, *windows):
    faults = tmp_path / "faults.json"
    write_faults(faults, Schedule(1, windows))
    process = Process("operator", "wall", str(tmp_path / "ready"))
    return NameserverSpec(process, "127.0.0.1:0", (ANSWER,), str(faults), str(tmp_path / "operator.faults"))


async def lookup(tmp_path, listens, clock=None, **more):
    """The address that the first resolver gives, or why there is none."""
    spec = load_spec(tmp_path, Aim.DNS, nameservers=tuple(listens), **more)
    resolvers, askers = await make_resolvers(spec, clock or Hand())
    try:
        return await resolvers[0].address()
    except Unresolved as error:
        return error.reason
    finally:
        for asker in askers:
            asker.close()


def test_an_answer_is_kept_for_its_ttl_of_the_timeline_and_not_longer():
    async def work():
        clock = Hand(0)
        resolver = Resolver(Counted(ttl_s=60), clock)
        seen = []
        for clock.at_ms in (0, 59_999, 60_000, 119_999, 120_000):
            seen.append(await resolver.address())
        assert seen == ["1", "1", "2", "2", "3"]

    asyncio.run(work())


def test_those_who_ask_at_once_share_one_answer():
    async def work():
        source = Counted(ttl_s=1)
        resolver = Resolver(source, Hand())
        assert set(await asyncio.gather(*(resolver.address() for _ in range(9)))) == {"1"}
        assert source.asked == 1

    asyncio.run(work())


def test_resolvers_keep_their_answers_apart(tmp_path):
    target = tmp_path / "target"

    async def work():
        clock = Hand(0)
        spec = load_spec(tmp_path, Aim.FILE, target_file=str(target), resolvers=2)
        (one, two), _ = await make_resolvers(spec, clock)
        write_target(target, "127.0.0.1")
        assert await one.address() == "127.0.0.1"
        write_target(target, "127.0.0.2")
        clock.at_ms = 59_999
        assert (await one.address(), await two.address()) == ("127.0.0.1", "127.0.0.2")
        clock.at_ms = 60_000
        assert await one.address() == "127.0.0.2"

    asyncio.run(work())


def test_a_client_that_asks_by_dns_gets_the_address_and_its_ttl(tmp_path):
    async def work():
        async with running(run_nameserver, nameserver_spec(tmp_path)) as listen:
            assert await lookup(tmp_path, [listen]) == "127.0.0.9"

    asyncio.run(work())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FaultKind.DNS_SERVFAIL, Reason.DNS_SERVFAIL),
        (FaultKind.DNS_EMPTY, Reason.DNS_EMPTY),
        (FaultKind.DNS_TIMEOUT, Reason.DNS_TIMEOUT),
    ],
    ids=str,
)
def test_a_fault_of_the_dns_operator_is_seen_for_what_it_is(tmp_path, kind, reason):
    async def work():
        spec = nameserver_spec(tmp_path, Window("operator", 0, FOREVER_MS, kind))
        async with running(run_nameserver, spec) as listen:
            assert await lookup(tmp_path, [listen]) is reason

    asyncio.run(work())
    assert kind.value in (tmp_path / "operator.faults").read_text()


def test_a_second_dns_operator_is_asked_when_the_first_fails(tmp_path):
    (tmp_path / "bad").mkdir()
    bad = nameserver_spec(tmp_path / "bad", Window("operator", 0, FOREVER_MS, FaultKind.DNS_SERVFAIL))

    async def work():
        good = nameserver_spec(tmp_path)
        async with running(run_nameserver, bad) as one, running(run_nameserver, good) as two:
            assert await lookup(tmp_path, [one, two]) == "127.0.0.9"

    asyncio.run(work())


def test_a_nameserver_that_is_gone_is_unreachable(tmp_path):
    async def work():
        async with running(run_nameserver, nameserver_spec(tmp_path)) as gone:
            pass
        assert await lookup(tmp_path, [gone]) is Reason.UNREACHABLE

    asyncio.run(work())


def test_names_and_types_that_are_not_there(tmp_path):
    async def ask(listen, name, kind):
        loop = asyncio.get_running_loop()
        got = loop.create_future()

        class Once(asyncio.DatagramProtocol):
            def datagram_received(self, wire, addr):
                got.set_result(wire)

        transport, _ = await loop.create_datagram_endpoint(Once, remote_addr=split_listen(listen))
        transport.sendto(b"not a query")
        transport.sendto(dns.message.make_query(name, kind).to_wire())
        try:
            return dns.message.from_wire(await asyncio.wait_for(got, 3))
        finally:
            transport.close()

    async def work():
        async with running(run_nameserver, nameserver_spec(tmp_path)) as listen:
            assert (await ask(listen, "other.test", "A")).rcode() == dns.rcode.NXDOMAIN
            nodata = await ask(listen, HOSTNAME, "AAAA")
            assert (nodata.rcode(), nodata.answer) == (dns.rcode.NOERROR, [])

    asyncio.run(work())


def test_each_resolver_names_its_own_network(tmp_path):
    seen = []

    class Listener(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, wire, addr):
            query = dns.message.from_wire(wire)
            seen.append(query.options[0].to_text())
            self.transport.sendto(dns.message.make_response(query).to_wire(), addr)

    async def work():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Listener, local_addr=("127.0.0.1", 0))
        address, port = transport.get_extra_info("sockname")
        spec = load_spec(tmp_path, Aim.DNS, nameservers=(f"{address}:{port}",), resolvers=3)
        resolvers, askers = await make_resolvers(spec, Hand())
        for resolver in resolvers:
            with pytest.raises(Unresolved):
                await resolver.address()
        transport.close()
        for asker in askers:
            asker.close()

    asyncio.run(work())
    assert len(set(seen)) == 3
    assert "10.0.2.0/24" in seen[2]
