"""The report of a rehearsal as one HTML file: no scripts, no outside resources."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from polycdn.cli.plots import Axis, clock, failure_lanes, share_bands, verdict_strips
from polycdn.run.rehearsal import Rehearsal


def page(rehearsal: Rehearsal, simulated: Sequence[dict[str, Any]] = ()) -> str:
    """The whole page. `simulated` holds what `polycdn simulate --json` prints, one object an incident."""
    style = files("polycdn.cli").joinpath("report.css").read_text()
    axis = Axis(0.0, rehearsal.until_ms / 1000)
    lanes = [
        (client, [(at_ms / 1000, tried, failed) for at_ms, tried, failed in points])
        for client, points in rehearsal.failures
    ]
    shares = [(at_ms / 1000, pairs) for at_ms, pairs in rehearsal.shares]
    strips = [
        (name, [(at_ms / 1000, status) for at_ms, status in changes]) for name, changes in rehearsal.verdicts
    ]
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Rehearsal of {escape(rehearsal.incident)}</title><style>{style}</style>
<h1>{escape(rehearsal.title)}</h1>
<p class="sub">Rehearsal of {escape(rehearsal.incident)} at {rehearsal.speed} times the speed,
seed {rehearsal.seed}: real processes, real sockets, faults as recorded. Shown is {escape(rehearsal.shows)}.
Times are from the start of the incident.</p>
<div class="cards">{"".join(_card(*card) for card in _cards(rehearsal))}</div>
<h2>Requests that failed, by client</h2>{failure_lanes(axis, lanes)}
<h2>Who carried the traffic</h2>{share_bands(axis, shares, rehearsal.providers)}
<h2>What was thought of each provider</h2>{verdict_strips(axis, strips)}
<h2>Figures</h2>{_figures(rehearsal)}
<h2>What was decided, and why</h2><ol>{"".join(_decision(*line) for line in rehearsal.decisions)}</ol>
{_simulated(simulated)}</html>
"""


def _cards(rehearsal: Rehearsal) -> list[tuple[str, str]]:
    worst = [(f"{total.failed_bp / 100:.2f} %", f"failed: {total.client}") for total in rehearsal.totals]
    return [
        *worst,
        (_seconds(rehearsal.detect_ms), "from fault to verdict"),
        (str(rehearsal.plan_changes), "plan changes"),
        (str(rehearsal.false_moves), "false moves"),
    ]


def _card(figure: str, text: str) -> str:
    return f'<div class="card"><b>{escape(figure)}</b>{escape(text)}</div>'


def _figures(rehearsal: Rehearsal) -> str:
    head = ("client", "kind", "attempts", "failed", "share", "worst", "longest outage")
    rows = [
        (
            row.client, row.kind, f"{row.attempts:,}", f"{row.failed:,}", f"{row.failed_bp / 100:.2f} %",
            f"{row.worst_ms:,} ms", _seconds(row.longest_outage_s * 1000),
        )
        for row in rehearsal.clients
    ]  # fmt: skip
    return table(head, rows)


def _simulated(simulated: Sequence[dict[str, Any]]) -> str:
    if not simulated:
        return ""
    clients = [entry["client"] for entry in simulated[0]["clients"]]
    rows = []
    for one in simulated:
        lost = {entry["client"]: entry["user_minutes_lost"] for entry in one["clients"]}
        rows.append((one["incident"], *(f"{lost[c]:,}" for c in clients), str(one["plan_changes"])))
    users = f"{simulated[0]['users']:,}"
    return f"<h2>All incidents, simulated with {users} users: user-minutes lost</h2>" + table(
        ("incident", *clients, "plan changes"), rows
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; the first column is text, the others figures."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _decision(at_ms: int, text: str) -> str:
    return f'<li><span class="dim">{clock(at_ms / 1000)}</span> {escape(text)}</li>'


def _seconds(value_ms: int | None) -> str:
    return "-" if value_ms is None else f"{value_ms / 1000:,.0f} s"
