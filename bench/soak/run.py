"""Everything at once, for minutes: faults, reloads, purges, plan changes under load; and what is left behind.

    python bench/soak/run.py [--minutes N] [--seed N] [--json FILE]

One edge with a memory and a disk tier in front of three upstreams. Each second or two another random fault,
another order of upstreams or other settings, a purge, and SIGHUP. Requests may fail here, as two upstreams
may be sick at once; what must not happen is a wrong byte, a write carried out twice, a file descriptor or
memory that does not come back, a panic, or an end that is not 0. Exit 1 when it did.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "faults"))

from engine_files import EngineFiles, settings_for
from machine import machine, made_by
from measure import free_port, kind_of
from stage import HOSTNAME, Upstreams, executions, upstreams
from workloads import CONTENT, WORKLOADS

from polycdn.lab.content import other_version, statics
from polycdn.lab.fault import FaultKind, Schedule, Window
from polycdn.lab.fetch import Site, fetch
from polycdn.model.chance import MILLION_PPM, chance_ppm
from polycdn.model.settings import CacheRules, Limits
from polycdn.run.clock import Wall

RESULTS = Path(__file__).parent.parent / "results"
NAMES = ("first", "second", "third")
SEEN_AS_WRONG = ("wrong", "gap", "repeat")
KINDS = (
    FaultKind.REFUSE, FaultKind.RESET, FaultKind.HANG, FaultKind.EMPTY_REPLY, FaultKind.GARBAGE,
    FaultKind.HEADER_BOMB, FaultKind.HTTP_5XX, FaultKind.SLOW_FIRST_BYTE, FaultKind.SLOW_DRIP,
    FaultKind.DIE_MID_BODY, FaultKind.TRUNCATE, FaultKind.STALL, FaultKind.OTHER_VERSION,
    FaultKind.LOST_ANSWER,
)  # fmt: skip
"""Faults that an edge can tell. A lie that nothing contradicts would be a wrong byte by right."""

FAULT_S, PLAN_S, PURGE_S, RELOAD_S, LOOK_S = 2.0, 1.5, 1.0, 3.0, 1.0
CALM_S = 35.0
"""Longer than idle connections to upstreams are kept (30 s)."""

WARM_SHARE = 0.15
DESCRIPTORS_MORE_MAX = 24
MEMORY_MORE_MAX, MEMORY_SLACK_KIB = 1.15, 16_384
LIMITS = Limits(first_byte_timeout_ms=2_000, idle_timeout_ms=5_000, connect_timeout_ms=500)


@dataclass
class Soak:
    """What is under way, and what was seen."""

    files: EngineFiles
    all_of_them: Upstreams
    process: subprocess.Popen[bytes]
    seed: int
    kinds: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    looks: list[tuple[int, int]] = field(default_factory=list)
    generation: int = 1

    def draw(self, of: int, *what: object) -> int:
        """A number below `of`, the same for the same run and question."""
        return chance_ppm(self.seed, *map(str, what)) * of // MILLION_PPM


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=RESULTS / "soak.json")
    asked = parser.parse_args()
    for content in (CONTENT, other_version(CONTENT)):
        statics(content)
    with tempfile.TemporaryDirectory(prefix="polycdn-soak-") as folder:
        found = asyncio.run(soak(Path(folder), asked.minutes * 60, asked.seed))
    result = {
        "what": "faults, reloads, purges and plan changes at once",
        "command": " ".join(["python bench/soak/run.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        **found,
        "missed": missed(found),
    }
    asked.json.write_text(json.dumps(result, indent=1) + "\n")
    asked.json.with_suffix(".md").write_text(table(result))
    print(table(result))
    return 1 if result["missed"] else 0


async def soak(folder: Path, run_s: float, seed: int) -> dict:
    """Warms up, looks, soaks, looks again, ends the edge."""
    async with upstreams(folder, CONTENT, names=NAMES) as all_of_them:
        settings = settings_for(NAMES, all_of_them.ports, limits=LIMITS)
        files = EngineFiles(folder, free_port(), free_port(), settings)
        disk = {"folder": str(folder / "disk"), "bytes": 200_000_000}
        files.write_config(memory_bytes=64_000_000, disk=disk)
        words = [sys.executable, "-m", "polycdn", "edge", "--engine-config", str(files.config_file)]
        with (folder / "edge.log").open("wb") as log:
            one = Soak(files, all_of_them, subprocess.Popen(words, stderr=log, stdout=log), seed)
            try:
                await _until_listening(files.port)
                await _for(one, run_s * WARM_SHARE)
                base = await _calm(one)
                await _for(one, run_s * (1 - WARM_SHARE))
                end = await _calm(one)
            finally:
                one.process.send_signal(signal.SIGTERM)
                code = await asyncio.get_running_loop().run_in_executor(None, one.process.wait)
        said = (folder / "edge.log").read_text(errors="replace")
        twice = sum(times > 1 for times in executions(all_of_them.served()).values())
    return {
        "seconds": round(run_s), "requests": one.done["requests"], "kinds": dict(one.kinds), "twice": twice,
        "done": dict(one.done), "base": base, "end": end, "looks": one.looks, "code": code,
        "panics": said.count("panicked"), "said": said[-1_000:],
    }  # fmt: skip


async def _for(one: Soak, run_s: float) -> None:
    """Load and disturbance for so long; then no fault is left."""
    begun_ms = Wall().now_ms()
    disturbers = [
        asyncio.create_task(_every(pause_s, act, one))
        for pause_s, act in (
            (FAULT_S, _fault), (PLAN_S, _plan), (PURGE_S, _purge), (RELOAD_S, _reload), (LOOK_S, _look),
        )
    ]  # fmt: skip
    try:
        await asyncio.gather(*(_load(one, name, begun_ms, run_s) for name in WORKLOADS))
    finally:
        for task in disturbers:
            task.cancel()
        found = await asyncio.gather(*disturbers, return_exceptions=True)
        one.all_of_them.inject(Schedule(one.seed))
    for error in found:
        if isinstance(error, Exception):
            raise error


async def _every(pause_s: float, act, one: Soak) -> None:  # type: ignore[no-untyped-def]
    number = 0
    while True:
        await act(one, number)
        number += 1
        await asyncio.sleep(pause_s)


async def _fault(one: Soak, number: int) -> None:
    """One or two upstreams sick for a while, each in a way of its own."""
    now_ms = Wall().now_ms()
    windows = [
        Window(
            NAMES[one.draw(len(NAMES), "who", turn, now_ms)],
            now_ms,
            now_ms + round(FAULT_S * 1_000),
            KINDS[one.draw(len(KINDS), "kind", turn, now_ms)],
            200_000 + one.draw(800_001, "share", turn, now_ms),
        )
        for turn in range(2)
    ]
    one.all_of_them.inject(Schedule(one.seed, tuple(windows)))
    one.done["faults"] += 1


async def _plan(one: Soak, number: int) -> None:
    """Another order, and now and then other settings."""
    one.generation += 1
    first = one.draw(len(NAMES), "first", one.generation)
    order = NAMES[first:] + NAMES[:first]
    if number % 4 == 3:
        stale_s = one.draw(30, "stale", one.generation)
        cache = CacheRules(stale_while_revalidate_s=stale_s, stale_if_error_s=stale_s)
        one.files = one.files.having(cache=cache)
    applied = await asyncio.to_thread(one.files.apply, one.generation, order)
    assert applied["ok"], applied
    one.done["plans"] += 1


async def _purge(one: Soak, number: int) -> None:
    """A prefix, hard and soft in turn."""
    prefix = ("/", "/music/", "/patch.bin", "/probe")[number % 4]
    word = {"prefix": f"http://{HOSTNAME}{prefix}", "soft": number % 2 == 1}
    status = await asyncio.to_thread(_post_purge, one.files, word)
    assert status == 200, f"purge of {word} answered {status}"
    one.done["purges"] += 1


def _post_purge(files: EngineFiles, word: dict) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", files.admin_port, timeout=10)
    token = files.token_file.read_text().strip()
    with contextlib.closing(connection):
        connection.request("POST", "/api/v1/purge", json.dumps(word), {"authorization": f"Bearer {token}"})
        return connection.getresponse().status


async def _reload(one: Soak, number: int) -> None:
    one.process.send_signal(signal.SIGHUP)
    one.done["reloads"] += 1


async def _look(one: Soak, number: int) -> None:
    one.looks.append(_held(one.process.pid))


async def _load(one: Soak, workload: str, begun_ms: int, run_s: float) -> None:
    """Twice the rate of the fault bench, each request as strictly looked at."""
    rate_mrps, shot_of = WORKLOADS[workload]
    site, wall, tasks = Site(HOSTNAME, one.files.port, None), Wall(), set()
    for number in range(round(run_s * rate_mrps * 2 / 1_000)):
        await wall.sleep_until(begun_ms + number * 500_000 // rate_mrps)
        shot = shot_of(number, f"{begun_ms}/{workload}/{number}")
        call = replace(shot.call, rest_ms=min(shot.call.rest_ms, 8_000))
        task = asyncio.create_task(_ask(one, site, replace(shot, call=call)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def _ask(one: Soak, site: Site, shot) -> None:  # type: ignore[no-untyped-def]
    outcome = await fetch(site, "127.0.0.1", shot.call, shot.check, Wall())
    one.done["requests"] += 1
    kind = kind_of(shot, outcome)
    if kind is not None:
        one.kinds[f"{shot.workload} {kind}"] += 1


async def _calm(one: Soak) -> tuple[int, int]:
    """File descriptors and resident KiB once nothing is under way."""
    await asyncio.sleep(CALM_S)
    return _held(one.process.pid)


def _held(pid: int) -> tuple[int, int]:
    """File descriptors, and resident memory in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    resident_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()), resident_kib


async def _until_listening(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


def missed(found: dict) -> list[str]:
    """What must not have happened, as sentences."""
    wrong = {kind: count for kind, count in found["kinds"].items() if kind.split()[-1] in SEEN_AS_WRONG}
    (base_fds, base_kib), (end_fds, end_kib) = found["base"], found["end"]
    faults = [f"{count} {kind}" for kind, count in sorted(wrong.items())]
    if found["twice"]:
        faults.append(f"{found['twice']} writes carried out twice")
    if end_fds > base_fds + DESCRIPTORS_MORE_MAX:
        faults.append(f"{end_fds} file descriptors, {base_fds} after the warm-up")
    if end_kib > base_kib * MEMORY_MORE_MAX + MEMORY_SLACK_KIB:
        faults.append(f"{end_kib} KiB resident, {base_kib} after the warm-up")
    if found["panics"]:
        faults.append(f"{found['panics']} panics")
    if found["code"]:
        faults.append(f"ended with {found['code']}")
    return faults


def table(result: dict) -> str:
    """The figures in Markdown."""
    shown = result["machine"]
    (base_fds, base_kib), (end_fds, end_kib) = result["base"], result["end"]
    done = ", ".join(f"{count} {what}" for what, count in result["done"].items())
    failed = ", ".join(f"{count} {kind}" for kind, count in sorted(result["kinds"].items())) or "none"
    return "\n".join(
        (
            f"{made_by(result)}, 1-minute load {shown['load_1m']} at the end; {result['seconds']} s.",
            "",
            "| figure | value |",
            "|---|---|",
            f"| done | {done} |",
            f"| failed (allowed) | {failed} |",
            f"| file descriptors when calm | {base_fds} after the warm-up, {end_fds} at the end |",
            f"| resident when calm | {base_kib // 1024} MiB, {end_kib // 1024} MiB |",
            f"| panics, exit code | {result['panics']}, {result['code']} |",
            "",
            f"Aims missed: {'; '.join(result['missed']) or 'none'}.",
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
