"""Thirty planted faults are all found, and of thirty services that are truly redundant none is accused."""

import asyncio
from pathlib import Path

import pytest
from internet_stage import internet
from lab_internet import BUILD, built

from polycdn.audit.collect import collect_evidence
from polycdn.audit.evidence_file import read_evidence, write_evidence
from polycdn.audit.finding import Severity
from polycdn.audit.findings import audit_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

ROWS = [
    [part.strip() for part in line.split("|")]
    for line in (Path(__file__).parent / "lab_internet.txt").read_text().splitlines()
    if not line.startswith("#")
]
FAULTS = {number: expected.split() for number, expected, _what in ROWS if number.startswith("f")}
DECOYS = [number for number, _expected, _what in ROWS if number.startswith("d")]


@pytest.fixture(scope="module")
def evidences(tmp_path_factory):
    async def run():
        plan, asked = built()
        async with internet(plan, tmp_path_factory.mktemp("lab")) as means:
            return {number: await collect_evidence(names, means) for number, names in asked.items()}

    return asyncio.run(run())


def found(evidence):
    return [each for each in audit_of(evidence).findings if each.severity is not Severity.UNKNOWN]


def test_the_table_names_what_is_built():
    assert set(BUILD) == {*FAULTS, *DECOYS}
    assert (len(FAULTS), len(DECOYS)) == (30, 30)
    assert sum(expected[1] == "3" for expected in FAULTS.values()) >= 3


@pytest.mark.parametrize("number", FAULTS)
def test_a_planted_fault_is_found(evidences, number):
    kind, depth, *names = FAULTS[number]
    findings = found(evidences[number])
    assert kind in {str(each.kind) for each in findings}
    if names:
        (node,) = names
        shared = {each.nodes[0]: each.what for each in findings if each.kind == kind}
        assert f", {int(depth) - 1} step" in shared[node.replace("_", " ")], "counted from the pair"


@pytest.mark.parametrize("number", DECOYS)
def test_a_decoy_is_not_accused(evidences, number):
    assert [(str(each.kind), each.title) for each in found(evidences[number])] == []


def test_a_file_leads_to_the_same_findings(evidences, tmp_path):
    for number, evidence in evidences.items():
        path = tmp_path / f"{number}.jsonl"
        write_evidence(evidence, path)
        assert audit_of(read_evidence(path)).findings == audit_of(evidence).findings
