"""The share that fails at a moment: phases, flaps, overlaps, kinds and places."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polycdn import incidents
from polycdn.incidents import FaultKind, Incident, Kind, Phase
from polycdn.incidents.regions import TRAFFIC_BP

FLAP = incidents.load("2025-11-18-cloudflare")


def outage(*phases, kinds=(Kind.CDN,)):
    end_ms = max(phase.end_ms for phase in phases)
    return Incident("own", "acme", "own", 0, 0, end_ms, end_ms, kinds, phases)


def phase(offset_ms=0, duration_ms=60_000, fault=FaultKind.HTTP_5XX, share_ppm=500_000, **more):
    return Phase(offset_ms, duration_ms, fault, share_ppm, **more)


PHASES = st.builds(
    phase,
    offset_ms=st.integers(0, 100_000),
    duration_ms=st.integers(1, 100_000),
    fault=st.sampled_from(FaultKind),
    share_ppm=st.integers(0, 1_000_000),
    reach_bp=st.integers(0, 10_000),
    period_ms=st.integers(2_000, 50_000),
    regions=st.sampled_from([(), ("europe",), ("europe", "africa"), ("mars",)]),
)
OUTAGES = st.lists(PHASES, min_size=1, max_size=5).map(lambda found: outage(*found))


def test_a_flap_is_bad_in_the_first_half_of_each_period():
    assert incidents.share_ppm_at(FLAP, 480_000) == 1_000_000
    assert incidents.share_ppm_at(FLAP, 480_000 + 149_999) == 1_000_000
    assert incidents.share_ppm_at(FLAP, 480_000 + 150_000) == 0
    assert incidents.share_ppm_at(FLAP, 480_000 + 299_999) == 0
    assert incidents.share_ppm_at(FLAP, 480_000 + 300_000) == 1_000_000


def test_a_flap_stays_faulty_through_its_good_half():
    assert incidents.is_faulty_at(FLAP, 480_000 + 200_000)
    assert not incidents.is_faulty_at(FLAP, FLAP.duration_ms)


def test_twice_the_share_of_a_flap_is_at_most_one():
    tall = outage(phase(fault=FaultKind.FLAP, share_ppm=700_000, period_ms=10_000))
    assert incidents.share_ppm_at(tall, 0) == 1_000_000


def test_phases_that_overlap_are_independent():
    both = outage(phase(share_ppm=400_000), phase(share_ppm=500_000))
    assert incidents.share_ppm_at(both, 0) == 700_000


def test_a_slow_phase_fails_nobody():
    slow = outage(phase(fault=FaultKind.SLOW))
    assert incidents.share_ppm_at(slow, 0) == 0
    assert incidents.slow_ppm_at(slow, 0) == 500_000
    assert not incidents.is_faulty_at(slow, 0)


def test_http_errors_do_not_touch_a_dns_operator():
    mixed = outage(
        phase(), phase(fault=FaultKind.DNS_SERVFAIL, share_ppm=100_000), kinds=(Kind.CDN, Kind.DNS)
    )
    assert incidents.share_ppm_at(mixed, 0, Kind.DNS) == 100_000
    assert incidents.share_ppm_at(mixed, 0, Kind.CDN) == 550_000
    assert incidents.share_ppm_at(mixed, 0) == 550_000
    assert incidents.share_ppm_at(mixed, 0, Kind.CLOUD) == 0


def test_the_mean_over_the_regions_is_share_times_reach():
    azure = incidents.load("2025-10-09-azure")
    mean_ppm = sum(
        part_bp * incidents.share_ppm_at(azure, 0, region=region) for region, part_bp in TRAFFIC_BP.items()
    )
    assert mean_ppm // 10_000 == pytest.approx(incidents.share_ppm_at(azure, 0), abs=1_000)
    assert incidents.share_ppm_at(azure, 0, region="africa") == 170_000
    assert incidents.share_ppm_at(azure, 0, region="north-america") == 0


def test_a_region_with_a_name_of_the_operators_own_is_taken_as_average():
    azure = incidents.load("2025-10-09-azure")
    assert incidents.share_ppm_at(azure, 0, region="dach") == incidents.share_ppm_at(azure, 0)


def test_the_main_incident_costs_a_pinned_client_what_its_timeline_says():
    assert incidents.expected_failed_bp(FLAP, "mitigated") == pytest.approx(5_280, abs=60)
    assert incidents.until_ms(FLAP, "mitigated") == 11_400_000


def test_a_customer_in_scope_has_the_whole_share():
    byoip = incidents.in_scope(incidents.load("2026-02-20-cloudflare"))
    assert incidents.share_ppm_at(byoip, 3_000_000) == 250_000


@pytest.mark.parametrize("name", incidents.all_ids())
def test_windows_tell_the_whole_outage_without_gaps(name):
    incident = incidents.load(name)
    told = incidents.windows(incident, "resolved")
    assert told[0].start_ms == 0 and told[-1].end_ms == incident.duration_ms
    assert all(one.end_ms == other.start_ms for one, other in pairwise(told))


@given(OUTAGES, st.integers(0, 220_000), st.sampled_from([None, "europe", "asia-pacific", "dach"]))
def test_shares_stay_between_nothing_and_everything(incident, offset_ms, region):
    assert 0 <= incidents.share_ppm_at(incident, offset_ms, region=region) <= 1_000_000
    assert 0 <= incidents.slow_ppm_at(incident, offset_ms, region=region) <= 1_000_000


@settings(deadline=None)
@given(OUTAGES, st.integers(0, 220_000))
def test_a_window_has_the_share_of_each_of_its_moments(incident, offset_ms):
    for window in incidents.windows(incident):
        if window.start_ms <= offset_ms < window.end_ms:
            assert window.failed_ppm == incidents.share_ppm_at(incident, offset_ms)
            assert window.slow_ppm == incidents.slow_ppm_at(incident, offset_ms)


@given(OUTAGES, st.integers(0, 220_000))
def test_one_more_phase_never_makes_it_better(incident, offset_ms):
    worse = replace(incident, phases=(*incident.phases, phase(duration_ms=300_000)))
    assert incidents.share_ppm_at(worse, offset_ms) >= incidents.share_ppm_at(incident, offset_ms)
