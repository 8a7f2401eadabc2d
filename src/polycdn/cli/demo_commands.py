"""`polycdn rehearse` and `polycdn demo`."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from polycdn.cli.live_view import line, view
from polycdn.cli.report_page import page
from polycdn.errors import ConfigError, Fault
from polycdn.run.rehearsal import Rehearsal, Snapshot

MAIN_INCIDENT = "2025-11-18-cloudflare"
LINE_EVERY_MS = 300_000
"""Timeline between two lines of progress where there is no terminal."""

BUSY_LOAD_PERCENT = 25
"""What the demo asks for when the machine was too busy for the usual load."""

Seed = Annotated[int, typer.Option(help="Same seed, same faults.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command()(demo)
    app.command()(rehearse)


def demo(
    speed: Annotated[int, typer.Option(help="Times the speed of the real outage.")] = 90,
    seed: Seed = 1,
    report: Annotated[Path, typer.Option(help="Where the HTML report goes.")] = Path("polycdn-demo.html"),
) -> int:
    """Rehearse the outage of 2025-11-18 with real processes, then simulate all incidents at full scale.

    A run that this machine was too busy for is made once more with less load; exit code 3: so was that one.
    """
    from polycdn.run.simulate import simulate_all_json

    progress = Console(stderr=True)
    progress.print(f"[bold]1/2[/] rehearsing {MAIN_INCIDENT} at {speed} times the speed")
    rehearsal = _run(MAIN_INCIDENT, speed, "mitigated", seed, progress)
    if not rehearsal.is_valid:
        progress.print(f"once more, with {BUSY_LOAD_PERCENT} % of the load")
        rehearsal = _run(MAIN_INCIDENT, speed, "mitigated", seed, progress, BUSY_LOAD_PERCENT)
    console = Console()
    console.print(figures_table(rehearsal))
    console.print(verdict_table(rehearsal))
    progress.print("[bold]2/2[/] simulating all incidents with a million users each")
    simulated = simulate_all_json(
        seed=seed, on_progress=lambda text: progress.print(f"  {text}", style="dim")
    )
    console.print(simulated_table(simulated["incidents"]))
    write_report(report, page(rehearsal, simulated["incidents"]))
    console.print(f"report: {report.resolve()}", soft_wrap=True)
    return 0 if rehearsal.is_valid else 3


def rehearse(
    incident: Annotated[
        str, typer.Argument(help="An incident's id (see `polycdn incidents`) or a TOML file.")
    ],
    speed: Annotated[int, typer.Option(help="Times the speed of the real outage.")] = 90,
    until: Annotated[str, typer.Option(help="mitigated or resolved.")] = "mitigated",
    seed: Seed = 1,
    load: Annotated[int, typer.Option(help="Percent of the usual load; less for a slow machine.")] = 100,
    report: Annotated[Path | None, typer.Option(help="Also write an HTML report here.")] = None,
    as_json: AsJson = False,
) -> int:
    """Run an outage's timeline against real processes on loopback, and count what users saw.

    Exit code 0: ran; 3: the run is invalid (probes came too late on this machine).
    """
    progress = Console(stderr=True)
    rehearsal = _run(incident, speed, until, seed, progress, load)
    if report is not None:
        write_report(report, page(rehearsal))
    if as_json:
        print(json.dumps(rehearsal_json(rehearsal)))
    else:
        console = Console()
        console.print(figures_table(rehearsal))
        console.print(verdict_table(rehearsal))
    return 0 if rehearsal.is_valid else 3


def _run(
    incident: str, speed: int, until: str, seed: int, progress: Console, load_percent: int = 100
) -> Rehearsal:
    from polycdn.run.rehearse import run_rehearsal

    _check_words(speed, until, load_percent)
    with _frames(incident, progress) as show:
        rehearsal = run_rehearsal(
            incident, speed=speed, until=until, seed=seed, on_snapshot=show, load_percent=load_percent
        )
    if not rehearsal.is_valid:
        progress.print(f"[bold red]the run is invalid:[/] {rehearsal.invalid_why}")
    return rehearsal


def _check_words(speed: int, until: str, load_percent: int) -> None:
    faults = []
    if not 1 <= speed <= 1_000:
        faults.append(Fault("--speed", str(speed), "1 to 1000", "take 90, the speed of the demo"))
    if until not in ("mitigated", "resolved"):
        faults.append(Fault("--until", repr(until), "mitigated, resolved", "take one of the two"))
    if not 1 <= load_percent <= 100:
        faults.append(Fault("--load", str(load_percent), "1 to 100", "take 25 on a slow machine"))
    if faults:
        raise ConfigError(tuple(faults))


@contextmanager
def _frames(title: str, progress: Console) -> Any:
    if progress.is_terminal:
        with Live(console=progress, refresh_per_second=4, transient=True) as live:
            yield lambda snapshot: live.update(view(title, snapshot))
    else:
        yield _line_printer()


def _line_printer() -> Callable[[Snapshot], None]:
    next_ms = [-(10**12)]

    def show(snapshot: Snapshot) -> None:
        if snapshot.at_ms >= next_ms[0]:
            print(line(snapshot), file=sys.stderr, flush=True)
            next_ms[0] = snapshot.at_ms + LINE_EVERY_MS

    return show


def write_report(path: Path, text: str) -> None:
    """Writes the page; raises ConfigError when the place cannot be written."""
    try:
        path.write_text(text)
    except OSError as error:
        raise ConfigError((Fault("--report", str(path), "a file that can be written", str(error)),)) from None


def rehearsal_json(rehearsal: Rehearsal) -> dict[str, Any]:
    """The object that `polycdn rehearse --json` prints (docs/rehearse.md)."""
    return {
        "incident": rehearsal.incident,
        "speed": rehearsal.speed,
        "seed": rehearsal.seed,
        "clients": [{name: getattr(row, name) for name in row.__slots__} for row in rehearsal.clients],
        "detect_ms": rehearsal.detect_ms,
        "evacuated_ms": rehearsal.evacuated_ms,
        "plan_changes": rehearsal.plan_changes,
        "false_moves": rehearsal.false_moves,
        "generation": rehearsal.generation,
        "totals": [{name: getattr(row, name) for name in row.__slots__} for row in rehearsal.totals],
        "expected_single_bp": rehearsal.expected_single_bp,
        "simulated": [{"client": client, "failed_bp": bp} for client, bp in rehearsal.simulated_bp],
        "executed_twice": rehearsal.executed_twice,
        "probe_lag_ms_p99": rehearsal.probe_lag_ms_p99,
        "load_late_ms_p99": rehearsal.load_late_ms_p99,
        "is_valid": rehearsal.is_valid,
        "invalid_why": rehearsal.invalid_why,
        "kind": rehearsal.kind,
        "shows": rehearsal.shows,
    }


def figures_table(rehearsal: Rehearsal) -> Table:
    """What each client saw, a row a kind."""
    heads = ("client", "kind", "attempts", "failed", "share", "worst", "longest outage")
    table = _table(f"{rehearsal.title}: what users saw", heads, left=2)
    for row in rehearsal.clients:
        table.add_row(
            row.client,
            row.kind,
            f"{row.attempts:,}",
            f"{row.failed:,}",
            f"{row.failed_bp / 100:.2f} %",
            f"{row.worst_ms:,} ms",
            f"{row.longest_outage_s:,} s",
        )
    return table


def verdict_table(rehearsal: Rehearsal) -> Table:
    """Each client's total beside what the timeline and the simulation say, and what was decided."""
    table = _table("in all", ("client", "attempts", "failed", "share", "simulated"))
    simulated = dict(rehearsal.simulated_bp)
    for total in rehearsal.totals:
        expected = f"{simulated[total.client] / 100:.2f} %" if total.client in simulated else "-"
        table.add_row(
            total.client,
            f"{total.attempts:,}",
            f"{total.failed:,}",
            f"{total.failed_bp / 100:.2f} %",
            expected,
        )
    detect = "never" if rehearsal.detect_ms is None else f"{rehearsal.detect_ms / 1000:,.0f} s"
    left = "never" if rehearsal.evacuated_ms is None else f"{rehearsal.evacuated_ms / 1000:,.0f} s"
    table.caption = (
        f"Shown is {rehearsal.shows}. "
        f"From the timeline alone, single loses {rehearsal.expected_single_bp / 100:.2f} %; "
        f"detected after {detect}, left after {left}; "
        f"plan changes {rehearsal.plan_changes}, false moves {rehearsal.false_moves}"
    )
    return table


def _table(title: str, heads: Sequence[str], left: int = 1) -> Table:
    """A table of figures that fits 80 columns; the first `left` columns are text."""
    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index < left else "right", no_wrap=True)
    return table


def simulated_table(incidents: list[dict[str, Any]]) -> Table:
    """User-minutes lost by client, a row an incident."""
    users = incidents[0]["users"]
    clients = [entry["client"] for entry in incidents[0]["clients"]]
    title = f"all incidents, simulated with {users:,} users: user-minutes lost"
    table = _table(title, ("incident", *clients, "moves", "false"))
    for one in incidents:
        lost = {entry["client"]: entry["user_minutes_lost"] for entry in one["clients"]}
        table.add_row(
            one["incident"],
            *(f"{lost[client]:,}" for client in clients),
            str(one["plan_changes"]),
            str(one["false_moves"]),
        )
    return table
