"""An audit of a small internet with real sockets: what is found, and that a file of it says the same."""

import asyncio
from dataclasses import replace

import dns.message
import dns.rcode
import pytest
from internet_stage import QUICK, audited, internet, shop_plan

from polycdn.audit.collect import Asked, collect_evidence
from polycdn.audit.evidence import (
    HttpLook,
    PageLook,
    PageSource,
    Resource,
    ResourceKind,
    Role,
    TlsLook,
    TlsStatus,
    Unseen,
)
from polycdn.audit.evidence_file import read_evidence, write_evidence
from polycdn.audit.names import canonical_name
from polycdn.audit.zonefile import parse_zone
from polycdn.errors import ConfigError
from polycdn.lab.internet.nameserver import Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return audited(shop_plan(), tmp_path_factory.mktemp("internet"), "shop.test.")


def names(targets, role):
    return {target.name for target in targets if target.role is role}


def test_the_zone_and_its_operator_are_found(shop):
    assert set(shop.dns("shop.test.", "NS").values) == {"ns1.alpha-dns.test.", "ns2.alpha-dns.test."}
    assert shop.dns("shop.test.", "NS").records[0].ttl_s == 3_600
    assert {each.ttl_s for each in shop.dns("shop.test.", "NS").authority if each.rtype == "NS"} == {86_400}
    assert shop.dns("shop.test.", "SOA").values[0].startswith("ns1.alpha-dns.test. ")
    assert names(shop.children("shop.test."), Role.DNS) == {"ns1.alpha-dns.test.", "ns2.alpha-dns.test."}


def test_the_www_is_the_same_service_behind_a_cdn(shop):
    assert names(shop.children("shop.test."), Role.SERVICE) == {"www.shop.test."}
    assert shop.dns("www.shop.test.", "A").chain == ("shop.edge-cdn.net.",)
    assert names(shop.children("www.shop.test."), Role.CDN) == {"shop.edge-cdn.net."}
    address = shop.dns("www.shop.test.", "A").values[0]
    assert shop.networks[address].organisation == "Edge CDN"


def test_mail_and_caa_are_found(shop):
    assert names(shop.children("shop.test."), Role.MAIL) == {"mail.post.test."}
    assert shop.dns("shop.test.", "CAA").values == ('0 issue "trust.test"',)


def test_the_handshake_shows_chain_and_staple(shop):
    (look,) = shop.tls("www.shop.test.")
    assert (look.status, look.verified, look.stapled) == (TlsStatus.OK, True, True)
    assert [each.issuer_org for each in look.chain] == ["Lab Trust", "Lab Trust"]
    assert look.chain[0].ocsp_urls == ("http://ocsp.trust.test/",)
    assert look.chain[0].crl_urls == ("http://crl.trust.test/root.crl",)
    assert look.chain[0].key_kind == "ec-secp256r1"
    assert shop.tls("cdn.tags.test.")[0].stapled is False
    assert names(shop.children("www.shop.test."), Role.CA) == {"ocsp.trust.test.", "crl.trust.test."}


def test_the_page_is_read_where_the_redirect_leads(shop):
    assert shop.http("https://shop.test/").location == "https://www.shop.test/"
    assert shop.http("https://www.shop.test/").header("x-edge") == "hit"
    (page,) = shop.pages("https://www.shop.test/")
    assert page.resources == (Resource("https://cdn.tags.test/t.js", ResourceKind.SCRIPT, blocking=True),)
    assert names(shop.children("www.shop.test."), Role.THIRD_PARTY) == {"cdn.tags.test."}


def test_dependencies_of_dependencies_are_followed(shop):
    assert names(shop.children("shop.edge-cdn.net."), Role.DNS) == {"ns1.beta-dns.net.", "ns2.beta-dns.net."}
    assert names(shop.children("ocsp.trust.test."), Role.DNS) == {"ns1.beta-dns.net.", "ns2.beta-dns.net."}
    assert max(target.depth for target in shop.targets) == 3


def test_nothing_is_unseen_in_a_small_internet_that_works(shop):
    assert [each.what for each in shop.unseen] == ["registrar"], "no registry is asked in this one"


def test_a_file_says_the_same(shop, tmp_path):
    write_evidence(shop, tmp_path / "shop.jsonl")
    assert read_evidence(tmp_path / "shop.jsonl") == shop


def test_depth_ends_where_it_was_asked_to_end(tmp_path):
    change = lambda means: replace(means, limits=replace(QUICK, depth=1))  # noqa: E731
    shop = audited(shop_plan(), tmp_path, "shop.test.", change=change)
    assert max(target.depth for target in shop.targets) == 1
    assert any(each.why.startswith("depth") for each in shop.unseen_of("shop.edge-cdn.net."))


def test_a_budget_is_kept_and_what_it_left_out_is_told(tmp_path):
    change = lambda means: replace(means, limits=replace(QUICK, lookups=20))  # noqa: E731
    shop = audited(shop_plan(), tmp_path, "shop.test.", change=change)
    assert any(each.why == "budget" for each in shop.unseen)
    looks = [each for each in shop.facts if isinstance(each, TlsLook | HttpLook)]
    assert len(looks) < 6


def test_a_recorded_page_adds_what_the_html_hides(tmp_path):
    late = Resource("https://mail.post.test/late.js", ResourceKind.SCRIPT)
    page = PageLook("https://www.shop.test/", PageSource.HAR, (late,))
    change = lambda means: replace(means, pages=(page,))  # noqa: E731
    shop = audited(shop_plan(), tmp_path, "shop.test.", change=change)
    assert {each.source for each in shop.pages("https://www.shop.test/")} == {PageSource.HTML, PageSource.HAR}
    assert "mail.post.test." in names(shop.children("www.shop.test."), Role.THIRD_PARTY)


ZONE = b"""$ORIGIN shop.test.
@ 60 IN SOA ns1.beta-dns.net. admin 1 2 3 4 5
@ 60 IN NS ns1.beta-dns.net.
@ 60 IN A 203.0.113.9
www 60 IN CNAME edge7.edge-cdn.net.
"""


def test_a_zone_file_stands_for_its_servers(tmp_path):
    change = lambda means: replace(means, zones=(parse_zone(ZONE, "zone"),))  # noqa: E731
    shop = audited(shop_plan(), tmp_path, "shop.test.", change=change)
    assert shop.dns("shop.test.", "NS").values == ("ns1.beta-dns.net.",)
    assert shop.dns("www.shop.test.", "A").chain == ("edge7.edge-cdn.net.",)
    assert shop.dns("www.shop.test.", "A").values, "the rest of the chain was looked up"
    assert Unseen("shop.test.", "tls", "refused: not a public address") in shop.unseen


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "neither"),
        (b"\xff\xfe", "UTF-8"),
        (ZONE + b"$GENERATE 1-99999999 a$ A 192.0.2.1\n", "GENERATE"),
        (ZONE + b"$INCLUDE /etc/passwd\n", "INCLUDE"),
        (b"www 60 IN A 192.0.2.1\n", "neither"),
        (ZONE + b"x 60 IN A 192.0.2.300\n", "near line 7"),
    ],
)
def test_a_bad_zone_file_is_one_clear_error(content, found):
    with pytest.raises(ConfigError) as caught:
        parse_zone(content, "zone")
    assert found in str(caught.value)


def test_a_recording_of_somebody_else_is_told(tmp_path):
    page = PageLook("https://elsewhere.test/", PageSource.HAR)
    change = lambda means: replace(means, pages=(page,))  # noqa: E731
    shop = audited(shop_plan(), tmp_path, "shop.test.", change=change)
    assert shop.unseen_of("https://elsewhere.test/")


def test_an_end_point_is_asked_for_the_certificate_of_the_service(tmp_path):
    point = Asked("shop.edge-cdn.net.", Role.CDN, "provider of www.shop.test.: edge", "www.shop.test.")

    async def run():
        async with internet(shop_plan(), tmp_path) as means:
            return await collect_evidence([Asked("www.shop.test."), point], means)

    (look,) = asyncio.run(run()).tls("shop.edge-cdn.net.")
    assert (look.server_name, look.verified) == ("www.shop.test.", True)
    assert look.chain[0].names == ("www.shop.test",)


def test_the_progress_is_told_until_the_end(tmp_path):
    told = []

    async def run():
        async with internet(shop_plan(), tmp_path) as means:
            await collect_evidence([Asked("shop.test."), Asked("tags.test.")], means, progress=told.append)

    asyncio.run(run())
    assert len(told) > 3
    assert told[-1].done == told[-1].names == 2
    assert [each.facts for each in told] == sorted(each.facts for each in told)


def test_a_lost_datagram_is_sent_again(tmp_path):
    plan = shop_plan()
    machine = Machine([plan.zones["alpha-dns.test."], plan.zones["shop.test."], plan.zones["tags.test."]], {})
    seen = set()

    def forgetful(query):
        key = query.question[0].to_text()
        if key in seen:
            return machine.answer(query).to_wire()
        seen.add(key)
        return None

    spoiled = dict.fromkeys(plan.operators["alpha-dns.test."].addresses, forgetful)
    change = lambda means: replace(means, limits=replace(QUICK, look_ms=900))  # noqa: E731
    shop = audited(plan, tmp_path, "shop.test.", spoiled=spoiled, change=change)
    assert shop.dns("shop.test.", "A").values
    assert shop.dns("shop.test.", "NS").values


def test_a_server_that_knows_no_edns_is_asked_without(tmp_path):
    plan = shop_plan()
    machine = Machine([plan.zones["alpha-dns.test."], plan.zones["shop.test."], plan.zones["tags.test."]], {})

    def old(query):
        response = machine.answer(query)
        if query.edns >= 0:
            response = dns.message.make_response(query)
            response.set_rcode(dns.rcode.FORMERR)
        return response.to_wire()

    spoiled = dict.fromkeys(plan.operators["alpha-dns.test."].addresses, old)
    assert audited(plan, tmp_path, "shop.test.", spoiled=spoiled).dns("shop.test.", "A").values


@pytest.mark.parametrize("label", ["a[b", "a b", "a%2fb", "a\\.b", "a\\000b", "a@b", "_sip", "a" * 63])
def test_odd_names_are_looked_at_as_far_as_they_go(tmp_path, label):
    plan = shop_plan()
    name = canonical_name(f"{label}.shop.test")
    plan.zones["shop.test."].add(name, "A", plan.address("Odd"))
    shop = audited(plan, tmp_path, name)
    assert shop.dns(name, "A").values
    assert shop.tls(name) or shop.unseen_of(name)
