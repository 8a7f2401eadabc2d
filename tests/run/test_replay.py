"""Replay: the same digests, the first difference, and what another policy would have done."""

from dataclasses import replace
from pathlib import Path

import pytest

from polycdn.decide.step import step
from polycdn.errors import JournalError
from polycdn.journal.log import Journal
from polycdn.journal.record import Decided, Entry, Failed, Snapshot
from polycdn.journal.scan import read
from polycdn.model.event import Configured, Event, Forced, Observed, Stance
from polycdn.model.observation import Observation, Reason
from polycdn.model.policy import Policy
from polycdn.model.state import Decision, State
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Service, Vantage
from polycdn.run.loop import decision_or_why
from polycdn.run.replay import replay, turns_of, what_if

PROVIDERS = tuple(Provider(name, ProviderKind.CDN, Endpoint(f"{name}.example")) for name in ("a", "b"))
SERVICE = Service("www", "www.example.org", PROVIDERS, vantages=tuple(Vantage(f"v{n}") for n in range(3)))
POLICY = Policy()


def look(at_ms: int, vantage: str, provider: str, reason: Reason) -> Observation:
    return Observation(at_ms, provider, "anywhere", vantage, reason, 1, int(reason is not Reason.OK))


def events() -> list[tuple[int, Event]]:
    """A minute of calm, then provider a refuses for a minute, then the operator takes b out."""
    story: list[tuple[int, Event]] = [(1_000, Configured(1_000, SERVICE, POLICY))]
    for second in range(2, 120):
        at_ms = second * 1_000
        sick = Reason.REFUSED if second > 60 else Reason.OK
        looks = [
            look(at_ms, vantage.name, name, sick if name == "a" else Reason.OK)
            for vantage in SERVICE.vantages
            for name in ("a", "b")
        ]
        story.append((at_ms, Observed(at_ms, tuple(looks))))
    story.append((120_000, Forced(120_000, "b", Stance.DOWN, 999_000)))
    return story


def journal_of(folder: Path, first: int = 0, snapshot: State | None = None) -> Path:
    """The journal of the story, decided by `step`; from the event `first` on, after a snapshot."""
    journal, state = Journal.open(folder), State()
    if snapshot is not None:
        state = snapshot
        journal.append([Entry(0, "www", Snapshot(state))])
    for now_ms, event in events()[first:]:
        decision = step(state, event, now_ms)
        state = decision.state
        journal.append([Entry(now_ms, "www", event), Entry(now_ms, "www", decision)])
    journal.close()
    return folder


def test_replay_finds_every_decision_as_recorded(tmp_path: Path) -> None:
    shown = replay(journal_of(tmp_path))
    assert shown["is_equal"]
    assert shown["decisions"] == len(events())
    assert shown["first_difference"] is None


def test_replay_names_the_first_decision_that_differs(tmp_path: Path) -> None:
    def otherwise(state: State, event: Event, now_ms: int) -> Decision:
        decision = step(state, event, now_ms)
        is_late = isinstance(event, Observed) and now_ms >= 90_000
        return replace(decision, report=replace(decision.report, at_ms=1)) if is_late else decision

    first = replay(journal_of(tmp_path), otherwise)["first_difference"]
    assert (first["at_ms"], first["service"], first["event"]) == (90_000, "www", "Observed")
    record = next(record for record in read(tmp_path) if record.seq == first["seq"])
    assert record.entry.at_ms == 90_000
    assert first["recorded"] != first["replayed"]


def test_decision_that_failed_then_and_fails_now_is_no_difference(tmp_path: Path) -> None:
    def failing(state: State, event: Event, now_ms: int) -> Decision:
        if isinstance(event, Forced):
            raise ValueError("cannot")
        return step(state, event, now_ms)

    journal, state = Journal.open(tmp_path), State()
    for now_ms, event in events():
        found = decision_or_why(failing, state, event, now_ms)
        state = state if isinstance(found, str) else found.state
        body = Failed(found) if isinstance(found, str) else found
        journal.append([Entry(now_ms, "www", event), Entry(now_ms, "www", body)])
    journal.close()
    assert replay(tmp_path, failing)["is_equal"]
    difference = replay(tmp_path)["first_difference"]
    assert difference["event"] == "Forced"
    assert difference["recorded"] == "failed: ValueError: cannot"


def test_journal_without_its_beginning_is_replayed_from_its_snapshot(tmp_path: Path) -> None:
    state = State()
    for now_ms, event in events()[:50]:
        state = step(state, event, now_ms).state
    shown = replay(journal_of(tmp_path, 50, state))
    assert shown["is_equal"]
    assert shown["decisions"] == len(events()) - 50


def test_event_that_a_crash_overtook_is_left_out(tmp_path: Path) -> None:
    journal_of(tmp_path)
    journal = Journal.open(tmp_path)
    journal.append([Entry(121_000, "www", Observed(121_000, ()))])
    journal.close()
    shown = replay(tmp_path)
    assert shown["is_equal"]
    assert shown["decisions"] == len(events())
    assert len(list(turns_of(read(tmp_path)))) == len(events())


def test_what_if_shows_what_another_policy_had_done(tmp_path: Path) -> None:
    shown = what_if(journal_of(tmp_path), {"www": replace(POLICY, false_alarm_days=3_650, ttl_calm_s=600)})
    assert shown["recorded_plan_changes"] >= 1
    assert shown["differences"]
    same = what_if(tmp_path, {})
    assert same["recorded"] == same["what_if"]
    assert same["differences"] == []
    assert {plan["service"] for plan in same["recorded"]} == {"www"}


def test_journal_with_nothing_decided_says_so(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.append([Entry(1, "www", Decided(1, "ab"))])
    journal.close()
    with pytest.raises(JournalError, match="nothing to replay"):
        replay(tmp_path)
    with pytest.raises(JournalError, match="nothing to replay"):
        what_if(tmp_path, {})


def test_broken_journal_is_not_replayed_beyond_the_break(tmp_path: Path) -> None:
    (segment,) = journal_of(tmp_path).glob("journal-*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"kind":"Forced"', b'"kind":"forced"'))
    with pytest.raises(JournalError, match=f"{segment.name}:"):
        replay(tmp_path)
