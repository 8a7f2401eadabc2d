"""What failures cost the upstreams: extra load when all fail alike, load on a sick one, executions of writes.

    python bench/faults/amplification.py [--targets A,B] [--rate N] [--seed N] [--json FILE]

Counted at the upstreams, from what they logged. Exit 1 when polycdn misses an aim: at most 1.2 requests at
the upstreams for each of a client when all fail alike; at most 5 % of them at a sick upstream from 2 s on,
when a healthy one is there; no write carried out twice.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from machine import machine, made_by
from measure import AnyCheck, free_port, running
from stage import HOSTNAME, Upstreams, executions, upstreams
from targets import TARGETS, Setup, installed
from workloads import CONTENT, post, post_key

from polycdn.lab.exchange import LAB_KEY
from polycdn.lab.fault import FaultKind, Schedule, Window
from polycdn.lab.fetch import Call, Site, fetch
from polycdn.run.clock import Wall

RESULTS = Path(__file__).parent.parent / "results"
NAMES = ("first", "second", "third")
ALIKE = (FaultKind.HTTP_5XX, FaultKind.EMPTY_REPLY, FaultKind.GARBAGE)
SICK = (FaultKind.HTTP_5XX, FaultKind.RESET, FaultKind.EMPTY_REPLY, FaultKind.DIE_MID_BODY, FaultKind.HANG)
WRITES = (
    FaultKind.RESET, FaultKind.EMPTY_REPLY, FaultKind.LOST_ANSWER, FaultKind.DIE_MID_BODY, FaultKind.TRUNCATE,
    FaultKind.STALL, FaultKind.HTTP_5XX, FaultKind.GARBAGE, FaultKind.CORRUPT, FaultKind.SLOW_FIRST_BYTE,
)  # fmt: skip
WRITES_OF_EACH = 20
RUN_S = 5
ALL_ALIKE_MAX, SICK_SHARE_MAX, CALM_AFTER_S = 1.2, 0.05, 2


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", default=",".join(installed()))
    parser.add_argument("--rate", type=int, default=100, help="requests a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=RESULTS / "amplification.json")
    asked = parser.parse_args()
    targets = [TARGETS[name].name for name in asked.targets.split(",")]
    result = {
        "what": "what failures cost the upstreams",
        "command": " ".join(["python bench/faults/amplification.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rate_rps": asked.rate,
        "alike": [asyncio.run(alike(name, kind, asked)) for name in targets for kind in ALIKE],
        "sick": [asyncio.run(sick(name, kind, asked)) for name in targets for kind in SICK],
        "writes": [asyncio.run(writes(name, asked.seed)) for name in targets],
    }
    result["missed"] = missed(result)
    asked.json.write_text(json.dumps(result, indent=1) + "\n")
    asked.json.with_suffix(".md").write_text(rendered(result))
    print(rendered(result))
    return 1 if result["missed"] else 0


async def alike(target: str, kind: FaultKind, asked: argparse.Namespace) -> dict:
    """Three upstreams that all fail by `kind`: requests that reach any, for each of a client."""
    windows = tuple((name, kind) for name in NAMES)
    async with staged(target, NAMES, windows, asked.seed) as (all_of_them, port):
        begun_ms = Wall().now_ms()
        sent = await send(port, asked.rate, RUN_S)
        reached = [line for line in all_of_them.faults() if line["at_ms"] >= begun_ms and is_ours(line)]
    return {"target": target, "kind": kind.value, "sent": sent, "reached": len(reached)}


async def sick(target: str, kind: FaultKind, asked: argparse.Namespace) -> dict:
    """The first of two upstreams fails by `kind`: requests that reach it in each second."""
    async with staged(target, NAMES[:2], ((NAMES[0], kind),), asked.seed) as (both, port):
        begun_ms = Wall().now_ms()
        sent = await send(port, asked.rate, RUN_S)
        lines = [line for line in both.faults() if line["at_ms"] >= begun_ms]
    seconds = Counter((line["at_ms"] - begun_ms) // 1_000 for line in lines)
    per_second = [seconds[second] for second in range(RUN_S)]
    return {"target": target, "kind": kind.value, "sent": sent, "per_second": per_second}


async def writes(target: str, seed: int) -> dict:
    """Writes with and without a key while the first upstream fails in every way: those carried out twice."""
    twice, sent = 0, 0
    for kind in WRITES:
        async with staged(target, NAMES[:2], ((NAMES[0], kind),), seed) as (both, port):
            site = Site(HOSTNAME, port, None)
            shots = [
                make(number, f"user/{name}/{number}")
                for name, make in (("post", post), ("post-key", post_key))
                for number in range(WRITES_OF_EACH)
            ]
            await asyncio.gather(*(fetch(site, "127.0.0.1", one.call, one.check, Wall()) for one in shots))
            sent += len(shots)
            twice += sum(times > 1 for times in executions(both.served()).values())
    return {"target": target, "sent": sent, "twice": twice}


class staged:
    """Upstreams with these faults from now on, and a target in front of them."""

    def __init__(self, target: str, names: tuple[str, ...], hits: tuple, seed: int) -> None:  # type: ignore[type-arg]
        self._target = target
        self._names = names
        windows = tuple(Window(name, 0, 1 << 60, kind) for name, kind in hits)
        self._schedule = Schedule(seed, windows)

    async def __aenter__(self) -> tuple[Upstreams, int]:
        self._folder = tempfile.TemporaryDirectory(prefix="polycdn-amplification-")
        self._upstreams = upstreams(Path(self._folder.name), CONTENT, names=self._names)
        found = await self._upstreams.__aenter__()
        setup = Setup(Path(self._folder.name), free_port(), found.ports, None, False)
        self._running = running(self._target, setup)
        await self._running.__aenter__()
        found.inject(self._schedule)
        await asyncio.sleep(0.1)
        return found, setup.port

    async def __aexit__(self, *error: object) -> None:
        await self._running.__aexit__(None, None, None)
        await self._upstreams.__aexit__(None, None, None)
        self._folder.cleanup()


async def send(port: int, rate: int, run_s: int) -> int:
    """So many requests a second, whatever becomes of them; how many they were."""
    site, wall = Site(HOSTNAME, port, None), Wall()
    start_ms = wall.now_ms()
    tasks = []
    for number in range(rate * run_s):
        await wall.sleep_until(start_ms + number * 1_000 // rate)
        call = Call("GET", f"/feed/{number}", {LAB_KEY: f"user/api/{number}"}, first_byte_ms=4_000)
        tasks.append(asyncio.create_task(fetch(site, "127.0.0.1", call, AnyCheck(), wall)))
    await asyncio.gather(*tasks)
    return len(tasks)


def is_ours(line: dict) -> bool:
    """Whether a client's request met the fault, and not a health check of the target's own."""
    return str(line["key"]).startswith("user/")


def missed(result: dict) -> list[str]:
    """Aims of polycdn that were missed, as sentences."""
    found = [
        f"all fail by {row['kind']}: {row['reached']} requests at the upstreams for {row['sent']}"
        for row in result["alike"]
        if row["target"] == "polycdn" and row["reached"] > ALL_ALIKE_MAX * row["sent"]
    ]
    found += [
        f"sick by {row['kind']}: {row['per_second']} requests a second at it, of {result['rate_rps']}"
        for row in result["sick"]
        if row["target"] == "polycdn" and is_too_much(row, result["rate_rps"])
    ]
    rows = [row for row in result["writes"] if row["target"] == "polycdn" and row["twice"]]
    return found + [f"{row['twice']} writes carried out twice" for row in rows]


def is_too_much(row: dict, rate_rps: int) -> bool:
    calm = row["per_second"][CALM_AFTER_S:]
    return sum(calm) > SICK_SHARE_MAX * rate_rps * len(calm)


def rendered(result: dict) -> str:
    """All tables in Markdown."""
    shown = result["machine"]
    lines = [
        f"{made_by(result)}, 1-minute load {shown['load_1m']} at the end.",
        "",
        "All three upstreams fail alike: requests at the upstreams for each of a client.",
        "",
        "| target | fault | sent | reached | ratio |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row['target']} | {row['kind']} | {row['sent']} | {row['reached']} "
        f"| {row['reached'] / row['sent']:.2f} |"
        for row in result["alike"]
    ]
    lines += ["", f"The first of two is sick: requests at it in each second, of {result['rate_rps']}.", ""]
    lines += ["| target | fault | second by second |", "|---|---|---|"]
    lines += [
        f"| {row['target']} | {row['kind']} | {', '.join(map(str, row['per_second']))} |"
        for row in result["sick"]
    ]
    lines += ["", "Writes, with and without a key, while the first upstream fails in every way.", ""]
    lines += ["| target | sent | carried out twice |", "|---|---:|---:|"]
    lines += [f"| {row['target']} | {row['sent']} | {row['twice']} |" for row in result["writes"]]
    lines += ["", f"Aims missed by polycdn: {'; '.join(result['missed']) or 'none'}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
