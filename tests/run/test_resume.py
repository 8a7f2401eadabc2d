"""A start from a journal: snapshots, what a crash left undecided, and bodies that cannot be read."""

import json
from dataclasses import replace
from pathlib import Path

from test_replay import SERVICE, events, journal_of

from polycdn.decide.step import step
from polycdn.journal.codec import line_hash
from polycdn.journal.log import Journal, JournalLimits
from polycdn.journal.record import Entry, Failed, SetAside, Snapshot
from polycdn.journal.scan import segments_in
from polycdn.model.event import Observed, Resumed
from polycdn.model.state import State
from polycdn.model.wire import canonical
from polycdn.run.resume import resume


def whole() -> State:
    """The state after the whole story."""
    state = State()
    for now_ms, event in events():
        state = step(state, event, now_ms).state
    return state


def test_state_is_that_of_the_last_decision(tmp_path: Path) -> None:
    assert resume(journal_of(tmp_path), step, 1).states == {"www": whole()}


def test_new_journal_has_no_states(tmp_path: Path) -> None:
    found = resume(tmp_path / "new", step, 1)
    assert (found.states, found.first_entries) == ({}, ())


def test_events_that_failed_or_that_a_crash_overtook_count_for_nothing(tmp_path: Path) -> None:
    journal = Journal.open(journal_of(tmp_path))
    journal.append([Entry(121_000, "www", Resumed(121_000, 900)), Entry(121_000, "www", Failed("why"))])
    journal.append([Entry(122_000, "www", Resumed(122_000, 901))])
    journal.close()
    assert resume(tmp_path, step, 1).states == {"www": whole()}


def test_snapshot_is_taken_for_what_came_before_it(tmp_path: Path) -> None:
    state = replace(whole(), generation=77)
    journal = Journal.open(journal_of(tmp_path))
    journal.append([Entry(121_000, "www", Snapshot(state))])
    journal.close()
    assert resume(tmp_path, step, 1).states == {"www": state}


def test_segment_that_a_crash_left_empty_sends_us_to_the_one_before(tmp_path: Path) -> None:
    journal_of(tmp_path)
    tip = Journal.open(tmp_path)
    (tmp_path / f"journal-{tip.tip.seq + 1:012d}.jsonl").touch()
    tip.close()
    found = resume(tmp_path, step, 1)
    assert found.states == {"www": whole()}
    found.journal.append([Entry(1, "www", Observed(1, ()))])
    assert found.journal.tip.seq == tip.tip.seq + 1


def test_only_the_newest_segment_is_needed(tmp_path: Path) -> None:
    journal = Journal.open(journal_of(tmp_path), JournalLimits(segment_bytes_max=1))
    journal.rotate([Entry(121_000, "www", Snapshot(whole()))])
    journal.close()
    segments_in(tmp_path)[0].write_text("lost\n")
    assert resume(tmp_path, step, 1).states == {"www": whole()}


def test_body_that_cannot_be_read_is_set_aside_with_the_journal(tmp_path: Path) -> None:
    """Written by a newer polycdn, say: the chain holds, but the words are not known."""
    folder = journal_of(tmp_path / "journal")
    (segment,) = segments_in(folder)
    last = json.loads(segment.read_bytes().splitlines()[-1])
    body = {"at_ms": 1, "observations": [], "mood": "good"}
    raw = {
        "at_ms": 1,
        "body": body,
        "kind": "Observed",
        "prev": last["hash"],
        "seq": last["seq"] + 1,
        "service": "api",
    }
    with segment.open("ab") as file:
        file.write(canonical(raw | {"hash": line_hash(raw)}) + b"\n")
        after = {"at_ms": 1, "body": {"digest": "", "generation": 1}, "kind": "Decided", "service": "api"}
        after |= {"prev": line_hash(raw), "seq": raw["seq"] + 1}
        file.write(canonical(after | {"hash": line_hash(after)}) + b"\n")
    found = resume(folder, step, 5)
    assert found.states == {"www": whole()}
    first, snapshot = (entry.body for entry in found.first_entries)
    assert isinstance(first, SetAside)
    assert "mood" in first.why
    assert isinstance(snapshot, Snapshot)
    assert (tmp_path / "journal.broken-5").is_dir()
    assert SERVICE.name in found.states
