"""The figures of a rehearsal, computed after it from request logs, fault logs and the journal."""

from collections.abc import Sequence
from dataclasses import dataclass

from polycdn.incidents import Incident, expected_failed_bp, is_faulty_at
from polycdn.lab.reader import (
    KindFigures,
    Line,
    evacuated_ms,
    executed_twice,
    failures_over_time,
    kind_figures,
    late_ms_p99,
    not_sent,
    read_lines,
)
from polycdn.lab.rig import Lab
from polycdn.model.plan import Plan
from polycdn.model.units import FULL_BP
from polycdn.model.verdict import Status
from polycdn.run.moves import Faulty, false_moves, plan_changes
from polycdn.run.rehearsal import ClientTotal, Rehearsal
from polycdn.run.rehearse_setup import (
    CLIENTS,
    PROBE_DEADLINE_MS,
    PROBE_INTERVAL_MS,
    Setting,
)
from polycdn.run.rehearse_watch import Watch
from polycdn.run.simulate import simulate_like_rehearsal

BUCKETS = 190
"""Bars in the plot of failures over time."""

LOAD_LATE_MS_MAX = 1_000
LOST_BP_MAX = 100
"""Of what was asked of whom no fault touched then; with more lost, it is the machine that was measured."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """How the run kept its time: by how much real time clients were ready too late (not above 0 = in time),
    and the 99th percentile of the probes' lag on the timeline."""

    late_ms: int
    probe_lag_ms: int


def totals_of(rows: Sequence[KindFigures]) -> tuple[ClientTotal, ...]:
    """One total per client, in the order of the lab's clients."""
    totals = []
    for client in CLIENTS:
        own = [row for row in rows if row.client == client]
        attempts, failed = sum(row.attempts for row in own), sum(row.failed for row in own)
        failed_bp = (failed * FULL_BP + attempts // 2) // attempts if attempts else 0
        totals.append(ClientTotal(client, attempts, failed, failed_bp))
    return tuple(totals)


def rehearsal_of(setting: Setting, lab: Lab, watch: Watch, keeping: Keeping) -> Rehearsal:
    """Everything that the rehearsal showed."""
    incident = setting.incident
    lines = read_lines(lab.request_logs())
    rows = kind_figures(lines)
    sick, kind = setting.cast.steered_sick, setting.cast.kind
    simulated = simulate_like_rehearsal(
        incident,
        setting.until,
        setting.seed,
        PROBE_INTERVAL_MS,
        speed=setting.speed,
        lead_ms=setting.lead_wall_ms * setting.speed,
        kind=kind,
        rates=setting.rates,
    )
    why = _invalid_why(setting, lab, lines, watch, keeping)
    span_ms = setting.end_ms - setting.start_ms
    return Rehearsal(
        incident=incident.id,
        title=incident.title,
        speed=setting.speed,
        seed=setting.seed,
        until_ms=span_ms,
        clients=rows,
        totals=totals_of(rows),
        expected_single_bp=expected_failed_bp(incident, setting.until),
        detect_ms=detect_ms(watch, setting),
        evacuated_ms=evacuated_ms(lines, ("dns",), (lab.places.address(sick),), first_fault_ms(setting))
        if sick
        else None,
        plan_changes=plan_changes(_plans_after_start(watch, setting)),
        false_moves=false_moves(
            _plans_after_start(watch, setting), setting.cast.providers, faulty_in(incident, sick)
        ),
        generation=watch.plans[-1].generation if watch.plans else 0,
        providers=setting.cast.providers,
        failures=_failures(lines, setting),
        shares=tuple((plan.made_ms - setting.start_ms, plan.regions[0].shares) for plan in watch.plans),
        verdicts=tuple((name, _statuses(watch, name, setting)) for name in setting.cast.providers),
        decisions=tuple((at_ms - setting.start_ms, text) for at_ms, text in watch.sentences),
        simulated_bp=simulated.clients,
        executed_twice=len(executed_twice(lab.origin_logs())),
        probe_lag_ms_p99=keeping.probe_lag_ms,
        load_late_ms_p99=late_ms_p99(lines),
        is_valid=not why,
        invalid_why=why,
        kind=kind.value,
    )


def first_fault_ms(setting: Setting) -> int:
    """The timeline moment of the first injected fault."""
    return setting.start_ms + min(phase.offset_ms for phase in setting.incident.phases)


def faulty_in(incident: Incident, sick: str) -> Faulty:
    """Whether a provider has an injected fault at a moment of the timeline; only the sick one ever has."""

    def is_faulty(provider: str, at_ms: int) -> bool:
        return provider == sick and is_faulty_at(incident, at_ms - incident.started_ms)

    return is_faulty


def detect_ms(watch: Watch, setting: Setting) -> int | None:
    """From the first fault to the first verdict DOWN on the sick provider after it; None = never."""
    begun_ms = first_fault_ms(setting)
    down = [
        at_ms
        for at_ms, status in watch.statuses.get(setting.cast.steered_sick, [])
        if at_ms >= begun_ms and status == Status.DOWN.value
    ]
    return down[0] - begun_ms if down else None


def _plans_after_start(watch: Watch, setting: Setting) -> list[Plan]:
    """The plan in force when the incident began, and those made until the rehearsal's end."""
    before = [plan for plan in watch.plans if plan.made_ms < setting.start_ms][-1:]
    return before + [plan for plan in watch.plans if setting.start_ms <= plan.made_ms <= setting.end_ms]


def _statuses(watch: Watch, name: str, setting: Setting) -> tuple[tuple[int, str], ...]:
    return tuple((at_ms - setting.start_ms, status) for at_ms, status in watch.statuses.get(name, []))


def _failures(
    lines: Sequence[Line], setting: Setting
) -> tuple[tuple[str, tuple[tuple[int, int, int], ...]], ...]:
    bucket_ms = max((setting.end_ms - setting.start_ms) // BUCKETS, 1)
    told = dict(failures_over_time(lines, bucket_ms))
    return tuple(
        (client, tuple((at_ms - setting.start_ms, tried, failed) for at_ms, tried, failed in told[client]))
        for client in CLIENTS
        if client in told
    )


def lost_looks(watch: Watch, setting: Setting) -> tuple[int, int]:
    """How many looks at whom no fault touched then ended in a timeout, and how many there were in all."""
    is_faulty = faulty_in(setting.incident, setting.cast.steered_sick)
    deadline_ms = PROBE_DEADLINE_MS * setting.speed
    calm = [
        is_timeout
        for at_ms, provider, is_timeout in watch.looks
        if not is_faulty(provider, at_ms) and not is_faulty(provider, at_ms - deadline_ms)
    ]
    return sum(calm), len(calm)


def lost_requests(lines: Sequence[Line], lab: Lab, setting: Setting) -> tuple[int, int]:
    """The same of the clients' requests at the lab's own CDNs and clouds, whatever became of them."""
    is_faulty = faulty_in(setting.incident, setting.cast.steered_sick)
    names = {lab.places.address(name): name for name in (*lab.spec.cdns, *lab.spec.clouds)}
    second_ms = 1_000 * setting.speed
    calm = [
        not line.is_ok
        for line in lines
        if line.was_sent
        and (name := names.get(line.target))
        and not any(
            is_faulty(name, at_ms)
            for at_ms in (line.at_ms - second_ms, line.at_ms, line.at_ms + line.total_ms * setting.speed)
        )
    ]
    return sum(calm), len(calm)


def _invalid_why(setting: Setting, lab: Lab, lines: Sequence[Line], watch: Watch, keeping: Keeping) -> str:
    if keeping.late_ms > 0:
        return (
            f"the clients were ready {keeping.late_ms} ms (real time) after the outage began: "
            "this machine is too slow, or does too much else"
        )
    probe_lag_ms = keeping.probe_lag_ms
    if probe_lag_ms > PROBE_INTERVAL_MS:
        return (
            f"probe lag p99 {probe_lag_ms} ms of the timeline, limit {PROBE_INTERVAL_MS} ms; take less speed"
        )
    told = ((*lost_looks(watch, setting), "looks"), (*lost_requests(lines, lab, setting), "requests"))
    for lost, tried, what in told:
        if lost * FULL_BP > LOST_BP_MAX * tried:
            return (
                f"{lost} of {tried} {what} were lost at whom no fault touched, limit "
                f"{LOST_BP_MAX / 100:.0f} %: this machine is too slow for it; take less load"
            )
    if late_ms_p99(lines) > LOAD_LATE_MS_MAX or not_sent(lines):
        return (
            f"the load came late (p99 {late_ms_p99(lines)} ms, limit {LOAD_LATE_MS_MAX} ms) "
            f"or not at all ({not_sent(lines)} requests): this machine is too slow for it; take less load"
        )
    if watch.differences:
        return f"{watch.differences} decisions differ when they are stepped again"
    return ""
