"""One outage of each kind of company, rehearsed whole: a CDN, a cloud, a DNS operator, a CA.

    python bench/rehearse/kinds.py [--incidents ID,...]

Writes bench/results/rehearse-kinds.json (machine, date, command, every run whole) and its table. Exit 1 when
an aim is missed: a valid run, no false move, the edge without a failed request, nobody lost through our DNS
whom the usual failover would have kept.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from machine import machine, made_by
from once import save, timed_run

INCIDENTS = "2021-06-08-fastly,2025-10-20-aws,2021-07-22-akamai,2025-07-21-letsencrypt"
CLIENTS = ("single", "threshold", "dns", "edge")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--incidents", default=INCIDENTS)
    runs = [timed_run(incident) for incident in parser.parse_args().incidents.split(",")]
    result = {
        "what": "polycdn rehearse, one outage of each kind, until it was mitigated",
        "command": "polycdn rehearse INCIDENT --json",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "missed": [f"{run['incident']}: {fault}" for run in runs for fault in faults(run)],
        "runs": runs,
    }
    return save("rehearse-kinds", result, table)


def faults(run: dict) -> list[str]:
    """The aims that this run missed."""
    failed = {row["client"]: row["failed"] for row in run["totals"]}
    found = [f"exit code {run['exit_code']}"] if run["exit_code"] else []
    if run["false_moves"]:
        found.append(f"{run['false_moves']} false moves")
    if failed["edge"]:
        found.append(f"the edge failed {failed['edge']} requests")
    if failed["dns"] > failed["threshold"]:
        found.append(f"dns failed {failed['dns']} requests, threshold {failed['threshold']}")
    return found


def table(result: dict) -> str:
    """The figures in Markdown, a row an outage."""
    shown = result["machine"]
    rows = [
        f"{made_by(result)}, "
        f"Python {shown['python']}, 1-minute load {shown['load_1m']} at the end. "
        "Failed requests, measured and (simulated).",
        "",
        "| outage | shown | "
        + " | ".join(CLIENTS)
        + " | detected after | plan changes | false moves | took |",
        "|---|---|" + "---:|" * (len(CLIENTS) + 4),
    ]
    rows += [row_of(run) for run in result["runs"]]
    rows += ["", "Aims missed: " + ("; ".join(result["missed"]) or "none") + "."]
    return "\n".join(rows) + "\n"


def row_of(run: dict) -> str:
    share = {row["client"]: row["failed_bp"] / 100 for row in run["totals"]}
    simulated = {row["client"]: row["failed_bp"] / 100 for row in run["simulated"]}
    cells = " | ".join(f"{share[client]:.2f} % ({simulated[client]:.2f} %)" for client in CLIENTS)
    detected = f"{run['detect_ms'] // 1000} s" if run["detect_ms"] else "-"
    return (
        f"| {run['incident']} | {run['shows'].split(':')[0]} | {cells} | {detected} | {run['plan_changes']} "
        f"| {run['false_moves']} | {run['wall_s']} s |"
    )


if __name__ == "__main__":
    sys.exit(main())
