"""What strangers send: any bytes, and any mutation of good ones, are taken or refused, and nothing else."""

import asyncio
import tempfile
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st

from polycdn.audit.certificates import certificate_of
from polycdn.audit.evidence import CertificateSeen, Evidence, PageLook, TlsLook, TlsStatus
from polycdn.audit.evidence_file import header_line, line_of, parse_evidence
from polycdn.audit.har import pages_of_har
from polycdn.audit.networks import Networks
from polycdn.audit.networks_import import import_networks
from polycdn.audit.page import page_of
from polycdn.audit.places import read_places
from polycdn.audit.zonefile import ZoneFile, parse_zone
from polycdn.errors import ConfigError, SurfaceError
from polycdn.incidents.incident import Incident
from polycdn.incidents.reader import parse
from polycdn.lab.fault import Schedule, read_schedule
from polycdn.lab.internet.certificates import issuers
from polycdn.lab.internet.plan import Authority as LabAuthority
from polycdn.lab.internet.plan import Site
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


EVIDENCE = (
    header_line(NOW_MS, "0.1.0")
    + b"""{"kind":"target","name":"a.test.","role":"service","why":"asked for"}
{"kind":"dns","name":"a.test.","rtype":"A","status":"NOERROR","records":[{"owner":"a.test.","rtype":"A",
"ttl_s":5,"value":"192.0.2.1"}]}
{"kind":"tls","host":"a.test.","address":"192.0.2.1","port":443,"status":"OK","stapled":null}
""".replace(b",\n", b",")
)


@given(spoiled(EVIDENCE))
def test_evidence_is_read_or_its_bad_lines_are_told(content):
    try:
        evidence = parse_evidence(content, "file")
    except ConfigError as error:
        assert all(fault.place.startswith("file:") for fault in error.faults)
        return
    assert isinstance(evidence, Evidence)
    again = header_line(0, "") + b"".join(line_of(fact) for fact in evidence.facts)
    assert parse_evidence(again, "file").facts == evidence.facts


HAR = b"""{"log":{"pages":[{"id":"p"}],"entries":[
{"pageref":"p","request":{"url":"https://a.test/"},"response":{"status":200,"content":{"mimeType":"text/html",
"text":"<script src=b.js></script>","encoding":"base64"}},"_priority":"VeryHigh","_resourceType":"document"},
{"pageref":"p","request":{"url":"https://a.test/b.js"},"response":{"status":200},"_resourceType":"script"}]}}"""


@given(spoiled(HAR))
def test_a_recording_has_pages_or_is_refused(content):
    try:
        pages = pages_of_har(content, "x.har")
    except ConfigError as error:
        assert len(error.faults) == 1
        return
    assert pages
    assert all(isinstance(page, PageLook) for page in pages)


PAGE = b"""<!doctype html><html><head><base href="https://b.test/"><script src=a.js async></script><!-- x -->
<link rel=stylesheet href='//c.test/s.css' integrity="sha"><style>@import url("z.css");</style><noscript>
<img src=n></noscript></head><body><img src="i.png" onerror="x()"><iframe src=https://f.test></iframe>"""


@given(
    spoiled(PAGE),
    st.sampled_from(["utf-8", "utf-16", "latin-1", "no-such", "idna", "zlib", "", "GBK", "iso-2022-jp"]),
)
def test_any_page_has_resources_with_absolute_urls(content, charset):
    page = page_of("https://a.test/", content, charset=charset)
    assert all(each.url.startswith(("http://", "https://")) for each in page.resources)
    parse_evidence(header_line(0, "") + line_of(page), "file")


ZONE = b"""$ORIGIN a.test.
$TTL 1h
@ IN SOA ns1 admin ( 1 2 3
 4 5 ) ; comment
 IN NS ns1
www 60 IN CNAME b.test.
*.x TXT "a\\"b" c
caa CAA 0 issue "ca.test"
"""


@given(spoiled(ZONE))
def test_a_zone_file_is_a_zone_or_is_refused(content):
    try:
        zone = parse_zone(content, "zone")
    except ConfigError as error:
        assert len(error.faults) == 1
        return
    assert isinstance(zone, ZoneFile)
    for name in ("a.test.", "www.a.test.", "q.x.a.test.", "b.test."):
        message = zone.answer(dns.name.from_text(name), dns.rdatatype.A)
        assert message is None or message.to_wire(max_size=65_535)


def leaf_der() -> bytes:
    """A certificate with all that is read of one."""
    plan = LabAuthority("Lab Trust", "ocsp.test", "crl.test")
    return (
        issuers({"": plan}, NOW_MS)[""]
        .leaf(Site("a.test", "", ("b.test",)))
        .certificate.public_bytes(Encoding.DER)
    )


LEAF = leaf_der()


@given(spoiled(LEAF))
def test_any_bytes_are_a_certificate_with_what_could_be_read(content):
    seen = certificate_of(content)
    assert isinstance(seen, CertificateSeen)
    look = TlsLook("a.test.", "192.0.2.1", 443, TlsStatus.OK, chain=(seen,))
    assert parse_evidence(header_line(0, "") + line_of(look), "file").facts == (look,)


NETWORKS = b"""start,end,asn,organisation
192.0.2.0,192.0.2.255,64512,"Some, Inc."
2001:db8::,2001:db8::ffff,AS64513,Other
3221226240,3221226495,1,In numbers
"""


@given(spoiled(NETWORKS))
@example(NETWORKS.replace(b"64512", b"645\r12"))
def test_a_table_of_networks_is_imported_or_its_bad_lines_are_told(content):
    with tempfile.TemporaryDirectory() as folder:
        source, table = Path(folder) / "n.csv", Path(folder) / "n.bin"
        source.write_bytes(content)
        try:
            import_networks([source], table)
        except ConfigError as error:
            assert error.faults
            assert not table.exists()
            return
        with Networks(table) as networks:
            assert networks.look("192.0.2.7").address == "192.0.2.7"


@given(st.binary(max_size=200) | spoiled(b"polycdn-net\0\0\0\1" + b"\0\0\0\1" * 9))
def test_a_table_on_disk_is_one_or_is_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "n.bin"
        table.write_bytes(content)
        try:
            with Networks(table) as networks:
                networks.look("192.0.2.7")
                networks.look("2001:db8::1")
        except ConfigError as error:
            assert len(error.faults) == 1


@given(spoiled(b"198.51.100.53:53 127.0.0.1:40053\n[2001:db8::1]:443 127.0.0.1:1\n"))
def test_a_map_of_places_is_one_or_is_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map"
        path.write_bytes(content)
        try:
            places = read_places(path)
        except ConfigError as error:
            assert error.faults
            return
        assert all(0 < port < 65_536 for _address, port in places.moved.values())
