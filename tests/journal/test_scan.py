"""Reading and verifying: every change to a journal is found, with its file and line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycdn.errors import JournalError
from polycdn.journal.codec import LINE_BYTES_MAX, LineError, decode, encode
from polycdn.journal.log import Journal
from polycdn.journal.memory import MemoryJournal, digests
from polycdn.journal.record import Decided, Entry, Failed, Published, Snapshot, Tip, decision_digest
from polycdn.journal.scan import ChainError, read, segments, verify
from polycdn.model.event import (
    Configured,
    Forced,
    Frozen,
    Measured,
    Observed,
    Quiet,
    Released,
    Resumed,
    Stance,
)
from polycdn.model.observation import Observation, Reason
from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.policy import Policy
from polycdn.model.state import Decision, Report, State
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Service

SERVICE = Service("www", "www.example.org", (Provider("a", ProviderKind.CDN, Endpoint("a.example")),))
PLAN = Plan("www", 3, 2, 5, (RegionPlan("anywhere", (("a", 10_000),), ("a",), 60),))
BODIES = [
    Configured(1, SERVICE, Policy()),
    Observed(2, (Observation(2, "a", "anywhere", "v1", Reason.HTTP_5XX, 1, 1),)),
    Quiet(3, 40),
    Forced(4, "a", Stance.DOWN, 9, by="ann", why="übel"),
    Released(5, "a"),
    Frozen(6, 7),
    Measured(7, "anywhere", 10, 0),
    Resumed(8, 3),
    Decided(3, "ab", PLAN),
    Failed("why"),
    Published("memory", 3),
    Snapshot(State(SERVICE, Policy(), plan=PLAN, generation=3)),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_every_kind_of_record_comes_back_as_it_was(body: object) -> None:
    line, tip = encode(Entry(7, "www", body), Tip())  # type: ignore[arg-type]
    record = decode(line)
    assert record.entry == Entry(7, "www", body)  # type: ignore[arg-type]
    assert (record.seq, record.hash) == (tip.seq, tip.hash)
    assert json.loads(line)["kind"] == type(body).__name__


def test_decision_is_kept_as_its_digest_and_plan() -> None:
    decision = Decision(State(generation=3), PLAN, Report(5))
    line, _ = encode(Entry(5, "www", decision), Tip())
    assert decode(line).entry.body == Decided(3, decision_digest(decision), PLAN)


def journal_of(folder: Path, count: int = 6) -> Path:
    journal = Journal.open(folder)
    journal.append([Entry(at_ms, "www", Published("memory", at_ms)) for at_ms in range(count)])
    journal.close()
    return segments(folder)[0]


@given(line=st.integers(0, 5), column=st.integers(0, 200), byte=st.integers(0, 255))
def test_any_changed_byte_is_found_with_its_file_and_line(
    tmp_path_factory: pytest.TempPathFactory, line: int, column: int, byte: int
) -> None:
    segment = journal_of(tmp_path_factory.mktemp("changed"))
    lines = segment.read_bytes().splitlines(keepends=True)
    column %= len(lines[line]) - 1
    changed = bytes([byte]) if byte != lines[line][column] else bytes([byte ^ 1])
    lines[line] = lines[line][:column] + changed + lines[line][column + 1 :]
    segment.write_bytes(b"".join(lines))
    assert f"{segment}:{line + 1}: " in verify(segment.parent).broken


@pytest.mark.parametrize("gone", [1, 2, 3, 4])
def test_line_taken_out_is_found(tmp_path: Path, gone: int) -> None:
    segment = journal_of(tmp_path)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
    found = verify(tmp_path)
    assert f"{segment}:{gone + 1}: record {gone + 1} should be here, found {gone + 2}" in found.broken
    assert "backup" in found.broken
    assert found.records == gone


def test_two_lines_exchanged_are_found(tmp_path: Path) -> None:
    segment = journal_of(tmp_path)
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[2], lines[3] = lines[3], lines[2]
    segment.write_bytes(b"".join(lines))
    assert f"{segment}:3:" in verify(tmp_path).broken


def test_forged_record_with_a_right_hash_breaks_the_next_link(tmp_path: Path) -> None:
    segment = journal_of(tmp_path)
    lines = segment.read_bytes().splitlines(keepends=True)
    before = decode(lines[1])
    lines[2], _ = encode(Entry(2, "www", Published("forged", 9)), Tip(before.seq, before.hash))
    segment.write_bytes(b"".join(lines))
    assert f"{segment}:4: its `prev` is not the hash of record 3" in verify(tmp_path).broken


def test_open_reports_a_chain_that_is_broken_in_its_middle(tmp_path: Path) -> None:
    segment = journal_of(tmp_path)
    segment.write_bytes(segment.read_bytes().replace(b'"generation":2', b'"generation":7'))
    with pytest.raises(ChainError) as caught:
        Journal.open(tmp_path)
    assert caught.value.place == f"{segment}:3"


def test_what_comes_before_the_break_is_still_read(tmp_path: Path) -> None:
    segment = journal_of(tmp_path)
    segment.write_bytes(segment.read_bytes().replace(b'"generation":2', b'"generation":7'))
    records = read(tmp_path)
    assert [next(records).seq, next(records).seq] == [1, 2]
    with pytest.raises(ChainError):
        next(records)


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b"null", b"\x00" * 50, b"[" * 100_000, b'{"at_ms":1}', b'"\\ud800"', b"\xff\xfe"],
)
def test_no_line_is_too_odd_to_be_refused(line: bytes) -> None:
    with pytest.raises(LineError):
        decode(line)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_not_fatal(line: bytes) -> None:
    with pytest.raises(LineError):
        decode(line)


def test_line_over_the_limit_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    segment = journal_of(tmp_path, 1)
    with segment.open("ab") as file:
        file.write(b"x" * (LINE_BYTES_MAX + 5) + b"\n")
    assert f"{segment}:2" in verify(tmp_path).broken
    assert "limit" in verify(tmp_path).broken


def test_folder_without_a_journal_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal here"):
        verify(tmp_path)


def test_single_file_is_a_journal_of_its_own(tmp_path: Path) -> None:
    assert verify(journal_of(tmp_path)).records == 6


def test_memory_journal_gives_the_digests_that_the_file_has(tmp_path: Path) -> None:
    decision = Decision(State(generation=3), PLAN, Report(5))
    memory, journal = MemoryJournal(), Journal.open(tmp_path)
    for log in (memory, journal):
        log.append([Entry(1, "www", Quiet(1, 1)), Entry(1, "www", decision)])
    assert digests(memory.entries) == digests([record.entry for record in read(tmp_path)])
