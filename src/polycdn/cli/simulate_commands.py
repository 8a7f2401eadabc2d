"""`polycdn simulate` and `polycdn incidents`."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from polycdn import incidents
from polycdn.errors import ConfigError, Fault
from polycdn.incidents import Incident, Until

ALL = "all"
PIPE_COLUMNS = 140
USERS_MAX = 10_000_000_000
UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000}
INTERVAL_MS_MIN, INTERVAL_MS_MAX = 1_000, 3_600_000

AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command()(simulate)
    app.command(name="incidents")(list_incidents)


def simulate(
    incident: Annotated[
        str | None, typer.Argument(help="An incident's id (see `polycdn incidents`), a TOML file, or all.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Simulate the services of this config.")
    ] = None,
    service: Annotated[str | None, typer.Option(help="Only this service of the config.")] = None,
    hit: Annotated[str | None, typer.Option(help="The provider of the config that fails.")] = None,
    users: Annotated[int, typer.Option(help="Users of the service.")] = 1_000_000,
    until: Annotated[str, typer.Option(help="mitigated or resolved.")] = "resolved",
    seed: Annotated[int, typer.Option(help="Same seed, same looks.")] = 1,
    probe_interval: Annotated[
        str, typer.Option(help="Between two looks at a provider; a config has its own.")
    ] = "10s",
    in_scope: Annotated[
        bool, typer.Option(help="As a customer inside the outage's scope, not as the average one.")
    ] = False,
    years: Annotated[
        int | None, typer.Option(help="Not one outage but so many drawn years (10000): what redundancy buys.")
    ] = None,
    shared: Annotated[
        list[str] | None, typer.Option(help="With --years: providers that hang on one node (see the audit).")
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --years: what polycdn audit --config kept; who shares what."),
    ] = None,
    gib: Annotated[float, typer.Option(help="With --years: volume a year in GiB, for the cost.")] = 0.0,
    fixed: Annotated[
        list[str] | None, typer.Option(help="With --years: NAME=AMOUNT, a provider's fixed price a year.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Run outages in a false world at full scale: user-minutes lost by four kinds of client.

    Exit code 0: ran; 1: a decision broke a property (the message has the seed).

    Examples: polycdn simulate all; polycdn simulate 2025-11-18-cloudflare --until mitigated --json
    """
    from polycdn.run.simulate import plots_of, simulate_json
    from polycdn.run.simulation import Options

    interval_ms = _checked(users, until, probe_interval)
    services = _services(config, service, hit)
    if years is not None:
        from polycdn.cli.simulate_years import simulate_years_command

        options = Options(users, seed, until, interval_ms)
        prices = (gib, fixed or [])
        return simulate_years_command(services, years, shared or [], evidence, prices, options, as_json)
    _refuse({"--shared": shared, "--evidence": evidence, "--gib": gib, "--fixed": fixed})
    if incident is None:
        allowed = "an incident's id, a file, all, or --years"
        raise ConfigError((Fault("INCIDENT", "nothing", allowed, "see polycdn incidents"),))
    names = incidents.all_ids() if incident == ALL else (incident,)
    plots = plots_of(names, services, hit, in_scope)
    options = Options(users, seed, until, interval_ms)
    shown = simulate_json(plots, options, lambda text: print(text, file=sys.stderr, flush=True))
    if as_json:
        is_one = incident != ALL and len(plots) == 1
        print(json.dumps(shown["incidents"][0] if is_one else shown))
    else:
        console().print(losses_table(shown["incidents"]))
    return 0


def _refuse(of_years: dict[str, Any]) -> None:
    """Raises ConfigError for options of --years that are given without it."""
    faults = [
        Fault(option, str(value), "only with --years", "add --years, or leave it out")
        for option, value in of_years.items()
        if value
    ]
    if faults:
        raise ConfigError(tuple(faults))


def _checked(users: int, until: str, probe_interval: str) -> int:
    """The probe interval in milliseconds. Raises ConfigError for all wrong options at once."""
    faults = []
    if not 1 <= users <= USERS_MAX:
        faults.append(Fault("--users", str(users), f"1 to {USERS_MAX}", "take 1000000"))
    if until not in set(Until):
        faults.append(Fault("--until", repr(until), ", ".join(Until), "take one of the two"))
    match = re.fullmatch(r"([0-9]{1,9})(ms|s|min|m)", probe_interval.strip())
    interval_ms = int(match[1]) * UNIT_MS[match[2]] if match else 0
    if not INTERVAL_MS_MIN <= interval_ms <= INTERVAL_MS_MAX or interval_ms % 1_000:
        allowed = "whole seconds from 1s to 60m, such as 10s"
        faults.append(Fault("--probe-interval", repr(probe_interval), allowed, "take 10s"))
    if faults:
        raise ConfigError(tuple(faults))
    return interval_ms


def _services(config: Path | None, service: str | None, hit: str | None) -> tuple[Any, ...]:
    """The config's services with their policies, or none. Raises ConfigError."""
    if config is None:
        needless = [("--service", service), ("--hit", hit)]
        faults = [
            Fault(option, repr(value), "only with --config", "name a config, or leave it out")
            for option, value in needless
            if value is not None
        ]
        if faults:
            raise ConfigError(tuple(faults))
        return ()
    from polycdn.config.load import load

    services = load(str(config)).services
    chosen = tuple(pair for pair in services if service in (None, pair[0].name))
    if not chosen:
        names = ", ".join(pair[0].name for pair in services)
        raise ConfigError((Fault("--service", repr(service), names, "name a service of the config"),))
    return chosen


def console() -> Console:
    """Where tables go; a pipe has no width of its own, and gets one in which they fit."""
    return Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def losses_table(shown: list[dict[str, Any]]) -> Table:
    """User-minutes lost by client, a row an incident and service."""
    table = Table(
        title=f"user-minutes lost, of {shown[0]['users']:,} users (availability)", title_justify="left"
    )
    clients = [entry["client"] for entry in shown[0]["clients"]]
    for name in ("incident", *clients, "plan changes", "false moves", "detected"):
        is_name = name == "incident"
        table.add_column(name, justify="left" if is_name else "right", no_wrap=is_name)
    for one in shown:
        losses = {
            entry["client"]: f"{short(entry['user_minutes_lost'])} ({entry['availability_bp'] / 100:.2f} %)"
            for entry in one["clients"]
        }
        detected = "-" if one["detect_ms"] is None else f"{one['detect_ms'] // 1000:,} s"
        table.add_row(
            " ".join(filter(None, (one["incident"], one.get("service")))),
            *(losses[client] for client in clients),
            str(one["plan_changes"]),
            str(one["false_moves"]),
            detected,
        )
    assumed = ", ".join(f"{name} {value}" for name, value in shown[0]["assumptions"].items())
    table.caption = f"assumed of users: {assumed}\nsources: docs/simulation.md"
    table.caption_justify = "left"
    return table


def short(count: int) -> str:
    """A count in at most six characters: 950, 9,500, 730 k, 109.1 M."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1_000:.0f} k" if count < 1_000_000 else f"{count / 1_000_000:,.1f} M"


def list_incidents(
    incident: Annotated[str | None, typer.Argument(help="Show one in full: an id or a TOML file.")] = None,
    as_json: AsJson = False,
) -> int:
    """List the outages that can be rehearsed and simulated, or show one with its sources."""
    told = [incidents.load(name) for name in ([incident] if incident else incidents.all_ids())]
    if as_json:
        shown = [incident_json(one, is_whole=incident is not None) for one in told]
        print(json.dumps(shown[0] if incident else {"incidents": shown}, ensure_ascii=False))
    elif incident:
        _print_whole(console(), told[0])
    else:
        console().print(incidents_table(told))
    return 0


def incident_json(one: Incident, *, is_whole: bool) -> dict[str, Any]:
    """One outage as `polycdn incidents --json` prints it; texts and phases only when it is shown in full."""
    shown: dict[str, Any] = {
        "id": one.id,
        "provider": one.provider,
        "title": one.title,
        "kinds": [kind.value for kind in one.kinds],
        "started_ms": one.started_ms,
        "detected_ms": one.detected_ms,
        "mitigated_ms": one.mitigated_ms,
        "resolved_ms": one.resolved_ms,
        "failed_bp_mitigated": incidents.expected_failed_bp(one, Until.MITIGATED),
        "failed_bp_resolved": incidents.expected_failed_bp(one, Until.RESOLVED),
    }
    if not is_whole:
        return shown
    phases = [
        {
            "offset_ms": phase.offset_ms,
            "duration_ms": phase.duration_ms,
            "fault": phase.fault.value,
            "share_ppm": phase.share_ppm,
            "reach_bp": phase.reach_bp,
            "reach_estimated": phase.reach_estimated,
            "regions": list(phase.regions),
            "scope": list(phase.scope),
            "period_ms": phase.period_ms,
            "estimated": phase.estimated,
            "note": phase.note,
            "reach_note": phase.reach_note,
        }
        for phase in one.phases
    ]
    return shown | {
        "effect": one.effect.value,
        "summary": one.summary,
        "root_cause": one.root_cause,
        "slow_recovery": one.slow_recovery,
        "lessons": list(one.lessons),
        "sources": [{"title": source.title, "url": source.url} for source in one.sources],
        "confidence": one.confidence,
        "phases": phases,
    }


def incidents_table(told: list[Incident]) -> Table:
    """A row an outage; the last columns say what a client that is pinned to the provider loses."""
    table = Table(title="outages", title_justify="left")
    for name in ("id", "kinds", "what happened", "mitigated after", "failed until then"):
        is_number = name in ("mitigated after", "failed until then")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=name == "id")
    for one in told:
        table.add_row(
            one.id,
            " ".join(kind.value for kind in one.kinds),
            one.title,
            f"{incidents.until_ms(one, Until.MITIGATED) // 60_000:,} min",
            f"{incidents.expected_failed_bp(one, Until.MITIGATED) / 100:.1f} %",
        )
    return table


def _print_whole(console: Console, one: Incident) -> None:
    console.print(f"[bold]{one.id}[/]  {one.title}\n\n{one.summary}\n\nCause: {one.root_cause}\n")
    table = Table(title="phases", title_justify="left")
    for name in ("from", "to", "fault", "share", "reach", "note"):
        table.add_column(name, justify="left" if name in ("fault", "note") else "right")
    for phase in one.phases:
        table.add_row(
            f"{phase.offset_ms // 1000:,} s",
            f"{phase.end_ms // 1000:,} s",
            phase.fault.value,
            f"{phase.share_ppm / 10_000:.1f} %" + (" (estimate)" if phase.estimated else ""),
            f"{phase.reach_bp / 100:g} %" + (" (estimate)" if phase.reach_estimated else ""),
            phase.note,
        )
    console.print(table)
    for lesson in one.lessons:
        console.print(f"- {lesson}", markup=False)
    console.print(f"\nConfidence: {one.confidence}", markup=False)
    for source in one.sources:
        console.print(f"Source: {source.title}, {source.url}", markup=False, soft_wrap=True)
