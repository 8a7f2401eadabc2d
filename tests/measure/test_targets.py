"""Whom a vantage looks at, and what it asks."""

from polycdn.measure.target import FRESH_PPM, is_sampled_fresh, question_of, targets_of
from polycdn.model.policy import Policy
from polycdn.model.topology import Endpoint, Expect, ProbedObject, Provider, ProviderKind, Region, Service
from polycdn.model.units import ANYWHERE, ORIGIN


def provider(name: str, *regions: str, cname: str | None = None) -> Provider:
    return Provider(name, ProviderKind.CDN, Endpoint("www.test"), cname=cname, regions=regions)


SERVICE = Service(
    name="www",
    hostname="www.test",
    providers=(provider("a"), provider("b", "eu"), provider("c", "us", cname="c.test")),
    origin=Endpoint("origin.test"),
    objects=(ProbedObject("/1", Expect(status=204)), ProbedObject("/2")),
    regions=(Region("eu"), Region("us")),
)
POLICY = Policy(probe_deadline_ms=700, slow_ms=90)


def test_all_providers_and_the_origin_are_looked_at_for_everywhere():
    targets = targets_of(SERVICE, POLICY)
    assert [target.provider for target in targets] == ["a", "b", "c", ORIGIN]
    assert {target.regions for target in targets} == {(ANYWHERE,)}


def test_a_vantage_of_one_region_leaves_out_who_does_not_serve_it():
    targets = targets_of(SERVICE, POLICY, ("eu",))
    assert [(target.provider, target.regions) for target in targets] == [
        ("a", ("eu",)),
        ("b", ("eu",)),
        (ORIGIN, ("eu",)),
    ]
    assert targets_of(SERVICE, POLICY, ("mars",)) == ()


def test_the_same_look_asks_everyone_for_the_same_object():
    for sequence in range(4):
        paths = {question_of(target, sequence).path for target in targets_of(SERVICE, POLICY)}
        assert paths == {SERVICE.objects[sequence % 2].path}


def test_a_question_carries_what_the_service_and_the_policy_say():
    target = targets_of(SERVICE, POLICY)[2]
    question = question_of(target, 2, source_address="127.0.0.9", headers=(("x-lab-key", "v/2"),))
    assert question.host == "www.test"
    assert question.connect_host == "c.test"
    assert question.expect == Expect(status=204)
    assert (question.deadline_ms, question.slow_ms) == (700, 90)
    assert question.source_address == "127.0.0.9"
    assert question.headers == (("x-lab-key", "v/2"),)


def test_every_fifth_look_or_so_is_fresh():
    fresh = sum(is_sampled_fresh(1, "v/www/a", sequence) for sequence in range(20_000))
    assert abs(fresh * 1_000_000 // 20_000 - FRESH_PPM) < 10_000
