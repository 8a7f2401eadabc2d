"""Model values survive the trip through JSON, and a misfit is named by its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.model.event import Configured
from polycdn.model.plan import Note, Plan, RegionPlan, Severity
from polycdn.model.policy import Policy, Rule
from polycdn.model.topology import Endpoint, Expect, ProbedObject, Provider, ProviderKind, Service
from polycdn.model.wire import WireError, canonical, digest, from_json, to_json

names = st.text(alphabet="abcdefgh-ü", min_size=1, max_size=8)
providers = st.builds(
    Provider,
    name=names,
    kind=st.sampled_from(ProviderKind),
    endpoint=st.builds(Endpoint, host=names, port=st.integers(1, 65_535), tls=st.booleans()),
    capacity_rps=st.none() | st.integers(0, 10**9),
    cname=st.none() | names,
    regions=st.lists(names, max_size=2).map(tuple),
)
objects = st.builds(ProbedObject, path=names, expect=st.builds(Expect, sha256=st.none() | names))
services = st.builds(
    Service,
    name=names,
    hostname=names,
    providers=st.lists(providers, min_size=1, max_size=3).map(tuple),
    objects=st.lists(objects, max_size=2).map(tuple),
)
policies = st.builds(Policy, rule=st.sampled_from(Rule), move_max_bp=st.integers(0, 10_000))
events = st.builds(Configured, at_ms=st.integers(0, 2**53), service=services, policy=policies)


@given(events)
def test_a_value_comes_back_equal(event):
    assert from_json(Configured, to_json(event)) == event


@given(events, events)
def test_two_values_have_one_canonical_form_only_if_equal(one, other):
    assert (canonical(one) == canonical(other)) == (one == other)
    assert (digest(one) == digest(other)) == (one == other)


def test_a_field_at_its_default_is_left_out():
    assert to_json(Expect()) == {}


PLAN = Plan(
    "www",
    3,
    2,
    10,
    (RegionPlan("anywhere", (("a", 10_000),), ("a", "b"), 30),),
    (Note(Severity.INFO, "x", "y"),),
)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"generation": "3"}, r"\$\.generation: expected int, found str"),
        ({"generation": True}, r"\$\.generation: expected int, found bool"),
        ({"colour": 1}, r"\$\.colour: unknown field of Plan"),
        ({"regions": {}}, r"\$\.regions: expected a list, found dict"),
        ({"notes": [{"severity": "loud", "code": "x", "text": "y"}]}, r"\$\.notes\[0\]\.severity: 'loud'"),
        ({"regions": [{"region": "r", "shares": [["a"]], "order": [], "ttl_s": 1}]}, r"expected 2 items"),
    ],
)  # fmt: skip
def test_a_misfit_is_named_by_its_place(change, place):
    with pytest.raises(WireError, match=place):
        from_json(Plan, {**to_json(PLAN), **change})


def test_a_missing_field_is_named():
    raw = to_json(PLAN)
    del raw["parent"]
    with pytest.raises(WireError, match=r"\$\.parent: missing"):
        from_json(Plan, raw)
