"""A running `polycdn edge` and an origin for it, for benches: started, watched from outside, ended."""

import contextlib
import http.client
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

START_S = 30
MIB = 1 << 20


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_for(ask: Callable[[], bool], what: str, limit_s: float = START_S) -> None:
    deadline = time.monotonic() + limit_s
    while not ask():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {limit_s} s")
        time.sleep(0.002)


@dataclass
class Edge:
    """One process; `began` is the moment before it was started."""

    process: subprocess.Popen[bytes]
    port: int
    admin: int
    began: float

    def resident_bytes(self) -> int:
        """What the kernel counts for it (VmRSS)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0

    def metric(self, sample: str) -> float:
        """0 when there is none of that name."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=30)
        connection.request("GET", "/metrics")
        rows = connection.getresponse().read().decode().splitlines()
        connection.close()
        values = [row.rsplit(" ", 1)[1] for row in rows if row.rsplit(" ", 1)[0] == sample]
        return float(values[0]) if values else 0.0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def edge(origin_port: int, *words: str, port: int = 0) -> Iterator[Edge]:
    """An edge in front of that origin; killed at the end if it still runs."""
    port, admin = port or free_port(), free_port()
    command = [sys.executable, "-m", "polycdn", "edge", "--origin", f"http://127.0.0.1:{origin_port}"]
    command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", *words]
    began = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: is_open(port), "the edge listens")
        yield Edge(process, port, admin, began)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def origin(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of an origin in a process of its own, where `serve` gets each new connection in a thread."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        # fork: a listener and a function are handed over as they are.
        child = multiprocessing.get_context("fork").Process(
            target=_accept, args=(listener, serve), daemon=True
        )
        child.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            child.kill()
            child.join()


def _accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.stack_size(256 * 1024)
    while True:
        connection, _address = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_served, args=(connection, serve), daemon=True).start()


def _served(connection: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    # The edge may break off at any moment; os._exit would end the others too.
    with contextlib.suppress(OSError, ValueError), connection:
        serve(connection)


def heads(connection: socket.socket) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Method, target and fields of each request without a body on a connection."""
    with connection.makefile("rb") as stream:
        while line := stream.readline().decode("latin-1"):
            method, target, _version = line.split()
            fields = {}
            while row := stream.readline().decode("latin-1").rstrip("\r\n"):
                name, _, value = row.partition(":")
                fields[name.lower()] = value.strip()
            yield method, target, fields


def span_of(fields: dict[str, str], length: int) -> tuple[int, int] | None:
    """What a Range of one span wants: from, and up to."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", fields.get("range", ""))
    if not found:
        return None
    if not found[1]:
        return max(length - int(found[2]), 0), length
    return int(found[1]), min(int(found[2]) + 1 if found[2] else length, length)


def open_files_max() -> int:
    """Lets this process have as many connections as it may; how many that are."""
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def mib(size_bytes: float) -> str:
    return f"{size_bytes / MIB:.1f} MiB"


def cores() -> int:
    return os.cpu_count() or 1
