"""The disk tier against SIGKILL, and how soon a restart serves from it.

    python bench/disk/run.py [--kills 50] [--objects 100000]

Part one: clients ask a `polycdn edge --disk` for objects of 1 KB to 5 MB, whole and in parts, and now and
then change one with PUT. At a random moment the edge is killed with SIGKILL and started again on the same
folder. Each body says which object, version and place its bytes are of; wrong is any other byte, any mix,
and any version older than the last change that was confirmed before the request. Part two: so many objects
of 1 KB are stored, the edge is killed, and the time is taken from the new process's start to the first
answer that came from the disk.

Writes bench/results/disk.json and its table. Exit 1 when a byte was wrong or the median of the times until
the first hit is a second or more.
"""

import argparse
import contextlib
import json
import re
import socket
import sys
import tempfile
import threading
import time
from array import array
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

from edge import Edge, edge, free_port, heads, origin, span_of, wait_for
from machine import machine, who

RESULTS = Path(__file__).parent.parent / "results"
SIZES = (1_000, 30_000, 300_000, 1 << 20, 2_500_000, 5_000_000)
OBJECTS = 60
CLIENTS = 4
ANSWERS = (20, 400)
"""After how many answers the edge is killed, at least and at most."""

UP_S = 20.0
"""A slower edge is killed then."""

FIRST_HIT_S = 1.0


def body_of(number: int, version: int, first: int, end: int) -> bytes:
    """Bytes of an object: every eight of them are its number, its version and their place."""
    base = number << 40 | version << 24
    cells = array("Q", range(base + first // 8, base - (-end // 8)))
    return cells.tobytes()[first % 8 : first % 8 + end - first]


def serve(connection: socket.socket) -> None:
    """The origin: /SIZE/NUMBER, changed by PUT. Versions live in this process."""
    for method, target, fields in heads(connection):
        size, number = (int(part) for part in target.split("/")[1:])
        if method == "PUT":
            with VERSIONS_LOCK:
                VERSIONS[number] = VERSIONS.get(number, 0) + 1
                version = VERSIONS[number]
            connection.sendall(
                f"HTTP/1.1 200 OK\r\nx-version: {version}\r\ncontent-length: 0\r\n\r\n".encode()
            )
            continue
        with VERSIONS_LOCK:
            version = VERSIONS.get(number, 0)
        etag = f'"{number}-{version}"'
        span = span_of(fields, size)
        if fields.get("if-range", etag) != etag:
            span = None
        first, end = span or (0, size)
        status = "206 Partial Content" if span else "200 OK"
        head = f"HTTP/1.1 {status}\r\ncache-control: max-age=3600\r\netag: {etag}\r\naccept-ranges: bytes\r\n"
        head += f"content-range: bytes {first}-{end - 1}/{size}\r\n" if span else ""
        content = body_of(number, version, first, end)
        connection.sendall(f"{head}content-length: {end - first}\r\n\r\n".encode() + content)


VERSIONS: dict[int, int] = {}
VERSIONS_LOCK = threading.Lock()


@dataclass
class Tally:
    """What the clients saw."""

    confirmed: dict[int, int] = field(default_factory=dict)
    """The last version of each object whose change was confirmed."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    answers: int = 0
    hits: int = 0
    changes: int = 0
    wrong: list[str] = field(default_factory=list)


def client(port: int, tally: Tally, over: threading.Event, dice: Random) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    while not over.is_set():
        try:
            one_request(connection, tally, dice)
        except (OSError, HTTPException):
            # The edge was killed; its successor listens on the same port.
            connection.close()
            over.wait(0.02)
    connection.close()


def one_request(connection: HTTPConnection, tally: Tally, dice: Random) -> None:
    number = dice.randrange(OBJECTS)
    size = SIZES[number % len(SIZES)]
    if dice.random() < 0.02:
        connection.request("PUT", f"/{size}/{number}", b"")
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            with tally.lock:
                version = int(answer.getheader("x-version", "0"))
                tally.confirmed[number] = max(tally.confirmed.get(number, 0), version)
                tally.changes += 1
        return
    first, end, fields = 0, size, {}
    if dice.random() < 0.5:
        first = dice.randrange(size)
        end = min(first + dice.choice((1, 5_000, 2_000_000)), size)
        fields = {"Range": f"bytes={first}-{end - 1}"}
    with tally.lock:
        least = tally.confirmed.get(number, 0)
    connection.request("GET", f"/{size}/{number}", headers=fields)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status not in (200, 206):
        return
    if answer.status == 200:
        first, end = 0, size
    version = int(str(answer.getheader("etag")).strip('"').split("-")[1])
    is_right = version >= least and content == body_of(number, version, first, end)
    with tally.lock:
        tally.answers += 1
        tally.hits += "; hit" in str(answer.getheader("cache-status"))
        if not is_right:
            tally.wrong.append(f"/{size}/{number} {first}-{end} version {version}, confirmed {least}")


def kills(number: int, folder: str, dice: Random) -> dict[str, object]:
    """Part one."""
    tally, over, port, recalled = Tally(), threading.Event(), free_port(), 0.0
    with origin(serve) as origin_port:
        threads = [
            threading.Thread(target=client, args=(port, tally, over, Random(seed))) for seed in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(number):
                with edge(origin_port, "--memory", "32MB", "--disk", f"{folder}:200MB", port=port) as one:
                    wanted, until = tally.answers + dice.randrange(*ANSWERS), time.monotonic() + UP_S
                    while tally.answers < wanted and time.monotonic() < until:
                        over.wait(0.005)
                    recalled += one.metric("polycdn_cache_disk_hits_total")
                    one.kill()
        finally:
            over.set()
            for thread in threads:
                thread.join()
    return {
        "kills": number,
        "answers": tally.answers,
        "hits": tally.hits,
        "records_from_disk": int(recalled),
        "changes": tally.changes,
        "wrong": tally.wrong[:20],
        "wrong_number": len(tally.wrong),
    }


def store(one: Edge, objects: int) -> None:
    """Asks for so many objects, many to a connection, and waits until they are on disk."""
    with socket.create_connection(("127.0.0.1", one.port)) as connection, connection.makefile("rb") as stream:
        for start in range(0, objects, 50):
            batch = range(start, min(start + 50, objects))
            connection.sendall(
                b"".join(
                    f"GET /1000/{number} HTTP/1.1\r\nhost: bench.test\r\n\r\n".encode() for number in batch
                )
            )
            for _ in batch:
                while stream.readline() != b"\r\n":
                    pass
                stream.read(1_000)
    records = 'polycdn_cache_disk_records{kind="head"}'
    wait_for(lambda: one.metric(records) >= objects * 0.99, "the objects are on disk", 60)


def first_hit_s(one: Edge, objects: int, dice: Random) -> float:
    """From the process's start until an object came from the disk."""
    while True:
        number = dice.randrange(objects)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", one.port), 5) as connection:
            connection.sendall(
                f"GET /1000/{number} HTTP/1.1\r\nhost: bench.test\r\nconnection: close\r\n\r\n".encode()
            )
            received = b""
            while piece := connection.recv(65_536):
                received += piece
            if re.search(rb"cache-status: polycdn; hit", received):
                assert received.endswith(body_of(number, 0, 0, 1_000))
                return time.monotonic() - one.began


def restarts(objects: int, rounds: int, folder: str, dice: Random) -> dict[str, object]:
    """Part two."""
    words = ("--memory", "256MB", "--disk", f"{folder}:1GB")
    with origin(serve) as origin_port:
        with edge(origin_port, *words) as one:
            store(one, objects)
            one.kill()
        took_s = []
        for _ in range(rounds):
            with edge(origin_port, *words) as one:
                took_s.append(round(first_hit_s(one, objects, dice), 3))
                one.kill()
    return {"objects": objects, "first_hit_s": took_s}


def table(result: dict) -> str:
    killed, restarted = result["kills"], result["restarts"]
    took = sorted(restarted["first_hit_s"])
    return (
        f"Made by `{result['command']}` on {result['date'][:10]}: {who()}.\n\n"
        "| SIGKILL under load | answers checked | hits | records read from disk | changes | wrong |\n"
        "|---:|---:|---:|---:|---:|---:|\n"
        f"| {killed['kills']} | {killed['answers']:,} | {killed['hits']:,} | {killed['records_from_disk']:,} "
        f"| {killed['changes']:,} | {killed['wrong_number']} |\n\n"
        "| objects on disk | restarts after SIGKILL | start to first hit from disk, median | worst |\n"
        "|---:|---:|---:|---:|\n"
        f"| {restarted['objects']:,} | {len(took)} | {took[len(took) // 2]:.2f} s | {took[-1]:.2f} s |\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    dice = Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="polycdn-bench-") as folder:
        result = {
            "what": "the disk tier against SIGKILL, and its restart",
            "command": f"python bench/disk/run.py --kills {options.kills} --objects {options.objects}",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "kills": kills(options.kills, f"{folder}/killed", dice),
            "restarts": restarts(options.objects, options.restarts, f"{folder}/restarted", dice),
        }
    options.results.mkdir(exist_ok=True)
    (options.results / "disk.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.results / "disk.md").write_text(table(result))
    print(table(result))
    is_right = not result["kills"]["wrong_number"]
    is_quick = sorted(result["restarts"]["first_hit_s"])[options.restarts // 2] < FIRST_HIT_S
    return 0 if is_right and is_quick else 1


if __name__ == "__main__":
    sys.exit(main())
