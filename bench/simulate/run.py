"""All shipped outages at full scale: how long it takes, and what users lost.

    python bench/simulate/run.py [--runs 3]

Writes bench/results/simulate-all.json (machine, date, command, each run's time, the figures) and its table,
bench/results/simulate-all.md. The clock includes the start of the process.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from machine import machine

RESULTS = Path(__file__).parent.parent / "results"
WORDS = ("simulate", "all", "--users", "1000000", "--json")
LIMIT_S = 60
CLIENTS = ("single", "threshold", "dns", "edge")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = [timed_run() for _ in range(parser.parse_args().runs)]
    seconds = [taken for taken, _ in runs]
    result = {
        "what": "polycdn simulate all, a million users each, process start included",
        "command": "polycdn " + " ".join(WORDS),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "seconds": seconds,
        "seconds_median": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "limit_s": LIMIT_S,
        "outage_s": sum(one["outage_s"] for one in runs[-1][1]["incidents"]),
        "incidents": runs[-1][1]["incidents"],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "simulate-all.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "simulate-all.md").write_text(table(result))
    print(table(result))
    return 0 if result["seconds_median"] <= LIMIT_S else 1


def timed_run() -> tuple[float, dict]:
    start = time.monotonic()
    command = [sys.executable, "-c", "from polycdn.cli.main import main; main()", *WORDS]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return round(time.monotonic() - start, 2), json.loads(done.stdout)


def table(result: dict) -> str:
    """The figures in Markdown, a row an outage: user-minutes lost (availability)."""
    shown = result["machine"]
    rows = [
        f"Made by `{result['command']}` on {result['date'][:10]}: {result['seconds_median']} s "
        f"({result['seconds_min']} to {result['seconds_max']} s over {len(result['seconds'])} runs), "
        f"{shown['cores']} cores ({shown['cpu']}), Python {shown['python']}, "
        f"1-minute load {shown['load_1m']}.",
        "",
        "| outage | " + " | ".join(CLIENTS) + " | plan changes | false moves | detected after |",
        "|---|" + "---:|" * (len(CLIENTS) + 3),
    ]
    for one in result["incidents"]:
        losses = {entry["client"]: entry for entry in one["clients"]}
        cells = [
            f"{losses[name]['user_minutes_lost']:,} ({losses[name]['availability_bp'] / 100:.2f} %)"
            for name in CLIENTS
        ]
        detected = "-" if one["detect_ms"] is None else f"{one['detect_ms'] // 1000} s"
        cells += [str(one["plan_changes"]), str(one["false_moves"]), detected]
        rows.append(f"| {one['incident']} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
