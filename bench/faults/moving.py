"""One large download while faults move from provider to provider: one response, and the right bytes?

    python bench/faults/moving.py [--targets A,B] [--megabytes N] [--seed N] [--json FILE]

Three upstreams; in each slot of 1.2 s one of them is sick: first all its connections die, then what it
answers anew has the slot's fault. Two upstreams are well at every moment. Exit 1 when polycdn's client got
anything but one whole, right response.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from machine import machine, made_by
from measure import free_port, running
from stage import HOSTNAME, upstreams
from targets import Setup, installed
from workloads import CONTENT

from polycdn.lab.checks import ObjectCheck
from polycdn.lab.content import PATCH_PATH, Content, probed_objects, statics
from polycdn.lab.exchange import LAB_KEY
from polycdn.lab.fault import FaultKind, Schedule, Window
from polycdn.lab.fetch import Call, Site, fetch
from polycdn.run.clock import Wall

RESULTS = Path(__file__).parent.parent / "results"
NAMES = ("first", "second", "third")
SLOT_MS, DEATH_MS = 1_200, 200
KINDS = (
    FaultKind.DIE_MID_BODY,
    FaultKind.STALL,
    FaultKind.CORRUPT,
    FaultKind.TRUNCATE,
    FaultKind.HTTP_5XX,
    FaultKind.HANG,
    FaultKind.ERROR_PAGE,
    FaultKind.OTHER_VERSION,
    FaultKind.SLOW_DRIP,
)
BYTES_PER_S = 16_000_000
LIMIT_FACTOR = 4
"""A download may take so many times as long as it would without faults."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", default=",".join(installed()))
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=RESULTS / "moving.json")
    asked = parser.parse_args()
    content = replace(CONTENT, patch_bytes=asked.megabytes * 1_000_000, bytes_per_s=BYTES_PER_S)
    statics(content)
    rows = [asyncio.run(download(name, content, asked.seed)) for name in asked.targets.split(",")]
    result = {
        "what": "one download while faults move from provider to provider",
        "command": " ".join(["python bench/faults/moving.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rows": rows,
    }
    asked.json.write_text(json.dumps(result, indent=1) + "\n")
    asked.json.with_suffix(".md").write_text(table(result))
    print(table(result))
    return 1 if any(row["target"] == "polycdn" and row["outcome"] != "ok" for row in rows) else 0


async def download(target: str, content: Content, seed: int) -> dict:
    """One download through one target, and what it took."""
    limit_ms = content.patch_bytes * 1_000 * LIMIT_FACTOR // BYTES_PER_S + 5_000
    with tempfile.TemporaryDirectory(prefix="polycdn-moving-") as folder:
        async with upstreams(Path(folder), content, names=NAMES) as all_of_them:
            setup = Setup(Path(folder), free_port(), all_of_them.ports, None, False, content=content)
            async with running(target, setup):
                wall = Wall()
                all_of_them.inject(schedule(wall.now_ms(), limit_ms, seed))
                expect = {each.path: each.expect for each in probed_objects(content)}[PATCH_PATH]
                call = Call(
                    "GET", PATCH_PATH, {LAB_KEY: "one/patch/1"}, first_byte_ms=10_000, rest_ms=limit_ms
                )
                site = Site(HOSTNAME, setup.port, None)
                outcome = await fetch(site, "127.0.0.1", call, ObjectCheck(expect), wall)
            served = [line for line in all_of_them.served() if line["path"] == PATCH_PATH]
    return {
        "target": target,
        "outcome": outcome.reason.value,
        "took_ms": outcome.total_ms,
        "received_bytes": outcome.body_bytes,
        "requests_at_upstreams": len(served),
    }


def schedule(start_ms: int, run_ms: int, seed: int) -> Schedule:
    """Slot n hits upstream n modulo three with kind n modulo all of them."""
    windows = []
    for slot in range(run_ms // SLOT_MS):
        name, kind = NAMES[slot % len(NAMES)], KINDS[(slot + seed) % len(KINDS)]
        from_ms = start_ms + SLOT_MS // 2 + slot * SLOT_MS
        windows.append(Window(name, from_ms, from_ms + DEATH_MS, FaultKind.REFUSE))
        windows.append(Window(name, from_ms + DEATH_MS, from_ms + SLOT_MS, kind))
    return Schedule(seed, tuple(windows))


def table(result: dict) -> str:
    """The rows in Markdown."""
    shown = result["machine"]
    lines = [
        f"{made_by(result)}, 1-minute load {shown['load_1m']} at the end.",
        "",
        "| target | outcome | received | took | requests at the upstreams |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row['target']} | {row['outcome']} | {row['received_bytes'] / 1e6:.1f} MB "
        f"| {row['took_ms'] / 1000:.1f} s | {row['requests_at_upstreams']} |"
        for row in result["rows"]
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
