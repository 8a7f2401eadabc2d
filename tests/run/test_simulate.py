"""Outages in the false world: who loses what, and that it is the same every time."""

import asyncio
import json

import pytest
import typer
from typer.testing import CliRunner

from polycdn import incidents
from polycdn.cli import simulate_commands
from polycdn.config.load import load
from polycdn.config.starter import STARTER
from polycdn.errors import ConfigError
from polycdn.incidents import Kind
from polycdn.incidents.reader import parse
from polycdn.lab.content import STANDARD
from polycdn.lab.load import Shots
from polycdn.lab.spec import Rates
from polycdn.model.state import Decision
from polycdn.run.clock import Virtual
from polycdn.run.rehearse_kind import cast_of, lived
from polycdn.run.rehearse_setup import LEAD_WALL_MS
from polycdn.run.simulate import (
    REHEARSAL_LEAD_WALL_MS,
    own_layers,
    plots_of,
    simulate,
    simulate_like_rehearsal,
    simulate_many,
    the_step,
    to_json,
)
from polycdn.run.simulate_layer import BrokenPropertyError, Place, Threshold
from polycdn.run.simulate_requests import groups_of
from polycdn.run.simulation import Options, Plot
from polycdn.world.population import Population
from polycdn.world.provider import POLICY, cdn_service

SHORT = """\
id = "short"
provider = "acme"
title = "Acme fails for ten minutes"
started = "2026-01-01T00:00:00Z"
kinds = [{kinds}]

[[phase]]
offset_s = 0
duration_s = 600
fault = "{fault}"
share = {share}
"""


def short(fault="http-5xx", share=1.0, kinds='"cdn"', more=""):
    text = SHORT.format(fault=fault, share=share, kinds=kinds) + more
    return parse(text.encode(), "short.toml")


def run(incident, step=None, **options):
    return simulate(Plot(incident), Options(**options), step)


def lost(done):
    return {loss.client: loss.user_minutes_lost for loss in done.clients}


@pytest.fixture(scope="module")
def main_incident():
    return simulate_like_rehearsal(incidents.load("2025-11-18-cloudflare"))


def test_the_main_incident_hurts_as_it_did_and_ours_loses_a_tenth_of_the_usual_failover(main_incident):
    failed = dict(main_incident.clients)
    assert failed["single"] == pytest.approx(5_280, abs=300)
    assert failed["dns"] <= 100
    assert failed["dns"] * 10 <= failed["threshold"]
    assert failed["edge"] <= failed["dns"] // 4
    assert main_incident.false_moves == 0
    assert main_incident.plan_changes <= 3
    assert main_incident.threshold_changes > 50


def test_the_lead_is_that_of_a_rehearsal():
    assert REHEARSAL_LEAD_WALL_MS == LEAD_WALL_MS


def test_the_lab_sends_the_very_requests_that_are_counted():
    groups = Shots("dns", STANDARD, Virtual()).groups(Rates())
    assert [(name, rate) for name, rate, _ in groups] == list(groups_of(Rates()))
    assert [aimed(3).key for name, _, aimed in groups] == [f"dns/{name}/3" for name, _, _ in groups]


def test_the_counted_requests_fail_like_all_that_could_be_sent(main_incident):
    counted, expected = dict(main_incident.clients), dict(main_incident.expected)
    for client in ("single", "threshold"):
        assert counted[client] == pytest.approx(expected[client], rel=0.1)
    assert counted["dns"] == pytest.approx(expected["dns"], rel=0.6)


def test_detection_comes_before_evacuation(main_incident):
    assert 0 < main_incident.detect_ms < main_incident.evacuated_ms


def like_rehearsal(name: str):
    incident = incidents.load(name)
    kind = cast_of(incident).kind
    return simulate_like_rehearsal(lived(incident, kind), kind=kind)


def test_a_dns_operators_outage_is_that_of_whoever_has_no_other():
    akamai = like_rehearsal("2021-07-22-akamai")
    assert dict(akamai.clients) == {"single": 5_000, "threshold": 0, "dns": 0, "edge": 0}
    assert akamai.plan_changes == 0


def test_a_clouds_outage_is_left_for_the_other_cloud():
    google = like_rehearsal("2025-06-12-gcp")
    failed = dict(google.clients)
    assert failed["single"] > 1_000
    assert failed["edge"] <= failed["dns"] < failed["single"] // 10


def test_a_ca_outage_is_that_of_a_certificate_that_expires_in_it():
    failed = dict(like_rehearsal("2025-07-21-letsencrypt").clients)
    assert failed["single"] == pytest.approx(5_000, abs=200)
    assert failed["dns"] < failed["single"] // 5


def test_a_full_outage_is_left_within_minutes():
    done = run(short(), population=Population.lab())
    assert lost(done)["single"] == 10_000_000
    assert 0 < lost(done)["dns"] < 2_000_000
    assert done.detect_ms <= 90_000
    assert done.false_moves == 0


def test_users_cost_nothing_but_numbers():
    few, many = run(short(), users=1_000), run(short(), users=1_000_000)
    assert lost(many)["dns"] == pytest.approx(lost(few)["dns"] * 1_000, rel=0.01)
    assert few.loss("dns").availability_bp == many.loss("dns").availability_bp


def test_the_public_loses_more_than_clients_that_obey():
    public, obedient = run(short()), run(short(), population=Population.lab())
    assert lost(public)["dns"] > lost(obedient)["dns"]


def test_the_same_seed_gives_the_same_figures():
    def figures(seed):
        shown = to_json(run(short(share=0.4), seed=seed))
        return {key: value for key, value in shown.items() if key != "wall_ms"}

    assert figures(1) == figures(1)
    assert figures(1) != figures(2)


def test_all_cores_give_the_same_as_one():
    plots = tuple(Plot(short(share=share)) for share in (0.3, 0.9))
    told = []
    alone = simulate_many(plots, Options(), workers=1)
    pooled = simulate_many(plots, Options(), told.append, workers=2)
    assert [done.clients for done in pooled] == [done.clients for done in alone]
    assert [line.split()[0] for line in told] == ["1/2", "2/2"]


def test_a_dns_operators_outage_is_no_loss_with_two_operators():
    done = run(short("dns-servfail", kinds='"dns"'))
    assert lost(done) == {"single": 10_000_000, "threshold": 0, "dns": 0, "edge": 0}
    assert done.plan_changes == 0


def test_a_cloud_outage_is_steered_like_a_cdns():
    done = run(short(kinds='"cloud"'))
    assert lost(done)["single"] == 10_000_000
    assert 0 < lost(done)["dns"] < 4_000_000
    assert done.plan_changes >= 1


def test_one_company_that_is_cdn_and_cloud_fails_a_request_once():
    done = run(short(share=0.5, kinds='"cdn", "cloud", "dns"', fault="timeout"))
    assert lost(done)["single"] == 5_000_000


def test_a_certificate_authoritys_outage_hurts_hardly_anybody():
    done = run(short(kinds='"ca"'))
    assert 0 <= lost(done)["single"] < 100
    assert done.plan_changes == 0


def test_a_resolvers_outage_hurts_all_kinds_alike():
    done = run(incidents.load("2025-07-14-cloudflare"))
    assert len(set(lost(done).values())) == 1
    assert lost(done)["dns"] > 0


def test_slowness_is_counted_apart():
    done = run(short("slow", share=0.5))
    assert set(lost(done).values()) == {0}
    assert done.loss("single").slow_user_minutes == 5_000_000


def test_each_region_is_steered_for_itself():
    done = run(short(share=0.5, more='regions = ["europe"]\nreach_bp = 2500\n'), population=Population.lab())
    assert lost(done)["single"] == pytest.approx(1_250_000, rel=0.01)
    assert lost(done)["dns"] < lost(done)["single"] // 2


def test_losses_end_where_the_figures_end():
    text = SHORT.format(fault="http-5xx", share=1.0, kinds='"cdn"').replace(
        "[[phase]]", 'mitigated = "2026-01-01T00:05:00Z"\n[[phase]]'
    )
    incident = parse(text.encode(), "short.toml")
    assert lost(run(incident, until="mitigated"))["single"] == 5_000_000
    assert lost(run(incident, until="resolved"))["single"] == 10_000_000


def test_a_decision_that_raises_ends_the_run_with_its_seed():
    def broken(state, event, now_ms):
        raise ZeroDivisionError("seven")

    with pytest.raises(BrokenPropertyError, match=r"seed 7: ZeroDivisionError: seven"):
        run(short(), broken, seed=7)


def test_a_plan_that_is_not_whole_ends_the_run():
    step = the_step()

    def leaky(state, event, now_ms):
        decision = step(state, event, now_ms)
        if decision.plan is None:
            return decision
        regions = tuple(_leak(region) for region in decision.plan.regions)
        object.__setattr__(decision.plan, "regions", regions)
        return Decision(decision.state, decision.plan, decision.report)

    def _leak(region):
        object.__setattr__(region, "shares", ((region.shares[0][0], 9_999),))
        return region

    with pytest.raises(BrokenPropertyError, match="seed 1"):
        run(short(), leaky)


def test_it_can_be_called_from_inside_an_event_loop():
    async def inside():
        return run(short())

    assert lost(asyncio.run(inside())) == lost(run(short()))


def test_the_usual_failover_goes_down_after_three_in_a_row_and_up_after_three_good():
    threshold = Threshold(("a", "b"))
    for is_good in (False, False, True, False, False):
        threshold.see("a", is_good)
    assert threshold.choice == "a"
    threshold.see("a", False)
    assert threshold.choice == "b"
    for is_good in (True, True, False, True, True):
        threshold.see("a", is_good)
    assert threshold.choice == "b"
    threshold.see("a", True)
    assert threshold.choice == "a"


def test_the_usual_failover_answers_with_the_first_when_all_are_down():
    threshold = Threshold(("a", "b"))
    for provider in ("a", "b") * 3:
        threshold.see(provider, False)
    assert threshold.choice == "a"


def own_service(**companies):
    from dataclasses import replace

    service = cdn_service()
    providers = tuple(
        replace(p, company=companies.get(p.name.replace("-", "_"), "")) for p in service.providers
    )
    return replace(service, providers=providers)


def test_the_incidents_company_is_hit_wherever_it_stands():
    service = own_service(cdn_b="Cloudflare")
    layers = own_layers(incidents.load("2025-11-18-cloudflare"), service, POLICY)
    assert [(kind, hit) for _, _, kind, hit in layers] == [(Kind.CDN, "cdn-b")]


def test_without_its_company_the_first_of_its_kind_is_hit():
    layers = own_layers(incidents.load("2025-11-18-cloudflare"), own_service(), POLICY)
    assert layers[0][3] == "cdn-a"


def test_an_outage_of_another_kind_hits_nobody_of_ones_own():
    layers = own_layers(incidents.load("2021-07-22-akamai"), own_service(), POLICY)
    assert layers[0][3] is None


def test_a_region_that_nobody_is_named_for_is_carried_by_all():
    from dataclasses import replace

    service = own_service()
    elsewhere = tuple(replace(provider, regions=("elsewhere",)) for provider in service.providers)
    place = Place("anywhere", replace(service, providers=elsewhere), "cdn-a", Population.lab())
    assert place.preference == ("cdn-a", "cdn-b", "own-edge")


def test_a_provider_to_be_hit_must_exist():
    with pytest.raises(ConfigError, match="--hit"):
        own_layers(incidents.load("2021-06-08-fastly"), own_service(), POLICY, "nobody")


def test_the_starter_config_can_be_simulated(tmp_path):
    path = tmp_path / "polycdn.toml"
    path.write_text(STARTER)
    services = load(str(path)).services
    plots = tuple(
        Plot(short(), own_layers(short(), service, policy), service.name) for service, policy in services
    )
    done = simulate(plots[0], Options(tail_s=0))
    assert done.service == "www"
    assert lost(done)["single"] == 10_000_000


@pytest.fixture
def polycdn():
    app = typer.Typer()
    simulate_commands.register(app)
    return lambda *words: CliRunner().invoke(app, list(words))


def write(tmp_path, text):
    path = tmp_path / "short.toml"
    path.write_text(text)
    return str(path)


def test_the_command_prints_one_object_of_the_documented_shape(polycdn, tmp_path):
    path = write(tmp_path, SHORT.format(fault="timeout", share=0.5, kinds='"cdn"'))
    result = polycdn("simulate", path, "--users", "5000", "--json")
    shown = json.loads(result.stdout)
    assert set(shown) >= {"incident", "users", "clients", "plan_changes", "false_moves", "wall_ms"}
    assert shown["users"] == 5_000
    assert [entry["client"] for entry in shown["clients"]] == ["single", "threshold", "dns", "edge"]
    assert all({"user_minutes_lost", "availability_bp"} <= set(entry) for entry in shown["clients"])
    assert shown["clients"][0] == {
        "client": "single",
        "user_minutes_lost": 25_000,
        "availability_bp": 5_000,
        "slow_user_minutes": 0,
    }


def test_the_command_prints_a_table(polycdn, tmp_path):
    path = write(tmp_path, SHORT.format(fault="http-5xx", share=1.0, kinds='"cdn"'))
    result = polycdn("simulate", path)
    assert "10.0 M (0.00 %)" in result.stdout and "overstay_bp 874" in result.stdout


def test_wrong_options_are_told_all_at_once(polycdn):
    result = polycdn("simulate", "all", "--users", "0", "--until", "never", "--probe-interval", "1ms")
    assert isinstance(result.exception, ConfigError)
    assert [fault.place for fault in result.exception.faults] == ["--users", "--until", "--probe-interval"]


def test_options_of_a_config_need_one(polycdn):
    result = polycdn("simulate", "2021-06-08-fastly", "--hit", "cdn-b", "--service", "www")
    assert isinstance(result.exception, ConfigError)
    assert [fault.place for fault in result.exception.faults] == ["--service", "--hit"]


def test_outages_are_listed(polycdn):
    shown = json.loads(polycdn("incidents", "--json").stdout)["incidents"]
    assert [one["id"] for one in shown] == list(incidents.all_ids())
    assert "2021-06-08-fastly" in polycdn("incidents").stdout


def test_an_outage_is_shown_with_its_phases_and_sources(polycdn):
    shown = json.loads(polycdn("incidents", "2025-10-20-aws", "--json").stdout)
    assert shown["phases"][0]["reach_estimated"] is True and shown["sources"]
    assert "message/101925" in polycdn("incidents", "2025-10-20-aws").stdout


def test_a_customer_in_scope_can_be_simulated():
    plot = plots_of(["2026-02-20-cloudflare"], is_in_scope=True)[0]
    assert plot.incident.phases[0].reach_bp == 10_000
