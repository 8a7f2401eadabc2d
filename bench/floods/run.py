"""A well-behaved client beside a flood: its latency against its quiet figure, and the edge's memory.

    python bench/floods/run.py [--floods A,B] [--scale N] [--json FILE]

| flood | full size |
|---|---|
| slow-heads | 5,000 connections, a field of a head each second |
| rapid-reset | HTTP/2 requests taken back at once, on connection after connection for 8 s |
| endless-head | HTTP/2 heads continued for ever, on connection after connection for 8 s |
| many-requests | 100,000 requests from one address, over its limit where the edge has one |

The flood comes from a process of its own and from another loopback address than the client. `--scale 10` is
a tenth of it. Exit 1 when the client's p99 was 3 times its quiet figure or more, or a request of it failed,
or the edge's resident memory went over its budget and 15 %.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "faults"))

from machine import machine, made_by
from measure import free_port, running
from stage import HOSTNAME, upstreams
from targets import Setup
from workloads import CONTENT, WholeCheck

from polycdn.lab.content import PROBE_PATH
from polycdn.lab.fetch import Call, Outcome, Site, fetch
from polycdn.lab.flood import Prey, endless_head, many_requests, rapid_reset, slow_heads
from polycdn.model.observation import Reason
from polycdn.run.clock import Wall

RESULTS = Path(__file__).parent.parent / "results"
FLOODS = ("slow-heads", "rapid-reset", "endless-head", "many-requests")
SLOW_HEADS, REQUESTS, STREAMS, FRAMES = 5_000, 100_000, 1_000_000, 1_000_000
ABUSE_S = 8
QUIET_S, RATE_RPS = 5, 50
TIMES_MAX = 3
ATTACK_NICE = 10
"""An attacker has processors of its own. Here it shares ours, and takes what the others leave."""

PREFIX_RPS = 2 * RATE_RPS
"""What one address may ask for, where the edge knows such a limit."""

MEMORY_BYTES = 268_435_456
"""The cache's budget, `--memory 256MB` in targets.py rounded up; 15 % more is allowed (resident)."""


@dataclass(frozen=True)
class Figures:
    """How a well-behaved client fared."""

    requests: int
    failed: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--floods", default=",".join(FLOODS))
    parser.add_argument("--scale", type=int, default=1, help="one part in so many of the full size")
    parser.add_argument("--json", type=Path, default=RESULTS / "floods.json")
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.attack:
        _let_open_many_files()
        os.nice(ATTACK_NICE)
        print(json.dumps(asyncio.run(attack(asked.attack, asked.port, asked.scale))))
        return 0
    rows = [asyncio.run(beside(flood, asked.scale)) for flood in asked.floods.split(",")]
    result = {
        "what": "a well-behaved client beside a flood",
        "command": " ".join(["python bench/floods/run.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rows": rows,
        "missed": [f"{row['flood']}: {fault}" for row in rows for fault in faults(row)],
    }
    asked.json.write_text(json.dumps(result, indent=1) + "\n")
    asked.json.with_suffix(".md").write_text(table(result))
    print(table(result))
    return 1 if result["missed"] else 0


async def beside(flood: str, scale: int) -> dict:
    """The client alone, then beside the flood; both through one edge that caches."""
    with tempfile.TemporaryDirectory(prefix="polycdn-floods-") as folder:
        async with upstreams(Path(folder), CONTENT) as both:
            setup = Setup(Path(folder), free_port(), both.ports, None, True, prefix_rps=PREFIX_RPS)
            async with running("polycdn", setup) as process:
                await behave(setup.port, 1)
                quiet, quiet_kib = await behave(setup.port, QUIET_S), resident_kib(process.pid)
                watch = asyncio.create_task(peak_kib(process.pid))
                attacker = await _attacker(flood, setup.port, scale)
                client = asyncio.create_task(until_done(setup.port, attacker))
                said, _ = await attacker.communicate()
                flooded = await client
                watch.cancel()
                peak = max(await asyncio.gather(watch, return_exceptions=False), default=0)
                is_alive = process.poll() is None
    return {
        "flood": flood, "scale": scale, "quiet": asdict(quiet), "flooded": asdict(flooded),
        "quiet_kib": quiet_kib, "peak_kib": peak, "attack": json.loads(said), "is_alive": is_alive,
    }  # fmt: skip


async def _attacker(flood: str, port: int, scale: int) -> asyncio.subprocess.Process:
    words = [__file__, "--attack", flood, "--port", str(port), "--scale", str(scale)]
    return await asyncio.create_subprocess_exec(sys.executable, *words, stdout=subprocess.PIPE)


async def attack(flood: str, port: int, scale: int) -> dict:
    """Floods and says how it went."""
    prey = Prey(port, HOSTNAME)
    if flood == "slow-heads":
        return asdict(await slow_heads(prey, SLOW_HEADS // scale, interval_s=1))
    if flood == "many-requests":
        statuses = await many_requests(prey, REQUESTS // scale, 50)
        return {"statuses": {str(status): count for status, count in sorted(statuses.items())}}
    sent = ended = 0
    stop_ms = Wall().now_ms() + ABUSE_S * 1_000 // scale
    while Wall().now_ms() < stop_ms:
        one = await (rapid_reset(prey, STREAMS) if flood == "rapid-reset" else endless_head(prey, FRAMES))
        sent, ended = sent + one.sent, ended + one.ended
    return {"sent": sent, "ended": ended}


async def until_done(port: int, attacker: asyncio.subprocess.Process) -> Figures:
    """The client's figures while the attacker runs."""
    outcomes: list[Outcome] = []
    while attacker.returncode is None:
        outcomes += await _second(port)
    return figures(outcomes)


async def behave(port: int, run_s: int) -> Figures:
    """The client's figures over some seconds."""
    return figures([outcome for _ in range(run_s) for outcome in await _second(port)])


async def _second(port: int) -> list[Outcome]:
    site, wall = Site(HOSTNAME, port, None), Wall()
    start_ms = wall.now_ms()
    tasks = []
    for number in range(RATE_RPS):
        await wall.sleep_until(start_ms + number * 1_000 // RATE_RPS)
        call = Call("GET", PROBE_PATH, {})
        tasks.append(asyncio.create_task(fetch(site, "127.0.0.1", call, WholeCheck(PROBE_PATH), wall)))
    return list(await asyncio.gather(*tasks))


def figures(outcomes: list[Outcome]) -> Figures:
    """Counted and sorted."""
    times = sorted(outcome.total_ms for outcome in outcomes)
    failed = sum(outcome.reason is not Reason.OK for outcome in outcomes)
    return Figures(len(times), failed, times[len(times) // 2], times[len(times) * 99 // 100], times[-1])


async def peak_kib(pid: int) -> int:
    """The largest resident memory until cancelled."""
    peak = 0
    try:
        while True:
            peak = max(peak, resident_kib(pid))
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return peak


def resident_kib(pid: int) -> int:
    """Resident memory of a process now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def faults(row: dict) -> list[str]:
    """The aims that a flood made the edge miss."""
    quiet, flooded = row["quiet"], row["flooded"]
    found = []
    if flooded["p99_ms"] >= TIMES_MAX * max(quiet["p99_ms"], 1):
        found.append(f"p99 {flooded['p99_ms']} ms, quiet {quiet['p99_ms']} ms")
    if flooded["failed"]:
        found.append(f"{flooded['failed']} of {flooded['requests']} requests failed")
    if row["peak_kib"] * 1_024 > MEMORY_BYTES * 1.15:
        found.append(f"{row['peak_kib'] // 1_024} MiB resident")
    return found if row["is_alive"] else [*found, "the edge ended"]


def table(result: dict) -> str:
    """The rows in Markdown."""
    shown = result["machine"]
    lines = [
        f"{made_by(result)}, "
        f"1-minute load {shown['load_1m']} at the end. The flood shares the cores, and takes what the others "
        "leave.",
        "",
        "| flood | p99 quiet | p99 beside it | failed | resident quiet | peak | what came of the flood |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    lines += [
        f"| {row['flood']} | {row['quiet']['p99_ms']} ms | {row['flooded']['p99_ms']} ms "
        f"| {row['flooded']['failed']} / {row['flooded']['requests']} | {row['quiet_kib'] // 1024} MiB "
        f"| {row['peak_kib'] // 1024} MiB | {json.dumps(row['attack'])} |"
        for row in result["rows"]
    ]
    return "\n".join([*lines, "", f"Aims missed: {'; '.join(result['missed']) or 'none'}.", ""])


def _let_open_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
