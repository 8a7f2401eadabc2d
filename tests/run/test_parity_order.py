"""What parity found is an observation, and a standby that is not ready is not offered traffic."""

import pytest

from polycdn.decide.step import step
from polycdn.model.event import Configured, Forced, Stance
from polycdn.model.policy import Policy
from polycdn.model.state import State
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Service, Vantage
from polycdn.run.api import WordError, orders_of

START_MS = 1_800_000_000_000
SERVICE = Service(
    "www",
    "www.test",
    tuple(Provider(name, ProviderKind.CDN, Endpoint(f"{name}.test")) for name in ("a", "b", "c")),
    vantages=(Vantage("v1"),),
)


def shares_after_loss_of_the_first(policy: Policy, *findings: list[str]) -> dict[str, int]:
    state = step(State(), Configured(START_MS, SERVICE, policy), START_MS).state
    at_ms = START_MS
    for not_ready in findings:
        at_ms += 1_000
        word = {"op": "parity", "service": "www", "not_ready": not_ready}
        (order,) = orders_of(word, {"www": state}, at_ms)
        state = step(state, order.event, at_ms).state
    down = Forced(at_ms + 1_000, "a", Stance.DOWN, at_ms + 3_600_000)
    decision = step(state, down, at_ms + 1_000)
    assert decision.plan is not None
    return dict(decision.plan.regions[0].shares)


def test_a_standby_that_is_not_ready_is_passed_over():
    shares = shares_after_loss_of_the_first(Policy(require_parity=True), ["b"])
    assert shares.get("b", 0) == 0 and shares["c"] == 10_000


def test_it_is_offered_traffic_again_once_it_is_equal():
    assert shares_after_loss_of_the_first(Policy(require_parity=True), ["b"], [])["b"] == 10_000


def test_without_the_policy_parity_changes_nothing():
    assert shares_after_loss_of_the_first(Policy(), ["b"])["b"] == 10_000


@pytest.mark.parametrize("not_ready", [[], ["b"]])
def test_what_parity_found_is_no_evidence_of_health(not_ready):
    state = step(State(), Configured(START_MS, SERVICE, Policy(require_parity=True)), START_MS).state
    word = {"op": "parity", "service": "www", "not_ready": not_ready}
    (order,) = orders_of(word, {"www": state}, START_MS + 1_000)
    after = step(state, order.event, START_MS + 1_000).state
    assert {stream.vantage for stream in after.streams} == {"v1"}
    assert [mismatch.provider for mismatch in after.mismatches] == not_ready


@pytest.mark.parametrize(
    "word", [{"not_ready": ["z"]}, {"not_ready": "b"}, {}, {"not_ready": [], "service": ""}]
)
def test_a_wrong_word_is_refused(word):
    state = step(State(), Configured(START_MS, SERVICE, Policy()), START_MS).state
    with pytest.raises(WordError):
        orders_of({"op": "parity", "service": "www"} | word, {"www": state}, START_MS)
