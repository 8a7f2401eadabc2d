"""The resident memory of one edge while thousands of connections do little, or nothing.

    python bench/connections/run.py [--idle 10000] [--slow 1000] [--seconds 20]

For each memory budget, with and without a disk tier, in one process of `polycdn edge` after the other: at
rest; with the idle keep-alive connections, each of which had one answer; with the slow readers of one
100 MiB object beside them, spread over the whole of it; and then without any of these while a load of small
bodies turns into one of large ones. VmRSS is sampled ten times a second and the peak told. Every byte that a
reader got is checked.

Writes bench/results/connections.json and its table. Exit 1 when a peak is above the budget and 15 % (or, for
a small budget, the budget and 36 MiB), or a byte is wrong.
"""

import argparse
import contextlib
import json
import socket
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

from edge import MIB, Edge, edge, heads, mib, open_files_max, origin, span_of
from machine import machine, who

RESULTS = Path(__file__).parent.parent / "results"
LARGE_BYTES = 100 * MIB
READ_BYTES = 16 * 1024
SAMPLE_S = 0.1
ALLOWED = 1.15
ALL_S = 240
"""Until then each of the slow readers must have got something."""

CASES = (("256MB", False), ("256MB", True), ("64MB", False))
BASE_BYTES = 36 * MIB
"""What the process may take besides a small budget: code and Python."""


def pattern(first: int, end: int) -> bytes:
    """The bytes of the large object: each eight are the number of their place."""
    numbers = array("Q", range(first // 8, -(-end // 8)))
    return numbers.tobytes()[first % 8 : first % 8 + end - first]


def serve(connection: socket.socket) -> None:
    """The origin: /large, and /body/BYTES/NUMBER of so many bytes."""
    for _method, target, fields in heads(connection):
        length = LARGE_BYTES if target == "/large" else int(target.split("/")[2])
        span = span_of(fields, length)
        first, end = span or (0, length)
        status = "206 Partial Content" if span else "200 OK"
        head = f'HTTP/1.1 {status}\r\ncache-control: max-age=3600\r\netag: "one"\r\naccept-ranges: bytes\r\n'
        head += f"content-range: bytes {first}-{end - 1}/{length}\r\n" if span else ""
        connection.sendall(f"{head}content-length: {end - first}\r\n\r\n".encode())
        for at in range(first, end, MIB):
            connection.sendall(pattern(at, min(at + MIB, end)))


@dataclass
class Watch:
    """Samples the resident memory until it is closed."""

    of: Edge
    peak_bytes: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.is_over.wait(SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, self.of.resident_bytes())


@contextlib.contextmanager
def watched(one: Edge) -> Iterator[Watch]:
    watch = Watch(one)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield watch
    finally:
        watch.is_over.set()
        thread.join()


def request(target: str, fields: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nhost: bench.test\r\n{fields}\r\n".encode()


def connect(one: Edge) -> socket.socket:
    connection = socket.socket()
    # Small, so that what a slow reader does not read waits at the edge and not here.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES)
    connection.connect(("127.0.0.1", one.port))
    return connection


def answer(connection: socket.socket, target: str) -> bytes:
    """The body of an answer on a connection that stays."""
    connection.sendall(request(target))
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65_536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(int(row[16:]) for row in head.split(b"\r\n") if row.lower().startswith(b"content-length: "))
    while len(body) < length:
        body += connection.recv(1 << 20)
    return body


def idle(one: Edge, number: int) -> list[socket.socket]:
    """So many connections, each after one answer."""
    connections = []
    for _ in range(number):
        connections.append(connect(one))
        assert answer(connections[-1], "/body/1000/0") == pattern(0, 1_000)
    return connections


@dataclass
class Slow:
    """A reader of the large object from `at` on."""

    connection: socket.socket
    at: int
    pending: bytes = b""
    has_head: bool = False

    def read(self) -> bool:
        """Takes a little; False if a byte is wrong."""
        with contextlib.suppress(BlockingIOError):
            self.pending += self.connection.recv(READ_BYTES)
        if not self.has_head:
            head, found, rest = self.pending.partition(b"\r\n\r\n")
            if not found:
                return True
            assert head.startswith(b"HTTP/1.1 206"), head
            self.pending, self.has_head = rest, True
        right = self.pending == pattern(self.at, self.at + len(self.pending))
        self.at, self.pending = self.at + len(self.pending), b""
        return right


def read_slowly(one: Edge, number: int, seconds: float, dice: Random) -> tuple[int, int]:
    """Wrong pieces seen, and bytes read, by so many readers who each take 16 KiB twice a second.

    The seconds begin when each of them has got something.
    """
    readers = []
    for _ in range(number):
        at = dice.randrange(LARGE_BYTES - 20 * MIB)
        reader = Slow(connect(one), at)
        reader.connection.sendall(request("/large", f"range: bytes={at}-\r\n"))
        reader.connection.setblocking(False)
        readers.append(reader)
    starts = [reader.at for reader in readers]
    wrong, until, limit = 0, 0.0, time.monotonic() + ALL_S
    while not until or time.monotonic() < until:
        round_began = time.monotonic()
        wrong += sum(not reader.read() for reader in readers)
        stuck = sum(reader.at == start for reader, start in zip(readers, starts, strict=True))
        if not stuck and not until:
            until = time.monotonic() + seconds
        assert time.monotonic() < limit or until, f"{stuck} readers got nothing"
        time.sleep(max(0.0, 0.5 - (time.monotonic() - round_began)))
    read = sum(reader.at - start for reader, start in zip(readers, starts, strict=True))
    for reader in readers:
        reader.connection.close()
    return wrong, read


def turn(one: Edge, budget_bytes: int, dice: Random) -> None:
    """Fills the budget twice with 1 KB to 8 KB, a tenth of it asked for again; then thrice with 512 KB."""
    with connect(one) as connection:
        sent = number = 0
        while sent < 2 * budget_bytes:
            number += 1
            again = number - dice.randrange(1, 1_000) if dice.random() < 0.1 and number > 1_000 else number
            sent += len(answer(connection, f"/body/{1_000 + again % 8 * 1_000}/{again}"))
        for large in range(3 * budget_bytes // 512_000):
            answer(connection, f"/body/512000/{large}")


def run_case(memory: str, has_disk: bool, options: argparse.Namespace) -> dict[str, object]:
    dice = Random(7)
    with contextlib.ExitStack() as stack:
        words = ["--memory", memory, "--workers", "1"]
        if has_disk:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="polycdn-bench-"))
            words += ["--disk", f"{folder}:2GB"]
        port = stack.enter_context(origin(serve))
        one = stack.enter_context(edge(port, *words))
        time.sleep(1)
        budget_bytes = int(one.metric("polycdn_cache_memory_budget_bytes"))
        rest_bytes = one.resident_bytes()
        with watched(one) as at_idle:
            connections = idle(one, options.idle)
            time.sleep(2)
            idle_bytes = one.resident_bytes()
        with watched(one) as at_slow:
            wrong, read_bytes = read_slowly(one, options.slow, options.seconds, dice)
        for connection in connections:
            connection.close()
        with watched(one) as at_turn:
            turn(one, budget_bytes, dice)
        peak_bytes = max(at_idle.peak_bytes, at_slow.peak_bytes, at_turn.peak_bytes)
        allowed_bytes = max(budget_bytes * ALLOWED, budget_bytes + BASE_BYTES)
        return {
            "memory": memory,
            "disk": has_disk,
            "budget_bytes": budget_bytes,
            "allowed_bytes": int(allowed_bytes),
            "rest_bytes": rest_bytes,
            "idle_bytes": idle_bytes,
            "per_idle_connection_bytes": (idle_bytes - rest_bytes) // max(options.idle, 1),
            "slow_peak_bytes": at_slow.peak_bytes,
            "slow_read_bytes": read_bytes,
            "turn_peak_bytes": at_turn.peak_bytes,
            "wrong": wrong,
            "is_within": peak_bytes <= allowed_bytes,
        }


def table(result: dict) -> str:
    lines = [
        f"Made by `{result['command']}` on {result['date'][:10]}: {who()}.",
        "",
        f"Resident memory (VmRSS) of one `polycdn edge`: at rest, with {result['idle']:,} idle keep-alive",
        f"connections, with {result['slow']:,} slow readers of a 100 MiB object beside these (peak), and",
        "while small bodies give way to large ones (peak).",
        "",
        "| budget | disk | at rest | idle | each | slow readers | small to large | allowed | wrong |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for case in result["cases"]:
        cells = [
            case["memory"],
            "yes" if case["disk"] else "no",
            mib(case["rest_bytes"]),
            mib(case["idle_bytes"]),
        ]
        cells += [f"{case['per_idle_connection_bytes']:,} B", mib(case["slow_peak_bytes"])]
        cells += [mib(case["turn_peak_bytes"]), mib(case["allowed_bytes"]), str(case["wrong"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--case", type=int, help="only the case with that number")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    needed = options.idle + options.slow + 100
    if open_files_max() < needed:
        print(f"{needed} open files are needed; raise the hard limit (ulimit -Hn)", file=sys.stderr)
        return 2
    cases = CASES if options.case is None else CASES[options.case : options.case + 1]
    result = {
        "what": "resident memory of the edge with idle connections and slow readers",
        "command": f"python bench/connections/run.py --idle {options.idle} --slow {options.slow}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "idle": options.idle,
        "slow": options.slow,
        "cases": [run_case(memory, has_disk, options) for memory, has_disk in cases],
    }
    options.results.mkdir(exist_ok=True)
    (options.results / "connections.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.results / "connections.md").write_text(table(result))
    print(table(result))
    return 0 if all(case["is_within"] and not case["wrong"] for case in result["cases"]) else 1


if __name__ == "__main__":
    sys.exit(main())
