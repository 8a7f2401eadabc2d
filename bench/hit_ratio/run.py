"""The cache's policy against LRU: hits on a Zipf trace, with and without scans.

    python bench/hit_ratio/run.py

Runs the Rust story that replays the same trace through the policy of the store (S3-FIFO in bytes) and through
an LRU of the same room: 50,000 names of 1 to 64 KiB by Zipf's law, 400,000 requests, and after every
20,000 of them a scan over 2,000 new names. Writes bench/results/hit-ratio.json and its table. Exit 1 when LRU
is better anywhere.
"""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from machine import machine, who

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "bench" / "results"
STORY = "hit_ratio_is_above_lru_on_zipf_with_and_without_scans"
COMMAND = ["cargo", "test", "--locked", "--quiet", "--lib", STORY, "--", "--nocapture"]
ROW = re.compile(r"\s*([\d.]+)\s+(true|false)\s+(\d+) %\s+([\d.]+) %\s+([\d.]+) %")


def main() -> int:
    done = subprocess.run(COMMAND, cwd=ROOT / "rust", stdout=subprocess.PIPE, text=True, check=False)
    rows = [
        {
            "exponent": float(found[1]),
            "scans": found[2] == "true",
            "room_percent": int(found[3]),
            "ours_percent": float(found[4]),
            "lru_percent": float(found[5]),
        }
        for found in map(ROW.fullmatch, done.stdout.splitlines())
        if found
    ]
    if not rows:
        print(f"the story {STORY} told nothing; run: {' '.join(COMMAND)}", file=sys.stderr)
        return 2
    result = {
        "what": "hit ratio of the store's policy against LRU",
        "command": "python bench/hit_ratio/run.py",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rows": rows,
    }
    (RESULTS / "hit-ratio.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "hit-ratio.md").write_text(table(result))
    print(table(result))
    is_better = all(row["ours_percent"] > row["lru_percent"] for row in rows)
    return 0 if done.returncode == 0 and is_better else 1


def table(result: dict) -> str:
    lines = [
        f"Made by `{result['command']}` on {result['date'][:10]}: {who()}.",
        "The trace is the same on any machine.",
        "",
        "| Zipf exponent | scans | room, of all bytes | S3-FIFO | LRU | more hits |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        ours, lru = row["ours_percent"], row["lru_percent"]
        lines.append(
            f"| {row['exponent']} | {'yes' if row['scans'] else 'no'} | {row['room_percent']} % "
            f"| {ours:.1f} % | {lru:.1f} % | {(ours / lru - 1) * 100:+.0f} % |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
