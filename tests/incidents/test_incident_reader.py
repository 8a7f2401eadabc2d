"""The shipped outages are whole, and an operator's own file is read or refused in full."""

import pytest

from polycdn import incidents
from polycdn.errors import ConfigError
from polycdn.incidents import FaultKind, Kind
from polycdn.incidents.reader import FILE_BYTES_MAX, parse

OWN = """\
id = "own"
provider = "acme"
title = "Acme falls over"
started = "2026-01-01T00:00:00Z"
kinds = ["cdn"]

[[phase]]
offset_s = 0
duration_s = 600
fault = "timeout"
share = 0.28
"""


def faults_of(text):
    with pytest.raises(ConfigError) as caught:
        parse(text if isinstance(text, bytes) else text.encode(), "own.toml")
    return caught.value.faults


def test_nineteen_outages_are_shipped():
    assert len(incidents.all_ids()) == 19
    assert list(incidents.all_ids()) == sorted(incidents.all_ids())


@pytest.mark.parametrize("name", incidents.all_ids())
def test_a_shipped_outage_has_its_sources_and_says_what_is_estimated(name):
    incident = incidents.load(name)
    assert incident.id == name
    assert incident.sources and incident.confidence and incident.lessons
    assert incident.started_ms < incident.mitigated_ms <= incident.resolved_ms
    for phase in incident.phases:
        assert phase.note
        assert phase.reach_estimated and phase.reach_note
        assert 0 < phase.reach_bp <= 10_000
        assert phase.period_ms == (300_000 if phase.fault is FaultKind.FLAP else 0)
        if phase.scope == ("global",):
            assert phase.reach_bp == 10_000 and phase.regions == ()


def test_shares_are_exact_parts_per_million():
    assert incidents.load("2025-06-12-cloudflare").phases[0].share_ppm == 902_200
    assert incidents.load("2025-12-05-cloudflare").phases[0].share_ppm == 280_000


def test_a_file_of_ones_own_needs_only_what_matters():
    incident = parse(OWN.encode(), "own.toml")
    assert incident.duration_ms == 600_000
    assert incident.mitigated_ms == incident.resolved_ms == incident.started_ms + 600_000
    assert incident.phases[0].reach_bp == 10_000


def test_a_path_is_taken_wherever_an_id_is(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    assert incidents.load(str(path)).id == "own"


def test_an_unknown_id_is_answered_with_a_near_one():
    with pytest.raises(ConfigError, match="did you mean 2021-06-08-fastly"):
        incidents.load("fastly")


def test_a_missing_file_is_told():
    with pytest.raises(ConfigError, match="No such file"):
        incidents.load("/nowhere/own.toml")


def test_every_mistake_is_told_at_once_with_its_line():
    text = OWN.replace("0.28", "1.5").replace('"timeout"', '"meltdown"').replace("title =", "titel =")
    faults = faults_of(text + 'surprise = 1\nkinds = ["dns"]\n')
    places = {fault.found.split(" =")[0]: fault.place for fault in faults}
    assert places == {
        "unknown key titel": "own.toml:3",
        "no title": "own.toml:1",
        "share": "own.toml:11",
        "fault": "own.toml:10",
        "unknown key surprise": "own.toml:12",
    }
    assert any(fault.remedy == "did you mean title?" for fault in faults)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (OWN.replace("duration_s = 600", "duration_s = -5"), "duration_s = -5"),
        (OWN.replace("duration_s = 600", 'duration_s = "10m"'), "duration_s = '10m'"),
        (OWN.replace("duration_s = 600", "duration_s = true"), "duration_s = True"),
        (OWN.replace("00:00:00Z", "00:00:00"), "started = '2026-01-01T00:00:00'"),
        (OWN.replace('["cdn"]', "[]"), "kinds = []"),
        (OWN.replace('["cdn"]', '[["cdn"]]'), "kinds = [['cdn']]"),
        (OWN + 'kinds = ["dns"]\n', "kind dns"),
        (OWN.split("[[phase]]")[0], "phases: none"),
        (OWN.split("[[phase]]")[0] + "phase = 3\n", "phases: 3"),
        (OWN.replace("[[phase]]", 'resolved = "2025-12-31T00:00:00Z"\n[[phase]]'), "moments out of order"),
        (OWN + "reach_bp = 10001\n", "reach_bp = 10001"),
        (OWN + "share = nan\n", "not TOML"),
        (
            OWN.replace('"timeout"', '"flap"').replace("= 600", "= 100000") + "period_s = 2\n",
            "a flap of 50000 periods",
        ),
        (OWN.replace("0.28", "nan"), "share = nan"),
        ("id = [", "not TOML"),
    ],
)
def test_a_wrong_value_is_refused(wrong, told):
    assert any(told in fault.found for fault in faults_of(wrong))


def test_a_phase_after_the_all_clear_is_refused():
    text = OWN.replace("[[phase]]", 'resolved = "2026-01-01T00:10:00Z"\n[[phase]]')
    faults = faults_of(text.replace("offset_s = 0", "offset_s = 600"))
    assert [fault.place for fault in faults] == ["own.toml:9"]


def test_a_huge_file_is_refused_before_it_is_parsed():
    assert "bytes" in faults_of(b"#" * (FILE_BYTES_MAX + 1))[0].found


def test_bytes_that_are_not_text_are_refused_with_their_line():
    assert faults_of(OWN.encode() + b"\xff")[0].place == "own.toml:12"


def test_deep_nesting_is_refused():
    assert "not TOML" in faults_of("a = " + "[" * 50_000)[0].found


def test_kinds_of_a_phase_say_whom_it_hits():
    phases = incidents.load("2025-10-20-aws").phases
    assert all(phase.hits(Kind.CLOUD) and not phase.hits(Kind.DNS) for phase in phases)
