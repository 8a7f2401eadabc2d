"""Watches a rehearsal by its journal alone: steps the same events again, and fails over as others do."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from polycdn.decide.step import step
from polycdn.journal.codec import decode
from polycdn.journal.record import Decided, Entry, Record, decision_digest
from polycdn.journal.scan import COMPRESSED, opened, segments
from polycdn.model.event import Event, Observed
from polycdn.model.observation import Observation, Reason, Source
from polycdn.model.plan import Plan
from polycdn.model.state import State
from polycdn.model.units import ORIGIN
from polycdn.model.verdict import Status, Verdict
from polycdn.run.rehearse_setup import SERVICE
from polycdn.run.simulate_layer import Threshold


class JournalTail:
    """Whole records of a journal folder that were not read before, while it grows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[str, int] = {}

    def fresh(self) -> Iterator[Record]:
        """Everything since the last call, oldest first."""
        for file in segments(self._folder):
            name = file.name.removesuffix(COMPRESSED)
            try:
                with opened(file) as lines:
                    lines.seek(self._offsets.get(name, 0))
                    content = lines.read()
            except FileNotFoundError:  # it is being compressed; the rest comes with the next call
                return
            whole = content[: content.rfind(b"\n") + 1]
            self._offsets[name] = self._offsets.get(name, 0) + len(whole)
            for line in whole.splitlines(keepends=True):
                yield decode(line)


@dataclass
class Watch:
    """What is known so far; times are those of the journal, on the timeline.

    `differences` counts decisions that came out otherwise when they were stepped again: none may. `looks`
    are those of the vantages, as (when, at whom, whether it ended in a timeout).
    """

    providers: tuple[str, ...]
    state: State = field(default_factory=State)
    plans: list[Plan] = field(default_factory=list)
    statuses: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    alarms_bp: dict[str, int] = field(default_factory=dict)
    sentences: list[tuple[int, str]] = field(default_factory=list)
    threshold: Threshold = field(init=False)
    differences: int = 0
    looks: list[tuple[int, str, bool]] = field(default_factory=list)
    _pending: tuple[Event, int] | None = None

    def __post_init__(self) -> None:
        self.threshold = Threshold(self.providers)

    def take(self, entry: Entry) -> None:
        """One more record of the service."""
        if entry.service != SERVICE:
            return
        if isinstance(entry.body, Event):
            self._pending = (entry.body, entry.at_ms)
            if isinstance(entry.body, Observed):
                self._fail_over(entry.body.observations)
                self.looks += [
                    (seen.at_ms, seen.provider, seen.reason is Reason.TIMEOUT)
                    for seen in entry.body.observations
                    if seen.source is Source.PROBE
                ]
        elif isinstance(entry.body, Decided) and self._pending is not None:
            self._decide(*self._pending, entry.body.digest)
            self._pending = None

    def _fail_over(self, observations: tuple[Observation, ...]) -> None:
        for seen in sorted(observations, key=lambda each: (each.at_ms, each.vantage)):
            if seen.source is Source.PROBE and seen.provider != ORIGIN:
                self.threshold.see(seen.provider, seen.failures == 0)

    def _decide(self, event: Event, now_ms: int, digest: str) -> None:
        decision = step(self.state, event, now_ms)
        self.differences += decision_digest(decision) != digest
        self.state = decision.state
        self._note_verdicts(now_ms)
        if decision.plan is not None:
            self._note_plan(decision.plan)

    def _note_verdicts(self, now_ms: int) -> None:
        for verdict in self.state.verdicts:
            self.alarms_bp[verdict.provider] = verdict.alarm_bp
            past = self.statuses.setdefault(verdict.provider, [])
            if not past or past[-1][1] != verdict.status.value:
                past.append((now_ms, verdict.status.value))
                if verdict.status in (Status.DOWN, Status.UP) and len(past) > 1:
                    self.sentences.append((now_ms, _on_verdict(verdict)))

    def _note_plan(self, plan: Plan) -> None:
        if not self.plans or self.plans[-1].regions[0].shares != plan.regions[0].shares:
            self.sentences.append((plan.made_ms, _on_plan(plan)))
        self.plans.append(plan)


def _on_verdict(verdict: Verdict) -> str:
    claim = f"{verdict.provider} is {verdict.status.value.upper()}"
    return f"{claim}: {verdict.why}" if verdict.why else claim


def _on_plan(plan: Plan) -> str:
    region = plan.regions[0]
    shares = ", ".join(f"{name} {share_bp / 100:.1f} %" for name, share_bp in region.shares if share_bp)
    return f"plan {plan.generation}: {shares}; TTL {region.ttl_s} s"
