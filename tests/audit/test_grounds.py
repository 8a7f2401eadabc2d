"""What a config's providers share by an evidence: hand-made, and collected in the lab's internet."""

import pytest
from small import asked, evidence, look, sound, without, zone

from polycdn.audit.evidence import Role
from polycdn.audit.findings import audit_of
from polycdn.audit.grounds import grounds_of


def provider(label, host):
    return asked(host, Role.CDN, f"provider of shop.test.: {label}")


def at(label, address):
    return asked("shop.test.", Role.CDN, f"provider of shop.test.: {label} at {address}")


def grounds(facts, *names):
    return grounds_of(audit_of(evidence(facts)), "shop.test", names)


def shared(facts, *names):
    return {(each.node, each.role): each.members for each in grounds(facts, *names).found}


def test_an_operator_of_two_of_three_is_found_at_any_depth():
    facts = [
        *sound(),
        provider("a", "a.one-cdn.com."),
        provider("b", "b.two-cdn.com."),
        provider("c", "c.other.com."),
    ]
    facts += [*zone("one-cdn.com.", "ns.deep-dns.net."), *zone("two-cdn.com.", "ns.mid-dns.net.")]
    facts += [*zone("mid-dns.net.", "ns.deep-dns.net."), *zone("other.com.", "ns.other.com.")]
    found = grounds(facts, "a", "b", "c")
    (ground,) = found.found
    assert (ground.node, ground.role, ground.members) == ("provider:deep-dns.net", "dns", ("a", "b"))
    assert "two-cdn.com -dns-> mid-dns.net -dns-> deep-dns.net" in ground.ways
    assert found.unseen == ()


def test_owners_and_clouds_are_shared_too_and_two_names_of_one_provider_are_one():
    owned = [*sound(), provider("a", "a.wscdns.com."), provider("b", "b.cdngc.net.")]
    assert shared(owned, "a", "b") == {("company:wangsu", "company"): ("a", "b")}
    clouds = [*sound(), provider("a", "a.netlify.app."), provider("b", "b.vercel.app.")]
    assert shared(clouds, "a", "b")["provider:aws", "cloud"] == ("a", "b")
    twice = [*sound(), provider("a", "a.fastly.net."), provider("b", "b.fastly.net.")]
    assert shared(twice, "a", "b")["provider:fastly", ""] == ("a", "b")


def test_providers_at_addresses_of_one_network_share_it():
    facts = [*sound(), at("a", "192.0.2.1"), at("b", "192.0.2.1"), at("c", "198.51.100.1")]
    assert shared(facts, "a", "b", "c") == {("provider:First Net", ""): ("a", "b")}


def test_the_only_operator_of_the_service_takes_everybody():
    alone = without(sound(), *zone("shop.test.", "ns1.first-dns.net.", "ns2.first-dns.net."))
    facts = [*alone, provider("a", "a.one-cdn.com."), provider("b", "b.two-cdn.com.")]
    assert shared(facts, "a", "b") == {("provider:first-dns.net", "dns"): ("a", "b")}
    both = [*facts, *zone("one-cdn.com.", "a.first-dns.net."), *zone("two-cdn.com.", "b.first-dns.net.")]
    assert shared(both, "a", "b") == {("provider:first-dns.net", "dns"): ("a", "b")}


@pytest.mark.parametrize("facts", [sound(), [*sound(), look("a.one-cdn.com.", "A", "192.0.2.9")]])
def test_providers_that_were_not_asked_for_are_told(facts):
    found = grounds(facts, "a", "b")
    assert found.found == ()
    assert found.unseen == ("a", "b")
