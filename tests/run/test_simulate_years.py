"""What redundancy buys: frequencies, draws, and the order of the table."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polycdn import incidents
from polycdn.cli.main import run_command
from polycdn.errors import ConfigError
from polycdn.incidents import Kind
from polycdn.run.simulate_years import Money, nodes_of, overlaps, setups, yearly_cost
from polycdn.world.outages import YEAR_S, Drawn, draw, fit

TOLD = {name: incidents.load(name) for name in incidents.all_ids()}


def test_frequencies_lie_within_their_intervals():
    for kind in Kind:
        each = fit(tuple(TOLD.values()), kind)
        assert 0 < each.rate_low < each.rate < each.rate_high
        assert each.minutes_low <= each.minutes <= each.minutes_high
        assert each.rate == pytest.approx(each.outages / (each.companies * each.years))


def test_the_interval_of_a_rate_is_that_of_the_tables():
    each = fit(tuple(TOLD.values()), Kind.CDN)  # Garwood for 9 events: 4.115 to 17.085
    exposure = each.companies * each.years
    assert each.outages == 9
    assert each.rate_low * exposure == pytest.approx(4.115, rel=0.005)
    assert each.rate_high * exposure == pytest.approx(17.085, rel=0.005)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 2.0))
def test_as_many_outages_are_drawn_as_the_rate_says(seed, rate):
    drawn = draw(seed, 2_000, {"a": (rate, ("x", "y"))})
    assert abs(len(drawn) - 2_000 * rate) < 6 * (2_000 * rate) ** 0.5 + 5
    assert all(0 <= one.start_s < 2_000 * YEAR_S for one in drawn)
    assert list(drawn) == sorted(drawn, key=lambda one: one.start_s)


def test_another_node_does_not_change_ones_own_outages():
    alone = draw(1, 500, {"a": (0.3, ("x",))})
    beside = draw(1, 500, {"a": (0.3, ("x",)), "b": (0.5, ("x",))})
    assert tuple(one for one in beside if one.node == "a") == alone


def test_two_outages_at_once_overlap_for_their_common_time():
    two = setups(None, ())[2]
    name = "2021-06-08-fastly"
    length_s = TOLD[name].duration_ms // 1000
    drawn = (Drawn("cdn-a", 0, name), Drawn("cdn-b", length_s // 2, name), Drawn("cdn-a", YEAR_S, name))
    assert overlaps(two, drawn, TOLD) == {0: pytest.approx(0.5, abs=0.01), 1: pytest.approx(0.5, abs=0.01)}


def test_cost_is_volume_of_the_first_and_fixed_prices_of_all():
    two = setups(None, ())[2]
    providers = (replace(two.service.providers[0], cost_micros_per_gib=20_000), two.service.providers[1])
    way = replace(two, service=replace(two.service, providers=providers))
    assert yearly_cost(way, Money(1_000, (("cdn-b", 50.0),))) == pytest.approx(70.0)


def test_providers_of_one_company_share_it():
    whole = setups(None, ())[2]
    providers = tuple(replace(each, company="acme") for each in whole.service.providers)
    own = setups((replace(whole.service, providers=providers), whole.policy), ())[-1]
    fitted = {kind: fit(tuple(TOLD.values()), kind) for kind in (Kind.CDN, Kind.CLOUD, Kind.DNS)}
    assert set(nodes_of(own, fitted, TOLD)) == {"cdn-a", "cdn-b", "shared acme"}


@pytest.mark.timeout(170)
def test_independence_buys_more_than_a_second_provider_does(capsys):
    assert run_command(["simulate", "--years", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    one, sharing, independent = (row["user_minutes_a_year"] for row in shown["setups"])
    assert shown["years"] == 10_000
    assert independent[1] < sharing[1] < one[1]
    for low, mean, high in (one, sharing, independent):
        assert low < mean < high


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ([], "INCIDENT"),
        (["--years", "0"], "--years"),
        (["--years", "5", "--shared", "a,b"], "--shared"),
        (["--years", "5", "--fixed", "cdn-a"], "--fixed"),
    ],
)
def test_wrong_words_are_named(words, place):
    with pytest.raises(ConfigError, match=place):
        run_command(["simulate", *words])
