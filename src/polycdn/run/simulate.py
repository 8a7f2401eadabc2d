"""Outages at full scale in the false world, under a virtual clock: hours in seconds, users in cohorts."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from typing import Any, Final

from polycdn import incidents
from polycdn.errors import ConfigError, Fault, UnavailableError
from polycdn.incidents import Incident, Kind
from polycdn.lab.spec import Rates
from polycdn.model.policy import Policy
from polycdn.model.topology import Service
from polycdn.run.clock import Stopwatch
from polycdn.run.loop import Step
from polycdn.run.simulate_requests import LAB_RATES, Load, failed_bp
from polycdn.run.simulate_world import World
from polycdn.run.simulation import USERS, HitService, LikeRehearsal, Options, Plot, Simulation
from polycdn.world.population import Population
from polycdn.world.provider import POLICY, PROBE_INTERVAL_MS, cdn_service, cloud_service
from polycdn.world.users import CLIENTS

STEERED: Final = (Kind.CDN, Kind.CLOUD)
LAB: Final = Population.lab()
REHEARSAL_SPEED: Final = 90
REHEARSAL_LEAD_WALL_MS: Final = 14_000
"""As in run/rehearse_setup.py (LEAD_WALL_MS), which a test compares with this."""


def simulate(plot: Plot, options: Options, step: Step | None = None) -> Simulation:
    """One outage from calm to its end, in this process. Raises BrokenPropertyError."""
    watch = Stopwatch()
    services = plot.services or default_services(plot.incident, options)
    world = World(plot.incident, services, options, step or the_step())
    _finish(world.run())
    return world.result(plot.name, watch.elapsed_ms())


def _finish(run: Coroutine[Any, Any, None]) -> None:
    """Runs to the end, also when called from inside a running event loop."""
    if not _is_inside_event_loop():
        asyncio.run(run)
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run).result()


def _is_inside_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def simulate_many(
    plots: Sequence[Plot],
    options: Options,
    on_progress: Callable[[str], None] | None = None,
    workers: int | None = None,
) -> tuple[Simulation, ...]:
    """The same for many, in the order of `plots`; on all cores, the longest first."""
    tell = on_progress or (lambda _: None)
    workers = min(len(plots), workers or os.cpu_count() or 1)
    if workers <= 1:
        return tuple(_told(simulate(plot, options), tell, index, plots) for index, plot in enumerate(plots))
    order = sorted(range(len(plots)), key=lambda index: -weight(plots[index].incident))
    done: dict[int, Simulation] = {}
    # spawn: a forked child would share this process's threads' locks (Python 3.12 warns of it).
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(simulate, plots[index], options): index for index in order}
        for job in as_completed(jobs):
            done[jobs[job]] = _told(job.result(), tell, len(done), plots)
    return tuple(done[index] for index in range(len(plots)))


def _told(done: Simulation, tell: Callable[[str], None], count: int, plots: Sequence[Plot]) -> Simulation:
    tell(f"{count + 1}/{len(plots)} {done.incident} {done.service} in {done.wall_ms} ms".replace("  ", " "))
    return done


def weight(incident: Incident) -> int:
    """How much work an outage is: its faulty seconds in steered layers, more where there are regions."""
    kinds = sum(kind in STEERED for kind in incident.kinds)
    regions = 6 if is_regional(incident) else 1
    return kinds * regions * incident.duration_ms


def is_regional(incident: Incident) -> bool:
    """Whether a steered layer fails in some places of users and not in others."""
    return any(phase.regions for phase in incident.phases) and any(kind in STEERED for kind in incident.kinds)


def default_services(incident: Incident, options: Options) -> tuple[HitService, ...]:
    """The default service's layers that the outage hits; its CDN layer, calm, if it hits none."""
    regional = is_regional(incident)
    policy = replace(POLICY, probe_interval_ms=options.probe_interval_ms)
    cdn = (cdn_service(regional), policy, Kind.CDN, "cdn-a")
    cloud = (cloud_service(regional), policy, Kind.CLOUD, "cloud-a")
    return tuple(layer for layer in (cdn, cloud) if layer[2] in incident.kinds) or (cdn,)


def the_step() -> Step:
    """The one way to decide."""
    from polycdn.decide.step import step

    return step


def simulate_like_rehearsal(
    incident: Incident,
    until: str = "mitigated",
    seed: int = 1,
    probe_interval_ms: int = PROBE_INTERVAL_MS,
    policy: Policy = POLICY,
    speed: int = REHEARSAL_SPEED,
    lead_ms: int | None = None,
    step: Step | None = None,
    kind: Kind = Kind.CDN,
    rates: Rates = LAB_RATES,
) -> LikeRehearsal:
    """The lab's world simulated: one service, three vantages, and clients that obey every TTL.

    It is carried by cdn-a, cdn-b and an own edge, or by cloud-a and cloud-b for an outage of a cloud; the
    first fails, unless DNS operators do. `incident` is as a service meets it in a company of that one kind.
    `lead_ms` is how long before the outage the vantages began to look, on the timeline (None = as a
    rehearsal does at this speed). So each look and each request has the same number and fate in both.
    """
    watch = Stopwatch()
    own_policy = replace(policy, probe_interval_ms=probe_interval_ms)
    lead_s = (REHEARSAL_LEAD_WALL_MS * speed if lead_ms is None else lead_ms) // 1000
    options = Options(1, seed, until, probe_interval_ms, LAB, tail_s=0, lead_s=lead_s, is_recorded=True)
    if kind is Kind.CLOUD:
        layer: HitService = (cloud_service(), own_policy, Kind.CLOUD, "cloud-a")
    else:
        layer = (cdn_service(), own_policy, Kind.CDN, None if kind is Kind.DNS else "cdn-a")
    if kind is Kind.CA:  # whose certificate is expired fails like a CDN that fails
        incident = replace(incident, kinds=(Kind.CDN,))
    world = World(incident, (layer,), options, step or the_step())
    _finish(world.run())
    done = world.result("", watch.elapsed_ms())
    load = Load(seed, speed, world.end_s * 1000, rates)
    injection = world.layers[0].injection
    expected = tuple((loss.client, loss.failed_bp) for loss in done.clients)
    return LikeRehearsal(
        clients=expected
        if injection is None
        else tuple((name, failed_bp(name, load, injection, world.stretches)) for name in CLIENTS),
        expected=expected,
        detect_ms=done.detect_ms,
        evacuated_ms=done.evacuated_ms,
        plan_changes=done.plan_changes,
        false_moves=done.false_moves,
        threshold_changes=done.threshold_changes,
    )


def plots_of(
    names: Sequence[str],
    services: Sequence[tuple[Service, Policy]] = (),
    hit: str | None = None,
    is_in_scope: bool = False,
) -> tuple[Plot, ...]:
    """What to simulate: each incident (id or path) with the default service, or with each of one's own."""
    told = [incidents.load(name) for name in names]
    if is_in_scope:
        told = [incidents.in_scope(incident) for incident in told]
    if not services:
        return tuple(Plot(incident) for incident in told)
    return tuple(
        Plot(incident, own_layers(incident, service, policy, hit), service.name)
        for incident in told
        for service, policy in services
    )


def own_layers(
    incident: Incident, service: Service, policy: Policy, hit: str | None = None
) -> tuple[HitService, ...]:
    """The one layer of an operator's service, with the provider that the outage hits.

    That is `hit`, else the one whose company is the incident's, else the first of one of its kinds.
    Raises ConfigError for a `hit` that the service does not have.
    """
    names = [provider.name for provider in service.providers]
    if hit is not None and hit not in names:
        raise ConfigError(
            (Fault("--hit", repr(hit), ", ".join(names), f"name a provider of {service.name}"),)
        )
    steered = [kind for kind in incident.kinds if kind in STEERED]
    same = [p.name for p in service.providers if _is_company(p.company or p.name, incident.provider)]
    first = [p.name for kind in steered for p in service.providers if p.kind.value == kind.value]
    chosen = hit or next(iter([*same, *first]), None)
    if not steered or chosen is None:
        return ((service, policy, Kind.CDN, None),)
    its_kind = {p.name: p.kind.value for p in service.providers}[chosen]
    kind = next((kind for kind in steered if kind.value == its_kind), steered[0])
    return ((service, policy, kind, chosen),)


def _is_company(one: str, other: str) -> bool:
    """Whether two spellings name one company: "Google Cloud" and "google-cloud"."""
    plain = [text.casefold().replace("-", "").replace(" ", "") for text in (one, other)]
    return bool(plain[0]) and (plain[0] in plain[1] or plain[1] in plain[0])


def to_json(done: Simulation) -> dict[str, Any]:
    """One outage as `polycdn simulate --json` prints it (docs/simulation.md)."""
    shown: dict[str, Any] = {"incident": done.incident}
    if done.service:
        shown["service"] = done.service
    return shown | {
        "users": done.users,
        "clients": [
            {
                "client": loss.client,
                "user_minutes_lost": loss.user_minutes_lost,
                "availability_bp": loss.availability_bp,
                "slow_user_minutes": loss.slow_user_minutes,
            }
            for loss in done.clients
        ],
        "plan_changes": done.plan_changes,
        "false_moves": done.false_moves,
        "threshold_changes": done.threshold_changes,
        "detect_ms": done.detect_ms,
        "evacuated_ms": done.evacuated_ms,
        "until": done.until,
        "outage_s": done.outage_s,
        "seed": done.seed,
        "assumptions": done.assumptions,
        "wall_ms": done.wall_ms,
    }


def simulate_all_json(
    users: int = USERS,
    seed: int = 1,
    until: str = "resolved",
    on_progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """All shipped outages with the default service: `{"incidents": [...], "total_wall_ms": n}`."""
    return simulate_json(plots_of(incidents.all_ids()), Options(users, seed, until), on_progress)


def simulate_json(
    plots: Sequence[Plot], options: Options, on_progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Many outages as JSON. Raises UnavailableError when the worker processes cannot be started."""
    watch = Stopwatch()
    try:
        done = simulate_many(plots, options, on_progress)
    except OSError as error:
        raise UnavailableError(f"cannot start the simulation's processes: {error}") from None
    return {"incidents": [to_json(one) for one in done], "total_wall_ms": watch.elapsed_ms()}
