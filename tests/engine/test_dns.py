"""The nameserver as its clients see it: a real process, asked by dnspython."""

import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import pytest
from dns_service import SETTINGS, Client, named, published
from engine_process import Engine, engine, open_files, poll

from polycdn.model.settings import Settings

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def server() -> Iterator[Engine]:
    """Everywhere alpha, in the region eu gamma; two workers."""
    with engine("dns", dns=["127.0.0.1:0"], workers=2) as one:
        one.start()
        assert one.apply(SETTINGS, published(3, {"alpha": 10_000}, {"gamma": 10_000}))["ok"]
        yield one


@pytest.fixture(scope="module")
def client(server: Engine) -> Client:
    return Client(server.say({"op": "hello"})["listeners"]["dns"][0])


@pytest.mark.parametrize("tcp", [False, True])
def test_all_addresses_of_the_provider_are_answered_with_the_plans_ttl(client, tcp):
    reply = client.ask("www.example.test", "A", tcp=tcp)
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD
    assert [(rrset.ttl, len(rrset)) for rrset in reply.answer] == [(60, 2)]
    assert client.addresses(tcp=tcp) == ["192.0.2.1", "192.0.2.2"]
    assert client.addresses(kind="AAAA", tcp=tcp) == ["2001:db8::1"]


def test_a_subnet_decides_the_region_and_comes_back_with_its_scope(client):
    subnet = dns.edns.ECSOption("10.1.2.0", 24)
    reply = client.ask("www.example.test", "A", options=[subnet])
    assert [item.to_text() for item in reply.answer[0]] == ["customer.cdn.test."]
    assert reply.answer[0].rdtype == dns.rdatatype.CNAME
    (told,) = reply.options
    assert (told.address, told.srclen, told.scopelen) == ("10.1.2.0", 24, 24)


def test_soa_and_name_servers_are_those_of_the_zone(client):
    (soa,) = client.ask("example.test", "SOA").answer[0]
    assert (soa.mname.to_text(), soa.rname.to_text()) == ("ns1.example.test.", "hostmaster.example.test.")
    assert (soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum) == (3, 3_600, 600, 604_800, 30)
    reply = client.ask("example.test", "NS")
    assert sorted(item.to_text() for item in reply.answer[0]) == ["ns1.example.test.", "ns2.other.test."]
    assert [rrset.to_text() for rrset in reply.additional] == ["ns1.example.test. 3600 IN A 127.0.0.1"]
    assert client.addresses("ns1.example.test") == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("www.example.test", "TXT", dns.rcode.NOERROR),
        ("er.example.test", "A", dns.rcode.NOERROR),
        ("example.test", "A", dns.rcode.NOERROR),
        ("nothing.example.test", "A", dns.rcode.NXDOMAIN),
        ("below.www.example.test", "AAAA", dns.rcode.NXDOMAIN),
    ],
)
def test_a_negative_answer_carries_the_soa_with_the_negative_ttl(client, name, kind, rcode):
    reply = client.ask(name, kind)
    assert (reply.rcode(), reply.answer) == (rcode, [])
    assert reply.flags & dns.flags.AA
    (soa,) = reply.authority
    assert (soa.name.to_text(), soa.rdtype, soa.ttl) == ("example.test.", dns.rdatatype.SOA, 30)


@pytest.mark.parametrize(("name", "kind"), [("www.other.test", "A"), (".", "NS"), ("example.test", "AXFR")])
def test_what_is_not_ours_to_tell_is_refused(client, name, kind):
    query = dns.message.make_query(name, kind)
    reply = dns.query.udp(query, client.address, timeout=30, port=client.port)
    assert (reply.rcode(), reply.answer, reply.authority) == (dns.rcode.REFUSED, [], [])


def test_another_class_is_refused_and_another_opcode_not_implemented(client):
    assert client.ask("version.bind", "TXT", rdclass="CH").rcode() == dns.rcode.REFUSED
    query = dns.message.make_query("example.test", "SOA")
    query.set_opcode(dns.opcode.NOTIFY)
    reply = dns.message.from_wire(exchange(client, query.to_wire()))
    assert (reply.rcode(), reply.id) == (dns.rcode.NOTIMP, query.id)


def test_any_gets_one_small_record(client):
    (rrset,) = client.ask("www.example.test", "ANY").answer
    assert rrset.to_text() == 'www.example.test. 60 IN HINFO "RFC8482" ""'


def test_edns_is_answered_by_edns_and_another_version_by_badvers(client):
    reply = client.ask("www.example.test", use_edns=0, payload=4_096, want_dnssec=True)
    assert (reply.edns, reply.payload, reply.ednsflags & dns.flags.DO) == (0, 1_232, dns.flags.DO)
    assert client.ask("www.example.test").edns == -1
    assert client.ask("www.example.test", use_edns=1).rcode() == dns.rcode.BADVERS


def test_the_case_of_the_question_comes_back(client):
    mixed = "wWw.eXaMpLe.TeSt"
    reply = client.ask(mixed)
    assert reply.question[0].name.labels == dns.name.from_text(mixed).labels
    assert len(reply.answer[0]) == 2


def exchange(client: Client, wire: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(30)
        one.sendto(wire, (client.address, client.port))
        return one.recv(65_535)


def test_garbage_gets_formerr_or_silence_and_the_next_query_its_answer(client):
    whole = dns.message.make_query("www.example.test", "A").to_wire()
    assert exchange(client, whole[:20])[3] & 0xF == dns.rcode.FORMERR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for garbage in (b"", b"x", whole[:11], b"\x80" * 40):
            one.sendto(garbage, (client.address, client.port))
        one.settimeout(30)
        one.sendto(whole, (client.address, client.port))
        assert one.recv(512)[:2] == whole[:2], "the garbage before it got no reply"


def framed(name: str) -> tuple[bytes, int]:
    query = dns.message.make_query(name, "A")
    wire = query.to_wire()
    return struct.pack("!H", len(wire)) + wire, query.id


def read_framed(connection: socket.socket) -> bytes:
    with connection.makefile("rb", buffering=0) as stream:
        (length,) = struct.unpack("!H", stream.read(2))
        return stream.read(length)


def test_one_tcp_connection_takes_many_queries_also_in_pieces(client):
    with socket.create_connection((client.address, client.port), timeout=30) as connection:
        first, second = framed("www.example.test"), framed("deep.er.example.test")
        connection.sendall(first[0] + second[0])
        for _, query_id in (first, second):
            assert dns.message.from_wire(read_framed(connection)).id == query_id
        third = framed("no.example.test")
        for byte in third[0]:
            connection.sendall(bytes([byte]))
        assert dns.message.from_wire(read_framed(connection)).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("length", [0, 11, 4_097, 65_535])
def test_a_length_that_no_query_has_ends_the_tcp_connection(client, length):
    with socket.create_connection((client.address, client.port), timeout=30) as connection:
        connection.sendall(struct.pack("!H", length))
        assert connection.recv(1) == b""


def test_connections_that_were_left_are_let_go_of(server, client):
    before = open_files(server.process.pid)
    for _ in range(50):
        with socket.create_connection((client.address, client.port), timeout=30) as connection:
            connection.sendall(b"\0")
    poll(lambda: open_files(server.process.pid) <= before + 2, "connections are not closed")


def test_a_long_answer_is_cut_over_udp_and_whole_over_tcp():
    many = tuple(f"192.0.2.{number}" for number in range(120))
    alpha, *others = SETTINGS.upstreams
    settings = Settings(
        SETTINGS.service,
        SETTINGS.hostnames,
        (type(alpha)(alpha.name, alpha.kind, alpha.endpoint, None, many), *others),
        regions=SETTINGS.regions,
        zone=SETTINGS.zone,
    )
    with engine("dns", dns=["127.0.0.1:0"]) as one:
        client = Client(one.start()["listeners"]["dns"][0])
        assert one.apply(settings, published(1, settings=settings))["ok"]
        query = dns.message.make_query("www.example.test", "A", use_edns=0, payload=4_096)
        reply = dns.query.udp(query, client.address, timeout=30, port=client.port)
        assert reply.flags & dns.flags.TC
        assert reply.answer == []
        reply, over_tcp = dns.query.udp_with_fallback(query, client.address, timeout=30, port=client.port)
        assert over_tcp
        assert len(reply.answer[0]) == 120


def test_shares_hold_over_subnets_and_each_subnet_keeps_its_provider(server, client):
    other = named("shop", "shop.example.test")
    assert server.apply(other, published(1, {"alpha": 7_000, "beta": 3_000}, settings=other))["ok"]

    def pick(number: int) -> str:
        subnet = dns.edns.ECSOption(f"172.{16 + number // 256}.{number % 256}.0", 24)
        return client.addresses("shop.example.test", options=[subnet])[0]

    with ThreadPoolExecutor(4) as pool:
        first = list(pool.map(pick, range(1_000)))
        again = list(pool.map(pick, range(1_000)))
    assert first == again
    # Four standard deviations of 1000 draws at 30 %.
    assert 240 <= first.count("198.51.100.1") <= 360


def test_what_was_answered_is_counted_by_rcode_service_and_region():
    with engine("dns", dns=["127.0.0.1:0"]) as one:
        client = Client(one.start()["listeners"]["dns"][0])
        assert one.apply(SETTINGS, published(1))["ok"]
        for _ in range(5):
            client.ask("www.example.test")
        client.ask("www.example.test", options=[dns.edns.ECSOption("10.0.0.0", 24)])
        client.ask("no.example.test")
        client.ask("other.test")

        def rows() -> dict[tuple[str, str, str], int]:
            answer = one.say({"op": "counts", "since_ms": 0})
            assert answer["counts"] == []
            totals: dict[tuple[str, str, str], int] = {}
            for row in answer["served"]:
                assert row["at_ms"] % 1_000 == 0
                assert row["at_ms"] < answer["upto_ms"]
                key = (row["service"], row["region"], row["outcome"])
                totals[key] = totals.get(key, 0) + row["requests"]
            return totals

        poll(lambda: sum(rows().values()) == 8, "not all queries are counted")
        assert rows() == {
            ("www", "anywhere", "NOERROR"): 5,
            ("www", "eu", "NOERROR"): 1,
            ("www", "anywhere", "NXDOMAIN"): 1,
            ("", "", "REFUSED"): 1,
        }
        upto_ms = one.say({"op": "counts", "since_ms": 0})["upto_ms"]
        assert one.say({"op": "counts", "since_ms": upto_ms})["served"] == []


def test_ipv6_and_all_addresses_at_once_are_listened_on():
    with engine("dns", dns=["[::1]:0", "0.0.0.0:0"]) as one:
        listeners = one.start()["listeners"]["dns"]
        assert one.apply(SETTINGS, published(1))["ok"]
        assert Client(listeners[0]).addresses() == ["192.0.2.1", "192.0.2.2"]
        everywhere = Client(listeners[1])
        everywhere.address = "127.0.0.53"
        # dnspython refuses a reply that comes from another address than the query went to.
        assert everywhere.addresses() == ["192.0.2.1", "192.0.2.2"]
        assert everywhere.addresses(tcp=True) == ["192.0.2.1", "192.0.2.2"]


def test_answers_never_stop_while_plans_change():
    with engine("dns", dns=["127.0.0.1:0"], workers=2) as one:
        client = Client(one.start()["listeners"]["dns"][0])
        assert one.apply(SETTINGS, published(1))["ok"]
        is_done = threading.Event()

        def ask() -> set[tuple[str, ...]]:
            seen = set()
            while not is_done.is_set():
                seen.add(tuple(client.addresses()))
            return seen

        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(ask) for _ in range(2)]
            for generation in range(2, 60):
                provider = ("alpha", "beta")[generation % 2]
                assert one.apply(SETTINGS, published(generation, {provider: 10_000}))["changed"]
            is_done.set()
            seen = {answer for one in answers for answer in one.result()}
        assert seen == {("192.0.2.1", "192.0.2.2"), ("198.51.100.1",)}
