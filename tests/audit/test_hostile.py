"""Answers made to hurt: the audit ends within its budget, says what it could not see, and keeps the rest."""

import asyncio
import io
import json
import ssl
import time
from dataclasses import replace

import dns.message
import dns.rrset
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from internet_stage import QUICK, audited, internet, shop_plan
from rich.console import Console

from polycdn.audit.collect import Asked, collect_evidence
from polycdn.audit.evidence import DnsStatus, HttpStatus, Role, TlsStatus
from polycdn.audit.evidence_file import read_evidence, write_evidence
from polycdn.audit.finding import Severity
from polycdn.audit.findings import audit_of
from polycdn.audit.har import HAR_BYTES_MAX, pages_of_har, read_har
from polycdn.audit.names import canonical_name
from polycdn.audit.zonefile import parse_zone
from polycdn.cli.audit_text import print_audit
from polycdn.errors import ConfigError
from polycdn.lab.internet.certificates import issuers
from polycdn.lab.internet.plan import Authority, Site
from polycdn.run.clock import Wall

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]


def why(evidence, subject, what):
    return [each.why for each in evidence.unseen_of(subject) if each.what == what]


def unknown(evidence):
    """What the findings call UNKNOWN; reading the evidence never fails."""
    findings = audit_of(evidence).findings
    return [each.what for each in findings if each.severity is Severity.UNKNOWN]


def chain_plan():
    """A shop whose names lead in circles, on for ever, and to themselves."""
    plan = shop_plan()
    zone = plan.zones["shop.test."]
    zone.add("round.shop.test.", "CNAME", "about.shop.test.")
    zone.add("about.shop.test.", "CNAME", "round.shop.test.")
    zone.add("self.shop.test.", "CNAME", "self.shop.test.")
    for step in range(60):
        zone.add(f"s{step}.shop.test.", "CNAME", f"s{step + 1}.shop.test.")
    abroad = plan.zones["edge-cdn.net."]
    zone.add("there.shop.test.", "CNAME", "back.edge-cdn.net.")
    abroad.add("back.edge-cdn.net.", "CNAME", "there.shop.test.")
    return plan


@pytest.mark.parametrize("label", ["round", "self", "s0", "there"])
def test_aliases_without_end_are_a_loop(tmp_path, label):
    name = f"{label}.shop.test."
    evidence = audited(chain_plan(), tmp_path, name)
    assert evidence.dns(name, "A").status is DnsStatus.LOOP
    assert why(evidence, name, "dns A") == ["loop"]
    assert any("loop" in each for each in unknown(evidence))


def test_redirects_without_end_are_a_loop(tmp_path):
    plan = shop_plan()
    plan.site(Site("www.shop.test", "Lab Trust", location="https://shop.test/"))
    evidence = audited(plan, tmp_path, "shop.test.")
    assert any(each.startswith("loop") for subject in ("https://shop.test/", "https://www.shop.test/")
               for each in why(evidence, subject, "http"))  # fmt: skip
    assert any("loop" in each for each in unknown(evidence))


def crowd(query):
    """As many nameservers as an answer holds, none of which exists."""
    response = dns.message.make_response(query)
    name = query.question[0].name
    owner = name if name.to_text() == "shop.test." else dns.name.from_text("shop.test.")
    hosts = [f"n{number}.x.test." for number in range(3_000)]
    response.answer.append(dns.rrset.from_text(owner, 300, "IN", query.question[0].rdtype, *(
        hosts if query.question[0].rdtype == dns.rdatatype.NS else []
    )) if query.question[0].rdtype == dns.rdatatype.NS else dns.rrset.from_text(
        owner, 300, "IN", "SOA", "n1.x.test. a.x.test. 1 2 3 4 5"))  # fmt: skip
    return response.to_wire(max_size=65_535)


def test_thousands_of_nameservers_are_too_large_and_only_some_are_followed(tmp_path):
    plan = shop_plan()
    spoiled = dict.fromkeys(plan.operators["alpha-dns.test."].addresses, crowd)
    evidence = audited(plan, tmp_path, "shop.test.", spoiled=spoiled)
    look = evidence.dns("shop.test.", "NS")
    assert look.status is DnsStatus.TOO_LARGE
    assert len(look.values) == 256
    assert why(evidence, "shop.test.", "dns NS") == ["too large"]
    assert sum(target.role is Role.DNS for target in evidence.children("shop.test.")) == QUICK.per_target_max
    assert any(each.startswith("too large") for each in why(evidence, "shop.test.", "dependencies"))
    assert any("too large" in each for each in unknown(evidence))


def test_a_zone_file_of_ten_thousand_nameservers_is_read(tmp_path):
    servers = "".join(f"shop.test. 60 IN NS n{number}.x.test.\n" for number in range(10_000))
    zone = parse_zone(f"$ORIGIN shop.test.\n@ 60 IN SOA a b 1 2 3 4 5\n{servers}".encode(), "zone")
    evidence = audited(
        shop_plan(), tmp_path, "shop.test.", change=lambda means: replace(means, zones=(zone,))
    )
    assert evidence.dns("shop.test.", "NS").status is DnsStatus.TOO_LARGE


def silent(query):
    """Nothing, ever."""
    return


def garbage(query):
    """Not a message."""
    return query.id.to_bytes(2) + b"\x80\x00" + b"\xff" * 600


def other_names(query):
    """An answer to another question, and a referral upwards, to the root."""
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text("evil.test.", 300, "IN", "A", "192.0.2.66"))
    response.authority.append(dns.rrset.from_text(".", 300, "IN", "NS", "evil.test."))
    return response.to_wire()


def back_to_the_top(query):
    """A referral to where the question came from."""
    response = dns.message.make_response(query)
    response.authority.append(dns.rrset.from_text("test.", 300, "IN", "NS", "a.nic.test."))
    return response.to_wire()


@pytest.mark.parametrize(
    ("spoil", "statuses"),
    [
        (silent, {DnsStatus.TIMEOUT}),
        (garbage, {DnsStatus.BAD}),
        (other_names, {DnsStatus.BAD}),
        (back_to_the_top, {DnsStatus.BAD}),
    ],
)
def test_nameservers_that_say_nothing_true_are_told_as_unseen(tmp_path, spoil, statuses):
    plan = shop_plan()
    spoiled = dict.fromkeys(plan.operators["alpha-dns.test."].addresses, spoil)
    change = lambda means: replace(means, limits=replace(QUICK, look_ms=600))  # noqa: E731
    evidence = audited(plan, tmp_path, "shop.test.", spoiled=spoiled, change=change)
    assert evidence.dns("shop.test.", "A").status in statuses
    assert evidence.dns("shop.test.", "A").values == ()
    assert evidence.unseen_of("shop.test.")
    assert unknown(evidence)


def test_a_page_of_fifty_megabytes_is_read_in_part(tmp_path):
    plan = shop_plan()
    body = b'<script src="https://cdn.tags.test/t.js"></script>' + b"<div>" * 10_000_000
    plan.site(Site("www.shop.test", "Lab Trust", body=body))
    evidence = audited(plan, tmp_path, "www.shop.test.")
    look = evidence.http("https://www.shop.test/")
    assert (look.status, look.truncated, look.body_sha256) == (HttpStatus.OK, True, "")
    assert look.body_bytes == QUICK.page_bytes
    assert [each.url for each in evidence.pages("https://www.shop.test/")[0].resources] == [
        "https://cdn.tags.test/t.js"
    ]
    assert any(each.startswith("too large") for each in why(evidence, "www.shop.test.", "page"))
    assert any("too large" in each for each in unknown(evidence))


def test_a_server_that_drips_costs_its_deadline_and_no_more(tmp_path):
    plan = shop_plan()
    plan.site(Site("www.shop.test", "Lab Trust", body=b"<p>slow" * 1_000, drip_ms=100))
    change = lambda means: replace(means, limits=replace(QUICK, page_ms=700))  # noqa: E731
    evidence = audited(plan, tmp_path, "www.shop.test.", change=change)
    look = evidence.http("https://www.shop.test/")
    assert look.truncated or look.status is HttpStatus.TIMEOUT
    assert evidence.unseen_of("www.shop.test.")
    assert unknown(evidence)


async def audit_with(plan, directory, mapped, name, limits, tls=None):
    """An audit where some addresses lead to servers of the test's own."""
    open_ends = []

    def remembered(serve):
        async def serve_one(reader, writer):
            open_ends.append(writer)
            await serve(reader, writer)

        return serve_one

    async with internet(plan, directory) as means:
        servers = []
        for place, serve in mapped.items():
            servers.append(await asyncio.start_server(remembered(serve), "127.0.0.1", 0, ssl=tls))
            means.places.moved[place] = ("127.0.0.1", servers[-1].sockets[0].getsockname()[1])
        try:
            return await collect_evidence([Asked(name)], replace(means, limits=limits))
        finally:
            for server in servers:
                server.close()
            for writer in open_ends:
                writer.transport.abort()
            # While there is a loop that can tell them.
            await asyncio.gather(*(writer.wait_closed() for writer in open_ends), return_exceptions=True)


QUICK_PAGE = replace(QUICK, page_ms=1_000)


async def never(reader, writer):
    """Takes everything and says nothing."""
    while await reader.read(4_096):
        pass
    writer.close()


async def trickle(reader, writer):
    """A TLS record without end, byte by byte."""
    try:
        writer.write(b"\x16\x03\x03\x40\x00\x02")
        while True:
            writer.write(b"\x00")
            await writer.drain()
            await asyncio.sleep(0.05)
    except OSError:
        writer.close()


async def flood(reader, writer):
    """No TLS, and a lot of it."""
    try:
        while True:
            writer.write(b"HTTP/1.1 200 OK\r\n" * 4_096)
            await writer.drain()
    except OSError:
        writer.close()


@pytest.mark.parametrize("serve", [never, trickle, flood])
def test_servers_that_only_hold_are_left(tmp_path, serve):
    plan = shop_plan()
    address = plan.zones["edge-cdn.net."].records[-1].value
    limits = replace(QUICK, look_ms=300, page_ms=600)
    evidence = asyncio.run(audit_with(plan, tmp_path, {(address, 443): serve}, "www.shop.test.", limits))
    (look,) = evidence.tls("www.shop.test.")
    assert look.status in (TlsStatus.TIMEOUT, TlsStatus.BAD, TlsStatus.REFUSED)
    assert look.stapled is None
    assert not look.verified
    assert why(evidence, "www.shop.test.", "tls")
    assert why(evidence, "www.shop.test.", "http")
    assert any("certificate" in each or "tls" in each for each in unknown(evidence))


def odd_context(directory, instead):
    """A server's context whose certificate has these bytes as the name of its issuer."""
    issuer = issuers({"": Authority("Odd Trust")}, Wall().now_ms())[""]
    leaf = issuer.leaf(Site("www.shop.test", ""))
    der = leaf.certificate.public_bytes(Encoding.DER)
    assert der.count(b"Odd Trust") == 2
    key = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = ssl.DER_cert_to_PEM_cert(der.replace(b"Odd Trust", instead))
    (directory / "odd.pem").write_bytes(pem.encode() + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "odd.pem")
    return context


@pytest.mark.parametrize("instead", [b"\x00" * 9, b"A\x00B\r\n\x1b[0m", b"\xc2\x9b31m[/]\x7f"])
def test_a_certificate_with_odd_bytes_is_seen_and_not_trusted(tmp_path, instead):
    plan = shop_plan()
    place = (plan.zones["edge-cdn.net."].records[-1].value, 443)
    tls = odd_context(tmp_path, instead)
    evidence = asyncio.run(audit_with(plan, tmp_path, {place: never}, "www.shop.test.", QUICK_PAGE, tls))
    (look,) = evidence.tls("www.shop.test.")
    assert (look.status, look.verified) == (TlsStatus.UNTRUSTED, False)
    assert look.chain[0].names == ("www.shop.test",)
    write_evidence(evidence, tmp_path / "odd.jsonl")
    assert read_evidence(tmp_path / "odd.jsonl") == evidence
    audit = audit_of(evidence)
    assert any(each.kind == "certificate-not-trusted" for each in audit.findings)
    shown = io.StringIO()
    print_audit(audit, Console(file=shown, width=200))
    assert all(letter.isprintable() or letter == "\n" for letter in shown.getvalue())


def test_a_deadline_ends_an_audit_whatever_it_waits_for(tmp_path):
    plan = shop_plan()
    address = plan.zones["edge-cdn.net."].records[-1].value
    limits = replace(QUICK, seconds=1, look_ms=30_000, page_ms=30_000)
    began = time.monotonic()
    evidence = asyncio.run(audit_with(plan, tmp_path, {(address, 443): never}, "www.shop.test.", limits))
    assert time.monotonic() - began < 15, "one second of budget, and a busy machine"
    assert "deadline" in why(evidence, "www.shop.test.", "dependencies")
    assert any("deadline" in each for each in unknown(evidence))


@pytest.mark.parametrize(
    "written", ["bücher.test", "例え.test", "пример.test", "مثال.test", "ß.test", "ⅷ.test"]
)
def test_names_in_any_script_are_audited(tmp_path, written):
    name = canonical_name(written)
    plan = shop_plan()
    zone = plan.zone(name, "alpha-dns.test.")
    zone.add(name, "A", plan.address("Scripts"))
    plan.site(Site(name[:-1], "Lab Trust"))
    evidence = audited(plan, tmp_path, name)
    assert evidence.tls(name)[0].verified
    assert {each.what for each in evidence.unseen} == {"registrar"}


def test_a_recording_is_read_or_refused_whatever_is_in_it(tmp_path):
    with pytest.raises(ConfigError, match="no JSON"):
        pages_of_har(b'{"log":{"entries":' + b"[" * 1_000_000, "x.har")
    with pytest.raises(ConfigError, match="no JSON"):
        pages_of_har(b'{"a":' * 1_000_000, "x.har")
    huge = tmp_path / "huge.har"
    with huge.open("wb") as file:
        file.truncate(HAR_BYTES_MAX + 1)
    with pytest.raises(ConfigError, match="bytes"):
        read_har(huge)
    entry = {"request": {"url": "https://www.shop.test/"}, "response": {"status": 200}}
    many = [entry, *({"request": {"url": f"https://h{at}.test/x.js"}} for at in range(30_000))]
    (page,) = pages_of_har(json.dumps({"log": {"entries": many}}).encode(), "x.har")
    assert page.truncated
    assert len(page.resources) == 5_000
