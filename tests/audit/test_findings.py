"""Each finding from small evidence: there when it should be, and not when it should not."""

import itertools

import pytest
from audit_stage import facts as any_fact
from hypothesis import given, settings
from hypothesis import strategies as st
from small import (
    NOW_MS,
    answer,
    asked,
    evidence,
    leaf,
    look,
    network,
    page,
    sound,
    tls,
    without,
    zone,
)

from polycdn.audit.case import Bounds
from polycdn.audit.evidence import DnsStatus, RegistrationLook, Role, Target, Unseen, evidence_of
from polycdn.audit.finding import Kind, Severity
from polycdn.audit.findings import audit_of
from polycdn.incidents import all_ids

NET = "203.0.113.1"


def found(facts, **options):
    """The findings but the unknown, by kind."""
    audit = audit_of(evidence(facts), **options)
    return {each.kind: each for each in audit.findings if each.severity is not Severity.UNKNOWN}


def unknown(facts):
    return [each for each in audit_of(evidence(facts)).findings if each.severity is Severity.UNKNOWN]


def test_a_sound_service_has_no_finding():
    assert audit_of(evidence(sound())).findings == ()


def test_one_operator_is_found_and_two_are_not():
    one = without(sound(), *zone("shop.test.", "ns1.first-dns.net.", "ns2.first-dns.net."))
    assert found(one)[Kind.ONE_DNS].nodes == ("provider:first-dns.net",)


def test_nameservers_in_two_domains_with_one_soa_are_one_operator():
    soa = "ns1.first-dns.net. host.first-dns.net. 1 7200 900 1209600 300"
    facts = without(
        sound(),
        *zone("second-dns.org.", "ns1.second-dns.org.", soa=soa),
        *zone("first-dns.net.", "ns1.first-dns.net.", soa=soa),
    )
    assert Kind.ONE_DNS in found(facts)


def test_nameservers_that_the_table_gives_to_one_provider_are_one_operator():
    names = ("ns-1.awsdns-01.com.", "ns-2.awsdns-02.net.", "ns-3.awsdns-03.org.", "ns-4.awsdns-04.co.uk.")
    assert found(without(sound(), *zone("shop.test.", *names)))[Kind.ONE_DNS].nodes == ("provider:route53",)


def test_two_operators_whose_names_lie_at_a_third_share_it():
    facts = without(
        sound(), *zone("first-dns.net.", "a.base-dns.com."), *zone("second-dns.org.", "b.base-dns.com.")
    )
    shared = found(facts)[Kind.SHARED_DNS]
    assert shared.nodes[0] == "provider:base-dns.com"
    assert set(shared.nodes[1:]) == {"provider:first-dns.net", "provider:second-dns.org"}
    assert any("first-dns.net -dns-> base-dns.com" in line for line in shared.evidence)


def test_what_is_shared_three_steps_down_is_found_and_only_the_nearest_is_told():
    facts = without(
        sound(), *zone("first-dns.net.", "a.mid-one.com."), *zone("second-dns.org.", "a.mid-two.com.")
    )
    facts += [
        *zone("mid-one.com.", "a.deep.com."),
        *zone("mid-two.com.", "b.deep.com."),
        *zone("deep.com.", "a.deeper.com."),
    ]
    shared = [each for each in audit_of(evidence(facts)).findings if each.kind is Kind.SHARED_DNS]
    assert [each.nodes[0] for each in shared] == ["provider:deep.com"]
    assert "2 steps below" in shared[0].what


def test_two_operators_in_one_network_share_it():
    facts = without(sound(), network("203.0.113.99", "Third Net", 64_514))
    assert found(facts)[Kind.SHARED_NETWORK].nodes[0] == "provider:Third Net"


def test_a_pair_of_one_owner_is_one_basket():
    facts = [
        *sound(),
        asked("a.wscdns.com.", Role.CDN, "provider of shop.test.: a"),
        asked("b.cdngc.net.", Role.CDN, "provider of shop.test.: b"),
    ]
    assert found(facts)[Kind.SHARED_COMPANY].nodes[0] == "company:wangsu"


def test_a_pair_on_one_cloud_is_one_basket():
    facts = [
        *sound(),
        asked("a.netlify.app.", Role.CDN, "provider of shop.test.: a"),
        asked("b.vercel.app.", Role.CDN, "provider of shop.test.: b"),
    ]
    nodes = {
        each.nodes[0]
        for each in audit_of(evidence(facts)).findings
        if each.kind in (Kind.SHARED_CLOUD, Kind.SHARED_DNS)
    }
    assert {"provider:aws", "provider:ns1"} <= nodes


def test_one_way_to_a_host_is_found_and_named():
    facts = without(sound(), look("shop.test.", "A", "192.0.2.1", chain=("shop.b-cdn.net.",)))
    only = found(facts)[Kind.ONE_CDN]
    assert only.nodes == ("provider:bunny",)
    assert "bunny.net only" in only.title


def test_providers_that_the_config_names_by_address_can_take_over():
    one = without(sound(), look("shop.test.", "A", "192.0.2.1"))
    both = [
        *one,
        asked("a.edge.net.", Role.CDN, "provider of shop.test.: a"),
        asked("shop.test.", Role.CDN, "provider of shop.test.: own at 198.51.100.1"),
    ]
    assert Kind.ONE_CDN in found(one)
    assert Kind.ONE_CDN not in found(both)
    assert found(both[:-1])[Kind.ONE_CDN].nodes == ("provider:edge.net",)


def test_the_worst_outage_of_the_same_company_is_what_it_resembles():
    facts = without(sound(), look("shop.test.", "A", "192.0.2.1", chain=("shop.cdn.cloudflare.net.",)))
    assert found(facts)[Kind.ONE_CDN].incident == "2025-11-18-cloudflare"


def test_an_address_that_is_kept_too_long_is_found_by_the_limit_given():
    facts = without(sound(), look("shop.test.", "A", "192.0.2.1", "198.51.100.1", ttl_s=900))
    assert found(facts)[Kind.TTL_LONG].severity is Severity.MEDIUM
    assert Kind.TTL_LONG not in found(facts, bounds=Bounds(ttl_s=900))
    worse = without(sound(), look("shop.test.", "A", "192.0.2.1", "198.51.100.1", ttl_s=86_400))
    assert found(worse)[Kind.TTL_LONG].severity is Severity.HIGH


def test_nameservers_that_are_kept_for_days_matter_with_one_operator_only():
    one = without(sound(), *zone("shop.test.", "ns1.first-dns.net.", ttl_s=172_800))
    two = without(sound(), *zone("shop.test.", "ns1.first-dns.net.", "ns1.second-dns.org.", ttl_s=172_800))
    assert Kind.NS_TTL_LONG in found(one)
    assert Kind.NS_TTL_LONG not in found(two)


def test_an_apex_at_the_cdn_that_is_its_dns_cannot_move_and_its_console_falls_with_it():
    facts = without(
        sound(), *zone("shop.test.", "ada.ns.cloudflare.com."), look("shop.test.", "A", "104.16.0.1")
    )
    both = found(facts)
    assert both[Kind.APEX_FIXED].severity is Severity.HIGH
    assert "dash.cloudflare.com" in both[Kind.CONSOLE].what


def test_a_login_at_the_services_only_operator_is_found_and_one_elsewhere_is_not():
    shop = without(sound(), *zone("shop.test.", "ns1.first-dns.net."))
    login = [
        asked("login.test.", Role.IDENTITY, "login"),
        look("login.test.", "A", "203.0.113.7"),
        network("203.0.113.7", "Far Net"),
    ]
    assert Kind.CONSOLE in found([*shop, *login, *zone("login.test.", "ns2.first-dns.net.")])
    assert Kind.CONSOLE not in found([*shop, *login, *zone("login.test.", "ns1.far-dns.com.")])


def test_a_registrar_of_the_company_that_is_the_only_operator_is_found():
    facts = without(sound(), *zone("shop.test.", "ns1.domaincontrol.com."))
    here = RegistrationLook("shop.test.", "GoDaddy.com, LLC", "146")
    elsewhere = RegistrationLook("shop.test.", "Gandi SAS", "81")
    assert "registrar" in found([*facts, here])[Kind.CONSOLE].title
    assert Kind.CONSOLE not in found([*facts, elsewhere])
    assert Kind.CONSOLE not in found([*sound(), here])


@pytest.mark.parametrize(
    ("days", "severity"), [(-1, Severity.CRITICAL), (3, Severity.HIGH), (14, Severity.MEDIUM), (60, None)]
)
def test_a_certificate_near_its_end_is_found(days, severity):
    facts = without(sound(), tls("shop.test.", "192.0.2.1", leaf(days=days)))
    ends = found(facts).get(Kind.CERT_ENDS)
    assert (ends.severity if ends else None) is severity


def test_a_short_lived_certificate_may_have_few_days_left():
    facts = without(sound(), tls("shop.test.", "192.0.2.1", leaf(days=4, life_days=6)))
    assert Kind.CERT_ENDS not in found(facts)


def test_stapling_is_missed_only_where_there_is_something_to_staple():
    url = ("http://ocsp.lab.test/",)
    bare = without(sound(), tls("shop.test.", "192.0.2.1", leaf(), stapled=False))
    missed = without(sound(), tls("shop.test.", "192.0.2.1", leaf(ocsp=url), stapled=False))
    must = without(sound(), tls("shop.test.", "192.0.2.1", leaf(ocsp=url, must_staple=True), stapled=False))
    assert Kind.NO_STAPLE not in found(bare)
    assert found(missed)[Kind.NO_STAPLE].severity is Severity.LOW
    assert found(must)[Kind.NO_STAPLE].severity is Severity.HIGH
    blind = without(sound(), tls("shop.test.", "192.0.2.1", leaf(ocsp=url), stapled=None))
    assert Kind.NO_STAPLE not in found(blind)
    assert any("stapling" in each.title for each in unknown(blind))


def test_a_certificate_that_nobody_trusts_is_found():
    facts = without(sound(), tls("shop.test.", "192.0.2.1", leaf(), verified=False, why="self-signed"))
    assert "self-signed" in found(facts)[Kind.CERT_BAD].what


@pytest.mark.parametrize(
    ("values", "is_found"),
    [
        (('0 issue "letsencrypt.org"',), True),
        (('0 issue "digicert.com"', '0 issue "geotrust.com"'), True),
        (('0 issue "letsencrypt.org"', '0 issue "digicert.com"'), False),
        (('0 iodef "mailto:a@shop.test"',), False),
        (('0 issue ";"',), False),
        (('0 issue "letsencrypt.org; accounturi=https://a.test/1"',), True),
        (("", "issue", "x issue y", "0 issue"), False),
    ],
)
def test_caa_that_names_one_ca_is_found(values, is_found):
    assert (Kind.CAA_ONE_CA in found(without(sound(), look("shop.test.", "CAA", *values)))) is is_found


def test_a_second_cdn_with_a_certificate_of_the_same_ca_is_found():
    facts = without(sound(), tls("shop.test.", "198.51.100.1", leaf(days=61)))
    assert found(facts)[Kind.SAME_CA].nodes[0] == "provider:Lab Trust"


def test_a_script_that_all_wait_for_is_found_unless_it_has_a_way_out():
    tags = [
        look("t.tags.net.", "A", "203.0.113.5"),
        network("203.0.113.5", "Tag Net"),
        *zone("tags.net.", "ns1.first-dns.net."),
    ]
    third = Target("t.tags.net.", Role.THIRD_PARTY, "resource", 1, "shop.test.")

    def facts(blocking, fallback):
        return [
            *without(sound(), page("shop.test", ("https://t.tags.net/t.js", blocking, fallback))),
            third,
            *tags,
        ]

    assert found(facts(True, False))[Kind.BLOCKING].evidence == ("script https://t.tags.net/t.js",)
    assert Kind.BLOCKING not in found(facts(False, False))
    assert Kind.BLOCKING not in found(facts(True, True))


def test_an_origin_behind_one_cdns_link_is_found():
    tunnel = asked("x.cfargotunnel.com.", Role.CLOUD, "origin of shop.test.")
    inside = [asked("o.test.", Role.CLOUD, "origin of shop.test."), look("o.test.", "A", "10.0.0.7")]
    outside = [asked("o.test.", Role.CLOUD, "origin of shop.test."), look("o.test.", "A", "203.0.113.9")]
    assert "Cloudflare Tunnel" in found([*sound(), tunnel])[Kind.PRIVATE_ORIGIN].title
    assert Kind.PRIVATE_ORIGIN in found([*sound(), *inside])
    assert Kind.PRIVATE_ORIGIN not in found([*sound(), *outside])


def test_a_dependency_of_a_dependency_is_told_with_the_way_there():
    facts = without(
        sound(),
        look("shop.test.", "A", "203.0.113.9", chain=("a.edge.net.",)),
        *zone("edge.net.", "ns1.hidden.com."),
    )
    hidden = found([*facts, network("203.0.113.9", "Edge Net", 64_999)])[Kind.HIDDEN]
    assert hidden.nodes == ("provider:hidden.com", "provider:edge.net")


def test_what_was_not_seen_is_unknown_and_never_fine():
    assert {each.severity for each in audit_of(evidence([asked()])).findings} == {Severity.UNKNOWN}
    said = unknown([*sound(), Unseen("shop.test.", "http", "deadline")])
    assert said[0].what.startswith("http of shop.test could not be looked at: deadline")
    assert "--deadline" in said[0].remedy
    blind = without(sound(), look("shop.test.", "NS", status=DnsStatus.SERVFAIL))
    assert any("DNS operators" in each.title for each in unknown(blind))


def test_the_same_that_many_lack_is_one_finding_that_names_them():
    many = [
        Unseen(address, "network", "not configured: no table") for address in ("192.0.2.1", "198.51.100.1")
    ]
    (one,) = unknown([*sound(), *many])
    assert one.evidence == ("192.0.2.1, 198.51.100.1: network: not configured: no table",)
    assert "polycdn data import" in one.remedy


def test_findings_are_ordered_by_user_minutes_and_the_unknown_come_last():
    facts = without(
        sound(),
        *zone("shop.test.", "ns1.first-dns.net.", ttl_s=172_800),
        look("shop.test.", "A", "192.0.2.1"),
    )
    audit = audit_of(evidence([*facts, Unseen("shop.test.", "page", "timeout")]), users=50_000)
    minutes = [each.user_minutes for each in audit.findings]
    assert minutes == sorted(minutes, reverse=True)
    assert audit.findings[-1].severity is Severity.UNKNOWN
    assert audit.findings[0].minutes_basis.startswith("50,000 users x ")
    small = audit_of(evidence(facts), users=1_000).findings[0]
    assert audit.findings[0].user_minutes // 50 == small.user_minutes


def test_a_chain_of_thousands_and_a_crowd_of_nameservers_are_judged():
    chain = [fact for at in range(2_500) for fact in zone(f"z{at}.net.", f"n.z{at + 1}.net.")]
    audit = audit_of(
        evidence([*without(sound(), *zone("shop.test.", "n.z0.net.", "n.first-dns.net.")), *chain])
    )
    assert sum(node.id.startswith("provider:z") for node in audit.graph.nodes) == 2_501
    crowd = without(sound(), *zone("shop.test.", *(f"n.y{at}.net." for at in range(2_000))))
    crowded = audit_of(evidence(crowd))
    assert max(len(edge.reason) for edge in crowded.graph.edges) < 200


def test_every_finding_resembles_an_outage_that_is_on_record():
    from polycdn.audit.cost import RESEMBLES

    assert set(RESEMBLES.values()) <= set(all_ids())
    assert set(RESEMBLES) == set(Kind) - {Kind.UNKNOWN}


def test_headers_alone_tell_who_carries_a_name_without_other_marks():
    facts = without(
        sound(),
        look("shop.test.", "A", "203.0.113.77"),
        answer("shop.test", ("cf-ray", "1"), ("server", "cloudflare")),
    )
    assert found(facts)[Kind.ONE_CDN].nodes == ("provider:cloudflare",)


def test_the_order_of_facts_does_not_matter():
    facts = without(sound(), *zone("shop.test.", "ns1.first-dns.net."))
    audits = [
        audit_of(evidence(order))
        for order in itertools.islice(itertools.permutations(facts[:5]), 24)
        for order in ([*order, *facts[5:]],)
    ]
    assert len({(audit.findings, audit.graph.edges) for audit in audits}) == 1


@settings(max_examples=150, deadline=None)
@given(st.lists(any_fact(), max_size=30), st.randoms(use_true_random=False))
def test_any_evidence_in_any_order_gives_one_audit(many, dice):
    mixed = [*many]
    dice.shuffle(mixed)
    one, other = audit_of(evidence_of(many, NOW_MS)), audit_of(evidence_of(mixed, NOW_MS))
    assert one.findings == other.findings
    assert one.graph == other.graph
    for each in one.findings:
        assert each.title
        assert each.remedy
        assert each.severity is Severity.UNKNOWN or each.incident in all_ids()
    for service in one.services:
        assert one.worst_of(service) is not None
