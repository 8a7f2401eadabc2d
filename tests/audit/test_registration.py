"""At which registrar a domain is: asked of its registry, told as evidence, judged beside the rest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from internet_stage import add_registry, audited, shop_plan

from polycdn.audit.evidence import RegistrationLook
from polycdn.audit.findings import audit_of
from polycdn.audit.registration import registration_of, services_of


def test_a_registry_is_found_and_asked(tmp_path):
    plan = shop_plan()
    add_registry(plan, {"shop.test": "Example Registrar, Inc."})
    shop = audited(plan, tmp_path, "www.shop.test.")
    look = shop.registrations["shop.test."]
    assert (look.registrar, look.registrar_id) == ("Example Registrar, Inc.", "9999")
    assert look.expires_ms == 1_925_089_445_000
    assert look.statuses == ("client transfer prohibited",)
    assert not any(each.what == "registrar" for each in shop.unseen)


def test_a_registry_that_does_not_know_is_unseen(tmp_path):
    plan = shop_plan()
    add_registry(plan, {})
    shop = audited(plan, tmp_path, "shop.test.")
    assert [each.why for each in shop.unseen_of("shop.test.") if each.what == "registrar"] == [
        "bad: the registry gives no answer"
    ]


def kinds_with(tmp_path, registrar):
    plan = shop_plan()
    plan.operator("cloudflare.com.")
    mine = plan.zone("mine.test.", "cloudflare.com.")
    for _ in range(2):
        mine.add("mine.test.", "A", plan.address(f"Hosting {len(plan.networks)}"))
    add_registry(plan, {"mine.test": registrar})
    return {
        (str(each.kind), each.subject) for each in audit_of(audited(plan, tmp_path, "mine.test.")).findings
        if "registrar" in each.title
    }  # fmt: skip


@pytest.mark.parametrize(
    ("registrar", "found"),
    [
        ("Cloudflare, Inc.", {("console-behind-provider", "mine.test")}),
        ("Amazon Registrar, Inc.", set()),
        ("Unheard Of Ltd", set()),
    ],
)
def test_a_registrar_that_is_the_only_operator_is_a_finding(tmp_path, registrar, found):
    assert kinds_with(tmp_path, registrar) == found


FIELDS = (
    *("objectClassName", "entities", "roles", "vcardArray", "publicIds", "events", "eventAction"),
    *("eventDate", "status", "services", "type", "identifier"),
)
words = st.text(max_size=8) | st.sampled_from(["domain", "registrar", "fn", "expiration"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=20,
)


@given(anything, st.binary(max_size=30))
def test_any_answer_of_a_registry_is_one_or_none(raw, garbage):
    for content in (json.dumps(raw).encode(), garbage, b"[" * 100_000):
        assert isinstance(services_of(content), dict)
        look = registration_of("shop.test.", content, 0)
        assert look is None or isinstance(look, RegistrationLook)
