"""The rehearsal as it happens, in a terminal."""

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from polycdn.cli.plots import clock
from polycdn.cli.tables import add_heads
from polycdn.run.rehearsal import Snapshot

STATUS_STYLES = {"up": "green", "degraded": "yellow", "down": "bold red", "unknown": "dim"}
BAR = 24


def view(title: str, snapshot: Snapshot) -> RenderableType:
    """One frame."""
    head = Text.assemble(
        (title, "bold"), "   ", (clock(snapshot.at_ms / 1000), "cyan"), f"   {snapshot.phase}"
    )
    progress = ProgressBar(total=snapshot.until_ms, completed=max(snapshot.at_ms, 0), width=76)
    return Group(head, progress, _providers(snapshot), _clients(snapshot), _decisions(snapshot))


def _providers(snapshot: Snapshot) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("provider", "verdict", "doubt", "share", ""):
        table.add_column(name, justify="right" if name in ("doubt", "share") else "left")
    shares = dict(snapshot.shares)
    for name, status, alarm_bp in snapshot.verdicts:
        share_bp = shares.get(name, 0)
        filled = round(share_bp / 10_000 * BAR)
        table.add_row(
            name,
            Text(status.upper(), STATUS_STYLES.get(status, "")),
            f"{alarm_bp / 100:.0f} %",
            f"{share_bp / 100:.1f} %",
            Text("█" * filled + "·" * (BAR - filled), "blue"),
        )
    table.add_row(Text(f"plan {snapshot.generation}, TTL {snapshot.ttl_s} s", "dim"))
    return table


def _clients(snapshot: Snapshot) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    add_heads(table, ("client", "attempts", "failed", "so far", "just now"))
    for client, attempts, failed, recent_bp in snapshot.clients:
        share = f"{failed / attempts * 100:.2f} %" if attempts else "-"
        style = "red" if recent_bp >= 100 else "green"
        table.add_row(client, f"{attempts:,}", f"{failed:,}", share, Text(f"{recent_bp / 100:.1f} %", style))
    return table


def _decisions(snapshot: Snapshot) -> Panel:
    lines = [
        Text.assemble((clock(at_ms / 1000), "cyan"), " ", text) for at_ms, text in snapshot.decisions[-6:]
    ]
    return Panel(Group(*lines) if lines else Text("nothing yet", "dim"), title="decided, and why", height=9)


def line(snapshot: Snapshot) -> str:
    """The same in one line, for a log."""
    verdicts = " ".join(f"{name}={status.upper()}" for name, status, _ in snapshot.verdicts)
    shares = " ".join(f"{name}={bp / 100:.0f}%" for name, bp in snapshot.shares)
    failed = " ".join(
        f"{client}={failed / attempts * 100:.2f}%" if attempts else f"{client}=-"
        for client, attempts, failed, _ in snapshot.clients
    )
    return f"{clock(snapshot.at_ms / 1000)}  verdicts {verdicts}  shares {shares}  failed {failed}"
