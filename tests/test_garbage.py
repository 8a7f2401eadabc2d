"""What strangers send: any bytes, and any mutation of good ones, are taken or refused, and nothing else."""

import asyncio
import tempfile
from pathlib import Path

import dns.exception
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.errors import ConfigError, SurfaceError
from polycdn.incidents.incident import Incident
from polycdn.incidents.reader import parse
from polycdn.lab.fault import Schedule, read_schedule
from polycdn.lab.spec import OriginSpec
from polycdn.lab.spec import read_spec as read_lab_spec
from polycdn.measure.dns import judge_response
from polycdn.measure.report import ServiceReport, VantageReport
from polycdn.measure.sign import signed_headers
from polycdn.model.observation import Observation, Reason
from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.settings import PublishedPlan
from polycdn.model.state import State
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Service
from polycdn.model.wire import WireError, canonical
from polycdn.run.api import Order, WordError, orders_of
from polycdn.run.clock import Recorded
from polycdn.run.inbox import Inbox
from polycdn.run.ingest import Ingest
from polycdn.run.probe import read_url
from polycdn.run.vantage import read_spec as read_vantage_spec
from polycdn.surface.control import ask
from polycdn.surface.feed import FeedSurface

NOW_MS = 1_763_465_000_000
KEY = b"k" * 32

SERVICE = Service(
    "www",
    "www.test",
    (Provider("a", ProviderKind.CDN, Endpoint("a.test")),),
    origin=Endpoint("origin.test"),
)
SEEN = Observation(NOW_MS, "a", "anywhere", "v1", Reason.TIMEOUT, 3, 1)
REPORT = canonical(VantageReport("v1", NOW_MS, 1, (ServiceReport("www", (SEEN,)),)))
PLAN = canonical(
    PublishedPlan(
        Plan("www", 3, 2, 10, (RegionPlan("anywhere", (("a", 10_000),), ("a",), 30),)), "0123456789abcdef"
    )
)


def dns_answer() -> bytes:
    """A reply with addresses and a name."""
    reply = dns.message.make_response(dns.message.make_query("www.example.", "A", use_edns=0))
    reply.answer = [
        dns.rrset.from_text("www.example.", 30, "IN", "CNAME", "cdn.example."),
        dns.rrset.from_text("cdn.example.", 30, "IN", "A", "192.0.2.1", "192.0.2.2"),
    ]
    return reply.to_wire()


def spoiled(good: bytes) -> st.SearchStrategy[bytes]:
    """The good bytes with some of them replaced, doubled or cut; or any bytes."""

    def spoil(rows: list[tuple[int, int, bytes]]) -> bytes:
        found = good
        for at, length, instead in rows:
            place = at % (len(found) + 1)
            found = found[:place] + instead + found[place + length :]
        return found

    words = st.sampled_from(
        [
            b"",
            b"null",
            b"0",
            b"-1",
            b'""',
            b"[]",
            b"{}",
            b"1e999",
            b"9" * 40,
            b'"\\ud800"',
            b"\xff",
            b"\xc0\x0c",
        ]
    )
    row = st.tuples(st.integers(0, 4_096), st.integers(0, 12), words | st.binary(max_size=6))
    return st.lists(row, min_size=1, max_size=4).map(spoil) | st.binary(max_size=200)


def test_the_good_bytes_are_good():
    assert judge_response(dns.message.from_wire(dns_answer()), ())[0] is Reason.OK
    assert ingest().take(dict(signed_headers(KEY, "v1", NOW_MS, REPORT)), REPORT) == (202, "")
    assert generations_of(PLAN) == {"www": 3}


@given(spoiled(dns_answer()), st.sampled_from([(), ("192.0.2.1",)]))
def test_a_nameservers_answer_is_judged_or_is_none(wire, expected):
    try:
        message = dns.message.from_wire(wire)
    except (dns.exception.DNSException, EOFError):
        return
    reason, detail = judge_response(message, expected)
    assert reason in (Reason.OK, Reason.CONTENT, Reason.DNS_EMPTY, Reason.DNS_SERVFAIL)
    assert detail.isprintable()


def ingest() -> Ingest:
    """Knows one vantage, and has heard nothing of it."""
    clock = Recorded(NOW_MS)
    return Ingest({"v1": KEY}, (SERVICE,), Inbox(["www"], clock, 1_000), clock)


@given(spoiled(REPORT))
def test_a_report_of_a_vantage_is_taken_whole_or_refused_with_the_reason(body):
    one = ingest()
    status, why = one.take(dict(signed_headers(KEY, "v1", NOW_MS, body)), body)
    assert (status, why) == (202, "") or (status == 400 and why)
    assert one.senders["v1"].refused == (status == 400)


def generations_of(content: bytes) -> dict[str, int]:
    """What a feed serves that finds this file in its folder."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "www.json").write_bytes(content)
        held = asyncio.run(FeedSurface("feed", Path(folder)).read())
    return {one.service: one.generation for one in held}


@given(spoiled(PLAN))
def test_a_file_of_the_feed_is_a_plan_or_passed_over(content):
    assert len(generations_of(content)) <= 1


@given(
    spoiled(b'{"ok":true,"services":[{"service":"www","generation":3}]}').filter(
        lambda line: b"\n" not in line
    )
)
def test_an_answer_on_a_control_socket_is_understood_or_refused(line):
    async def story(socket: Path) -> object:
        async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(line + b"\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_unix_server(behave, socket)
        try:
            return await ask(socket, {"op": "status"})
        finally:
            server.close()

    with tempfile.TemporaryDirectory(prefix="p-") as folder:
        try:
            answer = asyncio.run(story(Path(folder) / "s"))
        except SurfaceError:
            return
    assert isinstance(answer, dict)
    assert isinstance(answer["ok"], bool)


WORDS = [
    None,
    True,
    5,
    -1,
    2**70,
    1.5,
    "",
    "www",
    "a",
    "down",
    "force",
    "release",
    "freeze",
    "a\nb",
    "x" * 9_999,
    [],
    {},
]
words = st.dictionaries(
    st.sampled_from(["op", "service", "provider", "stance", "for_ms", "region", "by", "why"]),
    st.sampled_from(WORDS),
)


@given(words)
def test_an_operators_word_is_an_order_or_a_fault(word):
    try:
        orders = orders_of(word, {"www": State(service=SERVICE)}, NOW_MS)
    except WordError as error:
        assert error.fault.allowed
        return
    assert all(isinstance(order, Order) for order in orders)


@given(spoiled(b'{"windows":[{"provider":"a","kind":"refuse","from_ms":0,"until_ms":5,"share_ppm":[1,2]}]}'))
def test_a_schedule_of_faults_is_one_or_is_refused(content):
    try:
        schedule = read_schedule(content)
    except WireError:
        return
    assert isinstance(schedule, Schedule)


NESTED = b"[" * 100_000


def test_nesting_without_end_is_refused_like_anything_else(tmp_path):
    status, why = ingest().take(dict(signed_headers(KEY, "v1", NOW_MS, NESTED)), NESTED)
    assert status == 400
    assert why
    assert generations_of(NESTED) == {}
    with pytest.raises(WireError):
        read_schedule(NESTED)
    for content in (NESTED, b"a = " + NESTED):
        with pytest.raises(ConfigError):
            parse(content, "file.toml")
    spec = tmp_path / "spec.json"
    spec.write_bytes(NESTED)
    with pytest.raises(ConfigError):
        read_vantage_spec(str(spec))
    with pytest.raises(ConfigError):
        read_lab_spec(spec, OriginSpec)


@given(spoiled(b'id = "x"\ntitle = "y"\n[[phase]]\nat = "0s"\nfor = "5m"\n'))
def test_an_incident_is_one_or_all_its_faults_are_told(content):
    try:
        incident = parse(content, "file.toml")
    except ConfigError as error:
        assert error.faults
        return
    assert isinstance(incident, Incident)


@given(st.text() | spoiled(b"https://user@[::1]:443/a?b#c").map(lambda raw: raw.decode("latin-1")))
def test_an_address_points_somewhere_or_is_refused(url):
    try:
        endpoint, path = read_url(url)
    except ConfigError:
        return
    assert endpoint.host
    assert path.startswith("/")
    assert 0 < endpoint.port < 65_536
