"""What redundancy buys: frequencies, draws, and the order of the table."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polycdn import incidents
from polycdn.audit.evidence import DnsLook, DnsRecord, DnsStatus, Role, Target, evidence_of
from polycdn.audit.evidence_file import write_evidence
from polycdn.cli.main import run_command
from polycdn.cli.simulate_years import shared_lines
from polycdn.errors import ConfigError
from polycdn.incidents import Kind
from polycdn.run.simulate_years import Money, nodes_of, overlaps, yearly_cost
from polycdn.run.simulate_years_setup import Setup, SharedNode, setups
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
    money = Money(1_000, (("cdn-b", 50.0),))
    assert yearly_cost(way, money) == pytest.approx(70.0)
    beside = setups((way.service, way.policy), ())
    assert [yearly_cost(each, money) for each in beside] == pytest.approx([20.0, 70.0, 70.0, 70.0])
    assert [yearly_cost(each, money) for each in setups(None, ())] == [0.0, 50.0, 50.0]


def test_providers_of_one_company_share_it():
    whole = setups(None, ())[2]
    providers = tuple(replace(each, company="acme") for each in whole.service.providers)
    own = setups((replace(whole.service, providers=providers), whole.policy), ())[-1]
    fitted = {kind: fit(tuple(TOLD.values()), kind) for kind in (Kind.CDN, Kind.CLOUD, Kind.DNS)}
    assert set(nodes_of(own, fitted, TOLD)) == {"cdn-a", "cdn-b", "shared acme"}


def partly_shared(role: str) -> Setup:
    """Three providers, the first two of which share a node."""
    whole = setups(None, ())[2]
    third = replace(whole.service.providers[0], name="cdn-c")
    service = replace(whole.service, providers=(*whole.service.providers[:2], third))
    return replace(whole, service=service, shared=(SharedNode("deep", ("cdn-a", "cdn-b"), role),))


def test_a_shared_node_takes_its_members_and_leaves_the_others():
    way = partly_shared("dns")
    name = "2021-06-08-fastly"
    length_s = TOLD[name].duration_ms // 1000
    both = (Drawn("shared deep", 0, name), Drawn("cdn-c", length_s // 2, name))
    half = pytest.approx(0.5, abs=0.01)
    assert overlaps(way, both, TOLD) == {0: half, 1: half}
    assert overlaps(way, both[:1], TOLD) == {}


def test_a_node_fails_as_often_as_a_company_of_its_role():
    fitted = {kind: fit(tuple(TOLD.values()), kind) for kind in Kind}
    for role, kind in {"dns": Kind.DNS, "ca": Kind.CA, "cloud": Kind.CLOUD, "network": Kind.DNS}.items():
        assert nodes_of(partly_shared(role), fitted, TOLD)["shared deep"][1] == fitted[kind]
    assert nodes_of(partly_shared("dns"), fitted, TOLD)["shared deep"][0] is Kind.CDN
    assert nodes_of(partly_shared("ca"), fitted, TOLD)["shared deep"][0] is Kind.CA


def test_what_the_audit_found_is_not_counted_twice():
    whole = setups(None, ())[2]
    service = replace(
        whole.service, providers=tuple(replace(p, company="acme") for p in whole.service.providers)
    )
    names = tuple(provider.name for provider in service.providers)
    audited = [SharedNode("Acme Inc.", names, "company", "audit"), SharedNode("acme", names, "dns", "audit")]
    own = setups((service, whole.policy), (), audited)[-1]
    assert [(node.name, node.role) for node in own.shared] == [("acme", "company"), ("acme (audit 1)", "dns")]


def evidence_at(file):
    """Two CDNs whose domains lie at one DNS operator, as an audit of a config keeps them."""
    facts = [
        Target("shop.test.", Role.SERVICE, "asked for"),
        Target("a.one-cdn.com.", Role.CDN, "provider of shop.test.: a"),
        Target("b.two-cdn.com.", Role.CDN, "provider of shop.test.: b"),
    ]
    for zone in ("one-cdn.com.", "two-cdn.com."):
        soa = DnsRecord(zone, "SOA", 60, "ns.deep-dns.net. host.deep-dns.net. 1 2 3 4 5")
        facts.append(DnsLook(zone, "SOA", DnsStatus.NOERROR, (soa,)))
        server = DnsRecord(zone, "NS", 60, "ns.deep-dns.net.")
        facts.append(DnsLook(zone, "NS", DnsStatus.NOERROR, (server,)))
    write_evidence(evidence_of(facts, 1_764_000_000_000, "test"), file)


CONFIG = """\
[policy]
probe_interval = "30s"
evidence_age_max = "10m"
[[provider]]
name = "a"
kind = "cdn"
cname = "a.one-cdn.com"
[[provider]]
name = "b"
kind = "cdn"
cname = "b.two-cdn.com"
[[vantage]]
name = "v1"
[[vantage]]
name = "v2"
[[service]]
name = "shop"
hostname = "shop.test"
"""


@pytest.mark.timeout(170)
def test_independence_buys_more_than_a_second_provider_does(tmp_path, capsys):
    (tmp_path / "polycdn.toml").write_text(CONFIG)
    evidence_at(tmp_path / "e.jsonl")
    words = ["--config", str(tmp_path / "polycdn.toml"), "--evidence", str(tmp_path / "e.jsonl")]
    assert run_command(["simulate", "--years", "--json", *words]) == 0
    shown = json.loads(capsys.readouterr().out)
    one, sharing, independent, own = (row["user_minutes_a_year"] for row in shown["setups"])
    assert shown["years"] == 10_000
    assert independent[1] < sharing[1] < one[1]
    assert independent[1] < own[1] < one[1]
    for low, mean, high in (one, sharing, independent, own):
        assert low < mean < high
    (node,) = shown["setups"][-1]["shared"]
    assert (node["node"], node["role"], node["providers"]) == ("deep-dns.net", "dns", ["a", "b"])
    assert node["from"] == "audit, e.jsonl"
    told = shared_lines(shown)
    assert told[1] == "config: shop: a, b share deep-dns.net (dns); audit, e.jsonl"
    assert any("one-cdn.com -dns-> deep-dns.net" in line for line in told)
    assert not any("vantage" in line for line in told)
    blind = {"setups": [{"setup": "config: shop", "shared": [], "unseen": ["c"], "vantages": 0}]}
    assert ["no vantage" in line for line in shared_lines(blind)[1:]] == [False, True]


def test_evidence_of_something_else_is_refused(tmp_path):
    (tmp_path / "polycdn.toml").write_text(CONFIG.replace("shop.test", "other.test"))
    evidence_at(tmp_path / "e.jsonl")
    words = ["--config", str(tmp_path / "polycdn.toml"), "--evidence", str(tmp_path / "e.jsonl")]
    with pytest.raises(ConfigError, match=r"nothing of the providers of other\.test"):
        run_command(["simulate", "--years", *words])


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ([], "INCIDENT"),
        (["--years", "0"], "--years"),
        (["--years", "5", "--shared", "a,b"], "--shared"),
        (["--years", "5", "--fixed", "cdn-a"], "--fixed"),
        (["2021-06-08-fastly", "--gib", "5"], "--gib"),
        (["2021-06-08-fastly", "--evidence", "none"], "--evidence"),
        (["--years", "5", "--evidence", "none"], "--evidence"),
    ],
)
def test_wrong_words_are_named(words, place):
    with pytest.raises(ConfigError, match=place):
        run_command(["simulate", *words])
