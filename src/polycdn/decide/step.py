"""The only way to decide: one state and one event in, the next state, perhaps a plan, and the report out.

    evidence ─assess─▶ verdicts ─survey─▶ scenes ─aim, rescue─▶ shares ─advance─▶ plan ─check─▶ published

A round in which nothing that steering looks at has changed takes a short way: same plan, new evidence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from polycdn.decide import ramp, steer
from polycdn.decide.assess import Assessment, assess, assess_quiet
from polycdn.decide.attribute import DOUBT_BP
from polycdn.decide.check import check
from polycdn.decide.force import frozen_note, unexpired, with_forced, with_released
from polycdn.decide.lane import Scene, survey
from polycdn.decide.layout import layout_of
from polycdn.decide.quiet import is_calm
from polycdn.decide.remark import remarks
from polycdn.decide.words import percent, span, utc
from polycdn.model.event import (
    Configured,
    Event,
    Forced,
    Frozen,
    Measured,
    Observed,
    Quiet,
    Released,
    Resumed,
)
from polycdn.model.observation import Observation, Reason
from polycdn.model.plan import Note, Plan, RegionPlan, Severity
from polycdn.model.policy import Rule
from polycdn.model.state import Decision, Demand, Mismatch, Pace, Report, State
from polycdn.model.units import FULL_BP, NAMESERVER, ORIGIN
from polycdn.model.verdict import Status

DEMAND_FALL_BP: Final = 500
"""Demand counts as fallen only when it is 5 % lower: noise around a provider's capacity moves nobody."""

Notes = tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A plan that could be published, and what has to be remembered with it."""

    regions: tuple[RegionPlan, ...]
    notes: Notes
    paces: tuple[Pace, ...]
    wished_bp: tuple[int, ...]
    is_ramping: bool


def step(state: State, event: Event, now_ms: int) -> Decision:
    """The decision on one event at `now_ms`; an older time than the state's is taken as the state's.

    `plan` is None when nothing changes on any surface. An event that makes no sense leaves a note.
    """
    now_ms = max(now_ms, state.now_ms)
    if state.service is None and not isinstance(event, Configured | Resumed):
        note = Note(Severity.WARNING, "not_configured", f"{type(event).__name__} came before Configured")
        return _unchanged(replace(state, now_ms=now_ms), now_ms, (note,))
    return _HANDLERS[type(event)](state, event, now_ms)


def _observed(state: State, event: Observed, now_ms: int) -> Decision:
    assert state.policy is not None
    if state.policy.require_parity:
        state = replace(state, mismatches=_mismatches(state.mismatches, event.observations))
    return decide_on(state, assess(state, event.observations, now_ms), now_ms)


def _quiet(state: State, event: Quiet, now_ms: int) -> Decision:
    """Decides as the rounds themselves would have: one probe interval apart, the last one at `now_ms`.

    While anything is on its way, rounds are taken one by one; a calm is crossed in one step up to the next
    moment at which time alone changes something. Of several plans the last one is what surfaces get.
    """
    assert state.policy is not None
    interval_ms = max(1, state.policy.probe_interval_ms)
    left = max(1, min(event.rounds, (now_ms - state.now_ms) // interval_ms))
    notes: Notes = ()
    plan, rounds = None, 1
    while True:
        left -= rounds
        at_ms = now_ms - left * interval_ms
        decision = decide_on(state, assess_quiet(state, rounds, at_ms), at_ms)
        state, plan = decision.state, decision.plan or plan
        notes += decision.report.notes
        if not left:
            return Decision(state, plan, replace(decision.report, notes=notes))
        rounds = 1
        if _is_idle(state):
            ahead = -(-(state.due_ms - at_ms) // interval_ms) if state.due_ms else left
            rounds = max(1, min(left, ahead))


def _is_idle(state: State) -> bool:
    """Whether further good looks change no verdict."""
    assert state.service is not None
    return is_calm(
        layout_of(state), state.service, state.streams, state.standings, state.verdicts, state.now_ms
    )


def _configured(state: State, event: Configured, now_ms: int) -> Decision:
    """Takes the service and policy as they are from now on; evidence of those who remain stays."""
    if not event.service.providers or not event.service.regions:
        note = Note(
            Severity.ERROR, "no_provider", f"service {event.service.name} has no provider or no region"
        )
        return _unchanged(replace(state, now_ms=now_ms), now_ms, (note,))
    providers = [provider.name for provider in event.service.providers]
    regions = [region.name for region in event.service.regions]
    watching = [vantage.name for vantage in event.service.vantages]
    retired = [] if state.service is None else [v.name for v in state.service.vantages]
    retired = [name for name in retired if name not in watching]
    is_first = state.service is None
    state = replace(
        state,
        service=event.service,
        policy=event.policy,
        streams=tuple(
            stream
            for stream in state.streams
            if stream.provider in (*providers, ORIGIN, NAMESERVER)
            and stream.region in regions
            and stream.vantage not in retired
        ),
        standings=tuple(s for s in state.standings if s.provider in providers and s.region in regions),
        verdicts=tuple(v for v in state.verdicts if v.provider in providers and v.region in regions),
        mismatches=tuple(m for m in state.mismatches if m.provider in providers and m.region in regions),
        forced=tuple(f for f in state.forced if f.provider in providers and f.region in (None, *regions)),
        demand=tuple(demand for demand in state.demand if demand.region in regions),
    )
    text = f"service {event.service.name}: {'configured' if is_first else 'configured anew'}"
    note = Note(Severity.INFO, "configured", text)
    return decide_on(state, assess(state, (), now_ms), now_ms, (note,), is_news=True)


def _forced(state: State, event: Forced, now_ms: int) -> Decision:
    assert state.service is not None
    forced, notes = with_forced(state.forced, event, state.service, now_ms)
    return _reconsider(replace(state, forced=forced), now_ms, notes)


def _released(state: State, event: Released, now_ms: int) -> Decision:
    assert state.service is not None
    forced, notes = with_released(state.forced, event, state.service)
    return _reconsider(replace(state, forced=forced), now_ms, notes)


def _frozen(state: State, event: Frozen, now_ms: int) -> Decision:
    assert state.service is not None
    until_ms = event.until_ms if event.until_ms > now_ms else 0
    note = frozen_note(event, state.service, now_ms)
    is_thaw = state.frozen_until_ms > 0 and not until_ms
    state = replace(state, frozen_until_ms=until_ms)
    return decide_on(state, assess(state, (), now_ms), now_ms, (note,), is_news=is_thaw)


def _measured(state: State, event: Measured, now_ms: int) -> Decision:
    """Takes demand as counted: at once when it grows, when it falls only if by 5 % or more."""
    assert state.service is not None
    subject = f"service {state.service.name}: demand of region {event.region}"
    if event.region not in [region.name for region in state.service.regions]:
        note = Note(Severity.WARNING, "measured_refused", f"{subject}: no such region")
        return _reconsider(state, now_ms, (note,))
    if event.demand_rps < 0 or event.demand_mbps < 0:
        note = Note(Severity.WARNING, "measured_refused", f"{subject}: a negative demand was measured")
        return _reconsider(state, now_ms, (note,))
    old = next((demand for demand in state.demand if demand.region == event.region), None)
    new = Demand(
        event.region,
        _steadied(old.demand_rps if old else 0, event.demand_rps),
        _steadied(old.demand_mbps if old else 0, event.demand_mbps),
    )
    if new == old:
        return decide_on(state, assess(state, (), now_ms), now_ms)
    others = tuple(demand for demand in state.demand if demand.region != event.region)
    return _reconsider(replace(state, demand=(*others, new)), now_ms, ())


def _resumed(state: State, event: Resumed, now_ms: int) -> Decision:
    """Counts on from the newest generation found anywhere, and says the plan once more under a new one."""
    state = replace(state, generation=max(state.generation, event.generation))
    text = f"resumed; the newest generation found is {event.generation}"
    note = Note(Severity.INFO, "resumed", text)
    if state.service is None:
        return _unchanged(replace(state, now_ms=now_ms), now_ms, (note,))
    return decide_on(state, assess(state, (), now_ms), now_ms, (note,), is_news=True)


def _reconsider(state: State, now_ms: int, notes: Notes) -> Decision:
    """Decides anew after the operator or a counter has changed what steering looks at."""
    return decide_on(state, assess(state, (), now_ms), now_ms, notes, is_changed=True)


_HANDLERS: Final[dict[type, Callable[[State, Any, int], Decision]]] = {
    Configured: _configured,
    Observed: _observed,
    Quiet: _quiet,
    Forced: _forced,
    Released: _released,
    Frozen: _frozen,
    Measured: _measured,
    Resumed: _resumed,
}


def decide_on(
    state: State,
    found: Assessment,
    now_ms: int,
    notes: Notes = (),
    *,
    is_changed: bool = False,
    is_news: bool = False,
) -> Decision:
    """What follows from new verdicts; the short way where nothing else has changed.

    `is_news`: a plan is made even if it says what the last one said. So is one when a freeze runs out: the
    service may have been configured anew meanwhile.
    """
    if not (is_changed or is_news or _has_changed(state, found, now_ms)):
        return _same_plan(state, found, now_ms, notes)
    is_news = is_news or 0 < state.frozen_until_ms <= now_ms
    assert state.service is not None and state.policy is not None
    forced, expired = unexpired(state.forced, state.service, now_ms)
    state = replace(
        state,
        streams=found.streams,
        standings=found.standings,
        verdicts=found.verdicts,
        forced=forced,
        frozen_until_ms=state.frozen_until_ms if now_ms < state.frozen_until_ms else 0,
        evidence_due_ms=found.next_due_ms,
        now_ms=now_ms,
    )
    scenes = survey(state, now_ms)
    draft = _draft(state, scenes, now_ms)
    state, plan, more = _publish(state, draft, now_ms, is_news)
    state, good_notes = _with_good_plan(state, now_ms)
    due_ms = _due_ms(state, draft.is_ramping, now_ms)
    if due_ms != state.due_ms:
        state = replace(state, due_ms=due_ms)
    return Decision(state, plan, _report(state, (*found.notes, *notes, *expired, *more, *good_notes)))


def _has_changed(state: State, found: Assessment, now_ms: int) -> bool:
    """Whether anything that steering looks at differs from the round before."""
    if state.plan is None or (state.due_ms and now_ms >= state.due_ms):
        return True
    if len(found.verdicts) != len(state.verdicts) or len(found.standings) != len(state.standings):
        return True
    for new, old in zip(found.standings, state.standings, strict=True):
        if new is not old and (
            new.probation_bp != old.probation_bp
            or new.status is not old.status
            or new.probation_since_ms != old.probation_since_ms
        ):
            return True
    assert state.policy is not None
    is_latency = state.policy.rule is Rule.LATENCY
    for seen, before in zip(found.verdicts, state.verdicts, strict=True):
        if seen is not before and (
            seen.status is not before.status
            or seen.since_ms != before.since_ms
            or (seen.alarm_bp >= DOUBT_BP) != (before.alarm_bp >= DOUBT_BP)
            or (is_latency and seen.latency_ms != before.latency_ms)
        ):
            return True
    return False


def _same_plan(state: State, found: Assessment, now_ms: int, notes: Notes) -> Decision:
    state = replace(
        state,
        streams=found.streams,
        standings=found.standings,
        verdicts=found.verdicts,
        evidence_due_ms=found.next_due_ms,
        now_ms=now_ms,
    )
    return Decision(state, None, _report(state, found.notes + notes))


def _unchanged(state: State, now_ms: int, notes: Notes) -> Decision:
    return Decision(state, None, Report(now_ms, state.verdicts, notes))


def _draft(state: State, scenes: tuple[Scene, ...], now_ms: int) -> _Draft:
    """The plan that the policy asks for now, before anyone has looked at whether it may be published."""
    assert state.service is not None and state.policy is not None
    policy = state.policy
    ranks = [steer.rank(scene, policy.rule) for scene in scenes]
    aimed = steer.aim(scenes, state.service, policy, ranks, state.good_plan)
    rescued = steer.rescue(scenes, state.service, policy, ranks, aimed, state.good_plan)
    taken = ramp.advance(scenes, state, rescued, aimed, now_ms)
    regions, paces = [], []
    old_paces = {pace.region: pace for pace in state.paces}
    for scene, ranking, row, is_ramping in zip(scenes, ranks, taken.shares, taken.is_ramping, strict=True):
        is_calm = not is_ramping and not ramp.is_doubtful(scene.region, state)
        pace = ramp.next_pace(old_paces.get(scene.region) or Pace(scene.region), is_calm, now_ms)
        order = steer.order(scene, ranking, row)
        shares = _named(scene, row, order)
        paces.append(pace)
        regions.append(RegionPlan(scene.region, shares, order, ramp.ttl_s(pace, policy, now_ms)))
    notes = remarks(scenes, state.service, policy, taken.shares, taken.is_ramping)
    return _Draft(tuple(regions), notes, tuple(paces), taken.wished_bp, any(taken.is_ramping))


def _named(scene: Scene, row: Sequence[int], order: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    by_name = {lane.provider.name: bp for lane, bp in zip(scene.lanes, row, strict=True)}
    return tuple((name, by_name[name]) for name in order if by_name[name] > 0)


def _publish(state: State, draft: _Draft, now_ms: int, is_news: bool) -> tuple[State, Plan | None, Notes]:
    """The state with the new plan in force; no plan when nothing changes, all is frozen, or check objects."""
    assert state.service is not None
    old = state.plan
    if old is not None and old.regions == draft.regions and not is_news:
        return _paced(state, draft), None, ()
    parent = old.generation if old else 0
    plan = Plan(state.service.name, state.generation + 1, parent, now_ms, draft.regions, draft.notes)
    if old is not None and state.frozen_until_ms:
        return _paced(state, draft), None, _would_be(state, old, plan)
    objections = check(plan, state)
    if any(note.severity is Severity.ERROR for note in objections):
        text = f"service {plan.service}: this plan is not published, the last one stays"
        return _paced(state, draft), None, (*draft.notes, *objections, Note(Severity.ERROR, "blocked", text))
    if objections:
        plan = replace(plan, notes=draft.notes + objections)
    is_moved = old is None or _moves_traffic(old, plan)
    state = replace(
        state,
        plan=plan,
        generation=plan.generation,
        paces=tuple(
            ramp.with_move(pace, wished_bp, now_ms)
            for pace, wished_bp in zip(draft.paces, draft.wished_bp, strict=True)
        ),
        moved_ms=now_ms if is_moved else state.moved_ms,
        healthy_since_ms=0 if is_moved else state.healthy_since_ms,
    )
    return state, plan, plan.notes


def _paced(state: State, draft: _Draft) -> State:
    return state if state.paces == draft.paces else replace(state, paces=draft.paces)


def _moves_traffic(old: Plan, new: Plan) -> bool:
    return [dict(region.shares) for region in old.regions] != [dict(region.shares) for region in new.regions]


def _would_be(state: State, old: Plan, new: Plan) -> Notes:
    """What a freeze keeps from happening, region by region; nothing where only answers' lifetimes differ."""
    before = {region.region: region for region in old.regions}
    notes = []
    for region in new.regions:
        now = before.get(region.region)
        if now is None or dict(now.shares) != dict(region.shares):
            there = ", ".join(f"{name} {percent(share_bp)}" for name, share_bp in region.shares)
            text = (
                f"service {new.service}, region {region.region}: frozen until {utc(state.frozen_until_ms)}; "
                f"otherwise traffic would go to {there}"
            )
            notes.append(Note(Severity.WARNING, "frozen_change", text))
    return tuple(notes)


def _with_good_plan(state: State, now_ms: int) -> tuple[State, Notes]:
    """The state with its plan remembered as good, once all who carry share have been UP for the soak time."""
    assert state.service is not None and state.policy is not None
    plan = state.plan
    if plan is None:
        return state, ()
    healthy = [(v.provider, v.region) for v in state.verdicts if v.status is Status.UP]
    if not all((name, region.region) in healthy for region in plan.regions for name, _ in region.shares):
        return (replace(state, healthy_since_ms=0) if state.healthy_since_ms else state), ()
    since_ms = state.healthy_since_ms or max(1, now_ms)
    is_good = now_ms - since_ms >= state.policy.soak_ms
    if not is_good or state.good_plan is plan:
        return (
            state if since_ms == state.healthy_since_ms else replace(state, healthy_since_ms=since_ms)
        ), ()
    text = f"service {plan.service}: generation {plan.generation} has proved good"
    note = Note(Severity.INFO, "good", f"{text}: its traffic was healthy for {span(now_ms - since_ms)}")
    return replace(state, healthy_since_ms=since_ms, good_plan=plan), (note,)


def _due_ms(state: State, is_ramping: bool, now_ms: int) -> int:
    """The soonest moment after now at which time alone changes steering; 0 = never."""
    assert state.policy is not None
    moments = [word.until_ms for word in state.forced]
    moments += [pace.calm_since_ms + state.policy.soak_ms for pace in state.paces if pace.calm_since_ms]
    moments += [v.since_ms + state.policy.dwell_ms for v in state.verdicts if v.status is Status.DEGRADED]
    moments += [state.healthy_since_ms + state.policy.soak_ms] if state.healthy_since_ms else []
    if state.frozen_until_ms:
        moments.append(state.frozen_until_ms)
    elif is_ramping:
        moments.append(ramp.wish_due_ms(state, now_ms))
    return min((moment for moment in moments if moment > now_ms), default=0)


def _report(state: State, notes: Notes) -> Report:
    due = [due_ms for due_ms in (state.due_ms, state.evidence_due_ms) if due_ms]
    return Report(
        state.now_ms,
        state.verdicts,
        notes,
        is_calm=not state.frozen_until_ms and all(pace.calm_since_ms for pace in state.paces),
        next_due_ms=min(due, default=0),
        good_generation=state.good_plan.generation if state.good_plan else 0,
    )


def _steadied(old: int, measured: int) -> int:
    is_fall = (old - measured) * FULL_BP >= old * DEMAND_FALL_BP
    return measured if measured > old or is_fall else old


def _mismatches(known: tuple[Mismatch, ...], observations: tuple[Observation, ...]) -> tuple[Mismatch, ...]:
    """Who answers otherwise than its peers: from a look that found so until one of the same kind is good."""
    found = {(m.provider, m.region, m.vantage, m.path): m for m in known}
    for seen in observations:
        key = (seen.provider, seen.region, seen.vantage, seen.path)
        if seen.reason is Reason.PARITY and seen.failures:
            found[key] = Mismatch(*key, seen_ms=seen.at_ms)
        elif seen.reason is Reason.OK and key in found and found[key].seen_ms <= seen.at_ms:
            del found[key]
    return tuple(found[key] for key in sorted(found))
