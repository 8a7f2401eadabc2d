"""What an outage of each kind is made of in the lab: who fails, how, and who is asked."""

import asyncio
from dataclasses import replace

import pytest
from stage import until

from polycdn import incidents
from polycdn.config.load import load
from polycdn.errors import ConfigError
from polycdn.incidents import Kind, Until, expected_failed_bp
from polycdn.lab.content import Content
from polycdn.lab.fault import FaultKind
from polycdn.lab.reader import Follower
from polycdn.lab.rig import rig
from polycdn.lab.spec import Aim
from polycdn.model.topology import ProviderKind
from polycdn.run import rehearse_setup
from polycdn.run.clock import Wall
from polycdn.run.rehearse_kind import EDGE_OPERATORS, OPERATORS, cast_of, lived, told_by
from polycdn.run.rehearse_setup import (
    client_specs,
    fault_windows,
    operator_specs,
    rates_of,
    rig_of,
    setting_of,
    write_config,
)

SMALL = Content(seed=1, patch_bytes=50_000)


def shown(name: str):
    incident = incidents.load(name)
    cast = cast_of(incident)
    told = lived(incident, cast.kind)
    return cast, told, fault_windows(told, Until.MITIGATED, cast)


@pytest.mark.parametrize(
    ("name", "kind", "sick"),
    [
        ("2025-11-18-cloudflare", Kind.CDN, {"cdn-a"}),
        ("2025-10-29-azure", Kind.CDN, {"cdn-a"}),
        ("2025-06-12-gcp", Kind.CLOUD, {"cloud-a"}),
        ("2025-10-20-aws", Kind.CLOUD, {"cloud-a"}),
        ("2016-10-21-dyn", Kind.DNS, {OPERATORS[0], EDGE_OPERATORS[0]}),
        ("2025-07-21-letsencrypt", Kind.CA, {"cdn-a"}),
    ],
)
def test_the_fault_is_with_a_company_of_the_outages_kind(name, kind, sick):
    cast, _told, windows = shown(name)
    assert cast.kind is kind
    assert {window.provider for window in windows} == sick


def test_a_nameserver_only_has_faults_that_a_nameserver_can_have():
    _cast, _told, windows = shown("2016-10-21-dyn")
    assert {window.kind for window in windows} <= {
        FaultKind.DNS_SERVFAIL,
        FaultKind.DNS_EMPTY,
        FaultKind.DNS_TIMEOUT,
    }


def test_a_cas_outage_is_an_expired_certificate_from_half_way_on():
    _cast, told, windows = shown("2025-12-16-letsencrypt")
    (window,) = windows
    length_ms = told.mitigated_ms - told.started_ms
    assert (window.kind, window.from_ms) == (FaultKind.EXPIRED_CERT, told.started_ms + length_ms // 2)
    assert expected_failed_bp(told, "mitigated") == pytest.approx(5_000, abs=5)


def test_what_is_left_out_is_told():
    azure = incidents.load("2025-10-29-azure")
    assert told_by(azure, Kind.CDN).endswith("not shown: the same company as dns and cloud")
    assert "not shown" not in told_by(incidents.load("2025-11-18-cloudflare"), Kind.CDN)


def test_an_outage_of_a_public_resolver_is_the_simulations_matter():
    with pytest.raises(ConfigError, match="polycdn simulate 2025-07-14-cloudflare"):
        cast_of(incidents.load("2025-07-14-cloudflare"))


def test_a_smaller_load_asks_for_every_kind_still():
    whole, part = rates_of(100), rates_of(1)
    assert part.feed_get_mrps == whole.feed_get_mrps // 100
    assert part.patch_mrps > 0


def asked(folder, name: str, offset_ms: int) -> dict[str, set[bool]]:
    """By client: whether its requests were good, in a lab whose clock stands at a moment of the outage."""
    setting = setting_of(incidents.load(name), 1, "mitigated", 1, folder)
    here_ms = setting.start_ms + offset_ms

    async def run() -> dict[str, set[bool]]:
        clock = f"script:{here_ms},{Wall().now_ms()},1"
        async with rig(replace(rig_of(setting), clock=clock, content=SMALL), Wall()) as lab:
            await lab.start(*operator_specs(setting, lab))
            specs = [each for each in client_specs(setting, lab) if each.process.name in CLIENTS]
            await lab.start(*(replace(each, start_ms=here_ms, stop_ms=here_ms + 600_000) for each in specs))
            follower, found = Follower(), {client: [] for client in CLIENTS}

            def is_enough() -> bool:
                for line in follower.fresh(lab.request_logs()):
                    found[line.client].append(line.is_ok)
                return all(len(each) >= 30 for each in found.values())

            await until(is_enough, "enough was asked")
            return {client: set(each) for client, each in found.items()}

    return asyncio.run(run())


CLIENTS = ("single", "edge")


@pytest.mark.lab
def test_the_config_of_a_clouds_rehearsal_names_two_clouds_and_no_origin(tmp_path):
    setting = setting_of(incidents.load("2025-06-12-gcp"), 60, "mitigated", 1, tmp_path)

    async def run():
        async with rig(replace(rig_of(setting), content=SMALL), Wall()) as lab:
            return load(str(write_config(setting, lab)), env={})

    ((service, _policy),) = asyncio.run(run()).services
    assert [(each.name, each.kind) for each in service.providers] == [
        ("cloud-a", ProviderKind.CLOUD),
        ("cloud-b", ProviderKind.CLOUD),
    ]
    assert service.origin is None


@pytest.mark.lab
def test_a_dead_dns_operator_is_met_by_those_only_who_have_no_other(tmp_path, monkeypatch):
    minute_ms = 60_000
    outage = FULL.format(kind="dns", fault="dns-servfail")
    (tmp_path / "own.toml").write_text(outage)
    monkeypatch.setattr(rehearse_setup, "_answered", lambda setting, lab, _: lab.places.address("cdn-a"))
    assert asked(tmp_path, str(tmp_path / "own.toml"), 2 * minute_ms) == {"single": {False}, "edge": {True}}


@pytest.mark.lab
def test_a_dead_cloud_takes_its_own_origin_along_and_no_other(tmp_path, monkeypatch):
    (tmp_path / "own.toml").write_text(FULL.format(kind="cloud", fault="http-5xx"))

    def aimed(setting, lab, client, aim):
        name = "cloud-a" if client == "single" else "cloud-b"
        return {"aim": Aim.PINNED, "address": lab.places.address(name)}

    monkeypatch.setattr(rehearse_setup, "_aimed", aimed)
    assert asked(tmp_path, str(tmp_path / "own.toml"), 120_000) == {"single": {False}, "edge": {True}}


FULL = """
id = "own"
provider = "somebody"
title = "An outage"
started = "2026-01-01T00:00:00Z"
detected = "2026-01-01T00:01:00Z"
mitigated = "2026-01-01T02:00:00Z"
resolved = "2026-01-01T02:00:00Z"
kinds = ["{kind}"]

[[phase]]
offset_s = 60
duration_s = 7140
fault = "{fault}"
share = 1.0
scope = "global"
"""
