"""Which names are looked up, at whom, and what is expected."""

from polycdn.measure.names import name_question_of, names_of
from polycdn.model.policy import Policy
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Region, Service
from polycdn.model.units import ANYWHERE, NAMESERVER

POLICY = Policy(probe_deadline_ms=700)
BY_NAME = Provider("named", ProviderKind.CDN, Endpoint("www.cdn.example"))
BY_CNAME = Provider("aliased", ProviderKind.CDN, Endpoint("www.test"), cname="www.test.cdn.example")
BY_ADDRESS = Provider("placed", ProviderKind.CDN, Endpoint("www.test", addresses=("192.0.2.1",)))
BY_LITERAL = Provider("literal", ProviderKind.CDN, Endpoint("192.0.2.9"))
OURS = ("192.0.2.53:53", "[2001:db8::53]:5353")


def service(*providers: Provider, **changes) -> Service:
    return Service("www", "www.test", providers, **changes)


def test_providers_without_an_address_are_looked_up_by_the_name_that_users_are_sent_to():
    found = names_of(service(BY_NAME, BY_CNAME, BY_ADDRESS, BY_LITERAL), POLICY)
    assert [(one.provider, one.hostname, one.regions) for one in found] == [
        ("named", "www.cdn.example", (ANYWHERE,)),
        ("aliased", "www.test.cdn.example", (ANYWHERE,)),
    ]


def test_the_resolver_is_the_vantages_own_or_the_machines():
    (at_ours,) = names_of(service(BY_NAME), POLICY, resolver="[2001:db8::1]:5353")
    asked = name_question_of(at_ours, 7, "127.0.0.9")
    assert (asked.server, asked.port, asked.name) == ("2001:db8::1", 5353, "www.cdn.example")
    assert (asked.deadline_ms, asked.source_address, asked.expected) == (700, "127.0.0.9", ())
    (at_system,) = names_of(service(BY_NAME), POLICY)
    assert name_question_of(at_system, 0).server == ""


def test_our_nameservers_are_asked_in_turn_and_may_only_answer_with_providers():
    (own,) = names_of(service(BY_ADDRESS, nameservers=OURS), POLICY)
    assert own.provider == NAMESERVER
    assert [name_question_of(own, number).server for number in range(3)] == [
        "192.0.2.53",
        "2001:db8::53",
        "192.0.2.53",
    ]
    assert name_question_of(own, 1).port == 5353
    assert own.expected == ("192.0.2.1",)
    every = names_of(service(BY_ADDRESS, BY_CNAME, nameservers=OURS), POLICY)[-1]
    assert every.expected == ("192.0.2.1", "www.test.cdn.example")


def test_where_an_answer_cannot_be_known_any_will_do():
    assert names_of(service(BY_ADDRESS, BY_NAME, nameservers=OURS), POLICY)[-1].expected == ()


def test_a_provider_of_other_regions_is_not_looked_up():
    far = Provider("far", ProviderKind.CDN, Endpoint("far.example"), regions=("us",))
    regions = (Region("eu"), Region("us"))
    assert names_of(service(far, regions=regions), POLICY, ("eu",)) == ()
    (one,) = names_of(service(far, regions=regions), POLICY, ("eu", "us"))
    assert one.regions == ("us",)
