"""What an outage does to one provider, and what vantages see of it."""

from dataclasses import replace

import pytest

from polycdn import incidents
from polycdn.incidents import FaultKind, Incident, Kind, Phase
from polycdn.lab.fault import FaultKind as Fault
from polycdn.lab.fault import Schedule, Window, fault_for
from polycdn.model.chance import chance_ppm
from polycdn.model.observation import Reason
from polycdn.model.topology import Vantage
from polycdn.world.fault import Injection, only
from polycdn.world.network import LookKey, look, parts_bp, spoken_for

FLAP = incidents.load("2025-11-18-cloudflare")
REGIONS = ("anywhere",)


def outage(*phases, kinds=(Kind.CDN,)):
    end_ms = max(phase.end_ms for phase in phases)
    return Incident("own", "acme", "own", 0, 0, end_ms, end_ms, kinds, phases)


def seen(injection, sequence, offset_ms, provider="cdn-a", seed=1, vantage="v1"):
    key = LookKey(Vantage(vantage), provider, sequence, offset_ms)
    return look(seed, 1_000_000, key, REGIONS, injection)[0]


def test_before_the_start_and_after_the_end_all_is_calm():
    injection = Injection(FLAP, Kind.CDN, "cdn-a", REGIONS)
    assert injection.at(-1).failed_ppm == 0
    assert injection.at(0).failed_ppm == 100_000
    assert injection.at(FLAP.duration_ms).failed_ppm == 0
    assert not injection.at(FLAP.duration_ms).is_faulty


def test_the_good_half_of_a_flap_is_faulty_but_the_calm_after_it_is_not():
    injection = Injection(incidents.load("2022-06-21-cloudflare"), Kind.CDN, "cdn-a", REGIONS)
    assert injection.at(4_450_000).failed_ppm == 0 and injection.at(4_450_000).is_faulty
    assert not injection.at(4_500_000).is_faulty


def test_every_change_of_effect_is_an_edge():
    injection = Injection(FLAP, Kind.CDN, "cdn-a", REGIONS)
    assert injection.next_edge_ms(0, 99) == 480_000
    assert injection.next_edge_ms(480_000, 99) == 630_000
    assert injection.next_edge_ms(FLAP.duration_ms, 99) == 99


def test_looks_fail_by_the_same_chance_as_in_the_lab():
    injection = Injection(FLAP, Kind.CDN, "cdn-a", REGIONS)
    failed = [seen(injection, k, 10_000).failures for k in range(500)]
    assert failed == [int(chance_ppm(1, "cdn-a", f"v1/{k}") < 100_000) for k in range(500)]
    assert 25 <= sum(failed) <= 75


def test_the_lab_fails_the_very_same_looks():
    injection = Injection(FLAP, Kind.CDN, "cdn-a", REGIONS)
    for window in incidents.windows(FLAP)[:8]:
        lab = Schedule(
            7, (Window("cdn-a", window.start_ms, window.end_ms, Fault.HTTP_5XX, window.failed_ppm),)
        )
        for k in range(100):
            at_ms = window.start_ms + k
            fault = fault_for(lab, "cdn-a", f"v2/{k}", at_ms)
            assert (fault is not None) == (seen(injection, k, at_ms, seed=7, vantage="v2").failures == 1)


def test_only_the_provider_that_is_hit_fails():
    injection = Injection(FLAP, Kind.CDN, "cdn-a", REGIONS)
    assert all(seen(injection, k, 480_000).failures for k in range(20))
    assert not any(seen(injection, k, 480_000, provider="cdn-b").failures for k in range(20))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (FaultKind.HTTP_5XX, Reason.HTTP_5XX),
        (FaultKind.TIMEOUT, Reason.TIMEOUT),
        (FaultKind.CONNECT_REFUSED, Reason.REFUSED),
        (FaultKind.TLS_FAILURE, Reason.TLS),
        (FaultKind.DNS_SERVFAIL, Reason.DNS_SERVFAIL),
        (FaultKind.DNS_EMPTY, Reason.DNS_EMPTY),
        (FaultKind.FLAP, Reason.HTTP_5XX),
    ],
)
def test_a_fault_has_its_reason(fault, reason):
    injection = Injection(outage(Phase(0, 600_000, fault, 1_000_000)), Kind.CDN, "cdn-a", REGIONS)
    observation = seen(injection, 0, 0)
    assert (observation.reason, observation.failures, observation.at_ms) == (reason, 1, 1_000_000)


def test_a_slow_look_is_good_and_late():
    injection = Injection(outage(Phase(0, 600_000, FaultKind.SLOW, 1_000_000)), Kind.CDN, "cdn-a", REGIONS)
    observation = seen(injection, 0, 0)
    assert observation.failures == 0 and observation.first_byte_ms >= 1_000


def test_a_vantage_in_a_region_sees_what_its_users_meet():
    azure = incidents.load("2025-10-09-azure")
    injection = Injection(azure, Kind.CDN, "cdn-a", ("africa", "north-america"))
    assert injection.at(0, "africa").failed_ppm == 170_000
    assert injection.at(0, "north-america").failed_ppm == 0
    assert 0 < injection.at(0).failed_ppm < 170_000


def test_a_kind_that_the_outage_does_not_have_is_not_hit():
    injection = Injection(FLAP, Kind.CLOUD, "cloud-a", REGIONS)
    assert injection.first_fault_ms() is None
    assert not injection.is_anywhere(480_000)


def test_the_first_fault_is_found_behind_a_slow_phase():
    late = outage(
        Phase(0, 60_000, FaultKind.SLOW, 500_000), Phase(60_000, 60_000, FaultKind.TIMEOUT, 500_000)
    )
    assert Injection(late, Kind.CDN, "cdn-a", REGIONS).first_fault_ms() == 60_000


def test_an_outage_can_be_reduced_to_one_fault():
    mixed = replace(FLAP, kinds=(Kind.DNS,))
    assert Injection(only(mixed, FaultKind.DNS_EMPTY), Kind.DNS, "", ()).at(0).failed_ppm == 0


def test_a_vantage_speaks_for_its_own_regions_that_the_provider_carries():
    vantage = Vantage("v1", ("europe", "africa"))
    assert spoken_for(vantage, ("africa", "asia-pacific", "europe"), ()) == ("africa", "europe")
    assert spoken_for(vantage, ("africa", "asia-pacific", "europe"), ("asia-pacific", "africa")) == (
        "africa",
    )
    assert spoken_for(Vantage("v2"), ("a", "b"), ()) == ("a", "b")


@pytest.mark.parametrize("weights", [(1, 1, 1), (0, 0), (5,), (999_999, 1), (3, 0, 4)])
def test_parts_sum_to_everything(weights):
    parts = parts_bp(weights)
    assert sum(parts) == 10_000 and min(parts) >= 0
