"""Why traffic is where it is, in sentences for whoever is woken at night. Times are UTC."""

from polycdn.decide import ramp, steer
from polycdn.decide.attribute import DOUBT_BP
from polycdn.decide.force import SAID, word_on
from polycdn.decide.lane import Footing, Lane, Scene, is_on_probation, survey
from polycdn.decide.words import percent, utc
from polycdn.model.event import Forced
from polycdn.model.plan import Note, Plan, Severity
from polycdn.model.policy import Policy, Rule
from polycdn.model.state import Report, Standing, State
from polycdn.model.units import FULL_BP
from polycdn.model.verdict import Blame, Status, Verdict

FAULTS = {
    Blame.PROVIDER: "the fault is the provider's",
    Blame.ORIGIN: "the fault is the origin's, so that moving traffic would not help",
    Blame.VANTAGE: "the fault is the vantage's own",
    Blame.DNS: "the fault is in DNS",
    Blame.UNKNOWN: "whose fault it is could not be told",
}
RULES = {
    Rule.PRIORITY: "the order of preference",
    Rule.WEIGHTED: "the weights",
    Rule.LATENCY: "latency",
    Rule.COST: "cost",
}


def explain(state: State, report: Report) -> tuple[str, ...]:
    """Sentences: who carries what and since when, why the others do not, what is forced, what comes next."""
    if state.service is None or state.policy is None or state.plan is None:
        return ("Nothing is configured yet, so nothing is steered.",)
    sentences = [_on_plan(state, state.plan)]
    if state.frozen_until_ms:
        sentences.append(f"Frozen until {utc(state.frozen_until_ms)}: no plan changes, whatever is lost.")
    sentences += [_on_word(word) for word in state.forced]
    for scene in survey(state, state.now_ms):
        sentences += _on_region(state, state.policy, scene)
    sentences += [f"{note.severity.capitalize()}: {note.text}." for note in _loud(state.plan, report)]
    sentences += _on_next(state, state.policy)
    return tuple(sentences)


def _on_plan(state: State, plan: Plan) -> str:
    text = f"Service {plan.service}: generation {plan.generation} is in force since {utc(plan.made_ms)}"
    if state.good_plan is None:
        return f"{text}; no plan has proved good yet."
    if state.good_plan.generation == plan.generation:
        return f"{text} and has proved good."
    return f"{text}; the last one that proved good is generation {state.good_plan.generation}."


def _on_word(word: Forced) -> str:
    where = "everywhere" if word.region is None else f"in {word.region}"
    who = f" by {word.by}" if word.by else ""
    why = f" ({word.why})" if word.why else ""
    return f"{word.provider} is {SAID[word.stance]} {where}{who} until {utc(word.until_ms)}{why}."


def _on_region(state: State, policy: Policy, scene: Scene) -> list[str]:
    if scene.before is None:
        return [f"Region {scene.region}: not in the plan yet."]
    carried = ", ".join(f"{name} carries {percent(share_bp)}" for name, share_bp in scene.before.shares)
    since = f"since {utc(state.moved_ms)}"
    sentences = [f"Region {scene.region}: {carried}, {since}; answers may be kept {scene.before.ttl_s} s."]
    verdicts = {v.provider: v for v in state.verdicts if v.region == scene.region}
    standings = {s.provider: s for s in state.standings if s.region == scene.region}
    for lane in scene.lanes:
        name = lane.provider.name
        sentences += _on_lane(state, policy, scene, lane, standings.get(name))
        if name in verdicts:
            sentences += _on_evidence(verdicts[name])
    return sentences


def _on_lane(state: State, policy: Policy, scene: Scene, lane: Lane, standing: Standing | None) -> list[str]:
    """Why a provider carries nothing, or less than one might expect."""
    name = lane.provider.name
    if lane.footing is Footing.BARRED or lane.footing is Footing.DRAINING:
        word = word_on(state.forced, name, scene.region)
        until = f" until {utc(word.until_ms)}" if word else ""
        what = "gets nothing" if lane.footing is Footing.BARRED else "is being emptied"
        return [f"{name} {what} in {scene.region}: that is the operator's word{until}."]
    if lane.footing is Footing.DOWN:
        return [_on_down(name, scene, standing)]
    if lane.footing is Footing.RETURNING and standing is not None:
        since = f"on probation since {utc(standing.probation_since_ms)}"
        return [f"{name} is back in {scene.region}, {since}: it may carry {percent(lane.earned_bp)} so far."]
    if lane.footing is Footing.UNSEEN:
        return [f"{name} is UNKNOWN in {scene.region}: there is no fresh evidence, so it stays as it was."]
    if lane.footing is Footing.MISMATCHED:
        return [f"{name} is not offered traffic in {scene.region}: its answers differ from its peers'."]
    if lane.footing is Footing.DOUBTFUL:
        return [f"{name} is DEGRADED in {scene.region}: others are preferred where they have room."]
    if lane.share_bp == 0:
        return [f"{name} stands by in {scene.region}: by {RULES[policy.rule]} others come first."]
    return []


def _on_down(name: str, scene: Scene, standing: Standing | None) -> str:
    text = f"{name} is DOWN in {scene.region}"
    if standing is None:
        return f"{text}."
    since_ms = standing.down_since_ms or standing.since_ms
    text += f" since {utc(since_ms)}"
    if standing.hold_until_ms > since_ms:
        text += f"; it is held out until {utc(standing.hold_until_ms)} however good it looks"
        if standing.relapses:
            text += (
                f" (doubled {standing.relapses} {'time' if standing.relapses == 1 else 'times'} for relapses)"
            )
    return f"{text}."


def _on_evidence(verdict: Verdict) -> list[str]:
    """What was seen of a provider that is not plainly UP."""
    subject = f"{verdict.provider} in {verdict.region}"
    sentences = []
    if verdict.status in (Status.DOWN, Status.DEGRADED) or verdict.alarm_bp >= DOUBT_BP:
        parts = []
        if verdict.status is not Status.DOWN:
            parts.append(f"{percent(verdict.alarm_bp)} of the way to an alarm")
        parts += [FAULTS[verdict.blame]] if verdict.blame in FAULTS else []
        parts += [verdict.why.rstrip(".")] if verdict.why else []
        sentences.append(f"Evidence on {subject}: {'; '.join(parts)}.")
    if verdict.minority:
        names = ", ".join(verdict.minority)
        sentences.append(f"Only {names} says that {subject} is DOWN; a minority moves nobody.")
    if verdict.left_out and verdict.status is not Status.UP:
        names = ", ".join(verdict.left_out)
        sentences.append(f"Left out as the most alarming on {subject}: {names}.")
    return sentences


def _loud(plan: Plan, report: Report) -> list[Note]:
    """Warnings and errors of the plan and of the last decision, each once."""
    notes = (*plan.notes, *report.notes)
    return [note for note in dict.fromkeys(notes) if note.severity is not Severity.INFO]


def _on_next(state: State, policy: Policy) -> list[str]:
    """What time alone will change, the soonest first."""
    moments = [(word.until_ms, f"{word.provider} is no longer {SAID[word.stance]}") for word in state.forced]
    if state.frozen_until_ms:
        moments.append((state.frozen_until_ms, "the freeze ends and the plan may change again"))
    else:
        moments += _wishes(state, policy)
    for pace in state.paces:
        settled_ms = pace.calm_since_ms + policy.soak_ms
        if pace.calm_since_ms and settled_ms > state.now_ms:
            what = f"answers of {pace.region} may be kept {policy.ttl_calm_s} s again, if it stays calm"
            moments.append((settled_ms, what))
    moments += _returns(state, policy)
    if not moments:
        return ["Next: nothing changes unless the evidence does."]
    return [f"Next, at {utc(at_ms)}: {what}." for at_ms, what in sorted(moments)]


def _returns(state: State, policy: Policy) -> list[tuple[int, str]]:
    """Who comes back, and when the next step of it may be."""
    moments = []
    for standing in state.standings:
        subject = f"{standing.provider} in {standing.region}"
        if standing.status is Status.DOWN and standing.hold_until_ms > state.now_ms:
            what = f"the hold-down of {subject} ends; it comes back once the evidence of its health suffices"
            moments.append((standing.hold_until_ms, what))
        elif is_on_probation(standing):
            earned = percent(min(FULL_BP, 2 * standing.probation_bp))
            what = f"{subject} may carry {earned}, if it stays clean"
            moments.append((standing.clean_since_ms + policy.probation_step_ms, what))
    return [moment for moment in moments if moment[0] > state.now_ms]


def _wishes(state: State, policy: Policy) -> list[tuple[int, str]]:
    """Where wishes still want to go, and when they may move on."""
    assert state.service is not None
    scenes = survey(state, state.now_ms)
    ranks = [steer.rank(scene, policy.rule) for scene in scenes]
    aimed = steer.aim(scenes, state.service, policy, ranks, state.good_plan)
    moments = []
    for scene, goal in zip(scenes, aimed, strict=True):
        now = [lane.share_bp for lane in scene.lanes]
        if scene.before is None or not ramp.is_worth_a_move(scene, now, goal):
            continue
        there = ", ".join(
            f"{lane.provider.name} {percent(share_bp)}"
            for lane, share_bp in zip(scene.lanes, goal, strict=True)
            if share_bp
        )
        what = f"{scene.region} moves on towards {there}, at most {percent(policy.move_max_bp)} a minute"
        moments.append((ramp.wish_due_ms(state, state.now_ms), what))
    return moments
