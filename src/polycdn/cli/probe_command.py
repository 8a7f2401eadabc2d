"""`polycdn probe URL`: one look through every provider, phases side by side."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from polycdn.run.probe import ProbeReport

PHASES = ("resolve", "connect", "tls", "processing", "transfer")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("probe")(probe)


def probe(
    url: Annotated[str, typer.Argument(metavar="URL", help="What to fetch.")],
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", metavar="FILE", help="The config; default: the search path, or none."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Look at URL once through every provider that carries its hostname, and at the origin.

    Without a config that knows the hostname: once, by its public name. Exit code 0 if all looks are good,
    1 if one is not, 3 if this machine could not look. Example: polycdn probe https://www.example.com/health.txt
    """
    from polycdn.config.load import load_if_any
    from polycdn.run.clock import Wall
    from polycdn.run.probe import probe as look

    loaded = load_if_any(config)
    clock = Wall()
    report = asyncio.run(look(url, loaded.services if loaded else (), clock))
    if as_json:
        typer.echo(json.dumps(as_object(report, clock.now_ms())))
    else:
        print_table(report, clock.now_ms())
    if report.is_good:
        return 0
    return 3 if report.is_blind else 1


def as_object(report: "ProbeReport", now_ms: int) -> dict[str, Any]:
    """The report as documented in docs/config.md."""
    return {
        "url": report.url,
        "service": report.service or None,
        "ok": report.is_good,
        "same_body": report.has_same_body,
        "looks": [
            {
                "provider": look.provider,
                "ok": look.is_good,
                "reason": look.reason.value,
                "detail": look.detail,
                "address": look.address,
                "protocol": look.protocol,
                "status": look.status,
                "body_bytes": look.body_bytes,
                "sha256": look.sha256,
                "first_byte_ms": look.first_byte_ms,
                "phases_us": {
                    **{name: getattr(look.phases, f"{name}_us") for name in PHASES},
                    "total": look.phases.total_us,
                },
                "certificate": look.chain
                and {
                    "valid": look.chain.is_valid,
                    "days_left": look.chain.days_left(now_ms),
                    "subject": look.chain.subject,
                    "issuer": look.chain.issuer,
                    "why": look.chain.why,
                },
            }
            for look in report.looks
        ],
    }


def print_table(report: "ProbeReport", now_ms: int) -> None:
    """One column for each look, one row for each phase, times in milliseconds."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    carrier = f"service {report.service}" if report.service else "no config knows this hostname"
    console.print(f"{report.url} ({carrier})", markup=False, highlight=False)
    table = Table("")
    for look in report.looks:
        table.add_column(look.provider, justify="right", style="" if look.is_good else "red")
    for label, cells in rows(report, now_ms):
        table.add_row(label, *cells, end_section=label in ("address", "transfer ms"))
    console.print(table, markup=False)
    for look in report.looks:
        if look.detail:
            console.print(f"{look.provider}: {look.detail}", markup=False, highlight=False)
    if report.has_same_body is False:
        console.print("The bodies differ between providers.", style="yellow")


def rows(report: "ProbeReport", now_ms: int) -> list[tuple[str, list[str]]]:
    """Label and one cell for each look."""
    looks = report.looks
    return [
        ("result", [look.reason.value for look in looks]),
        ("status", [str(look.status or "-") for look in looks]),
        ("bytes", [str(look.body_bytes) for look in looks]),
        ("protocol", [look.protocol or "-" for look in looks]),
        ("address", [look.address for look in looks]),
        *((f"{phase} ms", [_ms(getattr(look.phases, f"{phase}_us")) for look in looks]) for phase in PHASES),
        ("total ms", [_ms(look.phases.total_us) for look in looks]),
        ("cert days", [str(look.chain.days_left(now_ms)) if look.chain else "-" for look in looks]),
    ]


def _ms(time_us: int) -> str:
    return f"{time_us // 1000}.{time_us % 1000 // 100}"
