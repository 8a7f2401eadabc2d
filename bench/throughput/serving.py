"""Servers as processes: started on one CPU, weighed from /proc, ended with all their children."""

import http.client
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from throughput.asking import ask

PORTS = range(20_000, 32_000)
READY_S = 40
PATIENCE_S = 5
LOOK_EVERY_S = 0.001


class StartError(Exception):
    """A server that did not answer 200 in time, with the end of what it said."""


@dataclass(frozen=True)
class Site:
    """Where one server lives: a folder of its own, four free ports, and what all share.

    `has_tls` is whether our own programs were built with OpenSSL.
    """

    folder: Path
    http: int
    https: int
    third: int
    fourth: int
    origin: int
    files: Path
    programs: Path
    certificate: Path
    key: Path
    pem: Path
    has_tls: bool = True


@dataclass(frozen=True)
class Setup:
    """The commands of one server, each in the foreground. `beside` are those that only some rows need;
    `ports` has the rows that go to another port than http and https; `has_tls` is whether it has https."""

    commands: tuple[tuple[str, ...], ...]
    beside: tuple[tuple[str, ...], ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    has_tls: bool = True


@dataclass(frozen=True)
class Running:
    """A server that answers. `main` are the processes of its commands without those beside."""

    site: Site
    setup: Setup
    main: tuple[subprocess.Popen[bytes], ...]
    beside: tuple[subprocess.Popen[bytes], ...]
    start_ms: float

    def port(self, row: str, is_tls: bool) -> int:
        """Where the requests of a row go."""
        return self.setup.ports.get(row, self.site.https if is_tls else self.site.http)

    def cpu_ns(self) -> int:
        """CPU time of all its processes since their start, ended threads included."""
        return sum(_cpu_ns(pid) for pid in _tree(self.main + self.beside))

    def resident_kib(self) -> int:
        """Its memory, without the processes beside the main ones: the private pages of each process, and the
        shared ones of that which has most. Of a single process that is its resident set."""
        weighed = [_private_and_shared_kib(pid) for pid in _tree(self.main)]
        return sum(private for private, _ in weighed) + max(shared for _, shared in weighed)

    def dead(self) -> str | None:
        """A sentence if one of its processes has ended."""
        ended = [process for process in self.main + self.beside if process.poll() is not None]
        return f"ended with {ended[0].returncode}" if ended else None


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody had a moment ago, below those that the kernel gives to clients."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
    return found


@contextmanager
def favoured(nice: int) -> Iterator[None]:
    """This process and what it starts run at another nice value within the block; below 0 needs root.

    Where the kernel weighs sessions instead of processes (autogroup), the session's weight is set too.
    """
    group = Path("/proc/self/autogroup")
    has_group = nice != 0 and group.exists()
    before = group.read_text().split()[-1] if has_group else "0"
    os.nice(nice)
    if has_group:
        group.write_text(str(nice))
    try:
        yield
    finally:
        if has_group:
            group.write_text(before)


@contextmanager
def process(
    command: tuple[str, ...], cpu: int, log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on one CPU that ends with the block, and its children with it.

    It has a process group of its own, so that Ctrl-C reaches the benchmark alone, which then ends it.
    """
    with log.open("ab") as said:
        started = subprocess.Popen(
            ("taskset", "-c", str(cpu), *command), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            env={**os.environ, **environment}, process_group=0,
        )  # fmt: skip
    try:
        yield started
    finally:
        _end(started)


@contextmanager
def running(site: Site, setup: Setup, cpu: int, with_beside: bool = True) -> Iterator[Running]:
    """A server that has answered 200. Raises StartError."""
    log = site.folder / "said.log"
    with ExitStack() as stack:
        began = time.monotonic()
        main = [
            stack.enter_context(process(command, cpu, log, setup.environment)) for command in setup.commands
        ]
        beside: list[subprocess.Popen[bytes]] = []
        _wait_for(site.http, False, main, log)
        start_ms = (time.monotonic() - began) * 1e3
        if with_beside:
            beside = [
                stack.enter_context(process(command, cpu, log, setup.environment)) for command in setup.beside
            ]
            for port in sorted(set(setup.ports.values())):
                _wait_for(port, False, main + beside, log)
            if setup.has_tls:
                _wait_for(site.https, True, main + beside, log)
        yield Running(site, setup, tuple(main), tuple(beside), start_ms)


def _wait_for(port: int, is_tls: bool, processes: list[subprocess.Popen[bytes]], log: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and all(process.poll() is None for process in processes):
        with suppress(OSError, http.client.HTTPException):
            if ask(port, "/1k", is_tls).status == 200:
                return
        time.sleep(LOOK_EVERY_S)
    raise StartError(f"no 200 on port {port}; it said: {log.read_text(errors='replace')[-400:].strip()}")


def _tree(roots: tuple[subprocess.Popen[bytes], ...]) -> list[int]:
    """The processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)):
            children.setdefault(parent, []).append(int(entry.name))
    found, left = [], [process.pid for process in roots]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _cpu_ns(pid: int) -> int:
    """The kernel's clock of the process (clock_getcpuclockid(3)): nanoseconds; /proc/PID/stat has ticks."""
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)
    except OSError:
        return 0


def _private_and_shared_kib(pid: int) -> tuple[int, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return kib["Private_Clean"] + kib["Private_Dirty"], kib["Shared_Clean"] + kib["Shared_Dirty"]


def _end(started: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL for what is still there of it and its children."""
    family = [(pid, _began(pid)) for pid in _tree((started,))]
    started.terminate()
    with suppress(subprocess.TimeoutExpired):
        started.wait(PATIENCE_S)
    for pid, began in family:
        if began and _began(pid) == began:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    started.wait()


def _began(pid: int) -> str:
    """When a process started, so that a number used anew is not taken for the old one; "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
