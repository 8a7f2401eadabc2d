"""One burst of load on a server, by wrk, h2load or pull, and what the tool says of it."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from throughput.rows import Row, Tool

HERE = Path(__file__).parent
PATIENCE_S = 90
REST_S, LOOK_EVERY_S = 0.5, 0.005
WRK_CONNECTIONS = 64
H2_CONNECTIONS, H2_STREAMS = 32, 10


@dataclass(frozen=True)
class Burst:
    """What the client saw, and the server's CPU time meanwhile. `faults` are sentences."""

    requests: int
    body_bytes: int
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    worst_ms: float | None = None
    faults: tuple[str, ...] = ()
    cpu_ns: int = 0


Clock = Callable[[], int]
"""CPU time of a server so far, in nanoseconds."""


@dataclass(frozen=True)
class Client:
    """Where the tools and the objects are, how long a burst takes, and where a log may lie.

    A handshake costs as much as many requests, and a short burst would measure it: where there is TLS, the
    CPU time for setting up the connections is left out.
    """

    programs: Path
    files: Path
    seconds: int
    log: Path

    def burst(self, row: Row, port: int, path: str, clock: Clock) -> Burst:
        """What the row's tool saw when it asked for the path on a port of loopback. Raises OSError."""
        if row.tool is Tool.WRK:
            return self._wrk(row, port, path, clock)
        if row.tool is Tool.H2LOAD:
            return self._h2load(row, port, path, clock)
        return self._pull(row, port, path, clock)

    def _wrk(self, row: Row, port: int, path: str, clock: Clock) -> Burst:
        before_ns = clock()
        said = self._run(
            "wrk", "-t1", f"-c{WRK_CONNECTIONS}", f"-d{self.seconds}s", "-s", HERE / "wrk.lua",
            "-H", "Host: localhost", f"http://127.0.0.1:{port}{path}",
        )  # fmt: skip
        burst = replace(_told(said), cpu_ns=clock() - before_ns)
        return _with_length(burst, (self.files / row.file).stat().st_size)

    def _h2load(self, row: Row, port: int, path: str, clock: Clock) -> Burst:
        """A run of one request on each connection is taken off the one that counts."""
        url = f"https://127.0.0.1:{port}{path}"
        common = ("-t1", f"-c{H2_CONNECTIONS}", "-H", ":authority: localhost", url)
        times_ns = [clock()]
        self._run("h2load", f"-n{H2_CONNECTIONS}", *common)
        times_ns.append(clock())
        self.log.unlink(missing_ok=True)
        said = self._run("h2load", f"-m{H2_STREAMS}", "-D", self.seconds, f"--log-file={self.log}", *common)
        times_ns.append(clock())
        burst = told_by_h2load(said, self.log.read_text(), self.seconds)
        burst = _with_length(burst, (self.files / row.file).stat().st_size)
        cpu_ns = times_ns[2] - 2 * times_ns[1] + times_ns[0]
        return replace(burst, requests=max(burst.requests - H2_CONNECTIONS, 0), cpu_ns=cpu_ns)

    def _pull(self, row: Row, port: int, path: str, clock: Clock) -> Burst:
        """The clock is read when the connections stand and pull waits for a line to begin."""
        words = (port, path, self.files / row.file, "seconds", self.seconds, *row.words)
        command = [str(word) for word in (self.programs / "pull", *words)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as pull:
            assert pull.stdout
            is_ready = pull.stdout.readline() == "ready\n"
            before_ns = _rested_ns(clock)
            said = self._said("pull", pull, "\n" if is_ready else "")
        return replace(_told(said), cpu_ns=clock() - before_ns)

    def _run(self, *command: object) -> str:
        words, pipe = [str(word) for word in command], subprocess.PIPE
        with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) as started:
            return self._said(words[0], started)

    def _said(self, name: str, started: "subprocess.Popen[str]", line: str | None = None) -> str:
        """All that it prints until it ends. Raises OSError when it takes too long, fails or is silent."""
        try:
            said, complaint = started.communicate(line, timeout=self.seconds + PATIENCE_S)
        except BaseException as error:
            started.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise OSError(f"{name} did not end within {self.seconds + PATIENCE_S} s") from error
            raise
        if started.returncode or not said.strip():
            raise OSError(f"{name} ended with {started.returncode}: {complaint.strip()[-200:]}")
        return said


def missing(tool: Tool) -> str | None:
    """A sentence when the tool of a row is not installed; pull is compiled by the benchmark itself."""
    if tool in (Tool.WRK, Tool.H2LOAD) and not shutil.which(tool.value):
        return f"{tool.value} is not installed (`make peers`)"
    return None


def told_by_h2load(said: str, log: str, seconds: float) -> Burst:
    """What h2load's report and its log (start, status, microseconds; a request a line) say."""
    lines = [line.split("\t") for line in log.splitlines()]
    times_ms = sorted(int(line[2]) / 1e3 for line in lines if line[1] == "200")
    count = len(times_ms)
    if not count:
        return Burst(0, 0, seconds, faults=("no request was answered with 200",))
    faults = tuple(
        f"{words} {what}" for words, what in re.findall(r"(\d+) (failed|errored|timeout)", said) if int(words)
    )
    if len(lines) != count:
        faults += (f"{len(lines) - count} answers were not 200",)
    if "Application protocol: h2" not in said:
        faults += ("not HTTP/2",)
    told = re.search(r"traffic: .*? total, .*? headers .*?\((\d+)\) data", said)
    body_bytes = int(told.group(1)) if told else 0
    return Burst(
        count, body_bytes, seconds, times_ms[count // 2], times_ms[count * 99 // 100], times_ms[-1], faults
    )  # fmt: skip


def _rested_ns(clock: Clock) -> int:
    """The clock when the server has nothing left to do, such as the tickets that follow a handshake."""
    end, now_ns = time.monotonic() + REST_S, clock()
    while time.monotonic() < end:
        time.sleep(LOOK_EVERY_S)
        before_ns, now_ns = now_ns, clock()
        if now_ns == before_ns:
            break
    return now_ns


def _told(said: str) -> Burst:
    """What the line of JSON by wrk.lua or pull says."""
    words: dict[str, Any] = json.loads(said.splitlines()[-1])
    why = words.pop("first_error", "status or socket")
    errors = words.pop("errors")
    return Burst(**words, faults=(f"{errors} errors, the first: {why}",) if errors else ())


def _with_length(burst: Burst, body_bytes: int) -> Burst:
    """A fault more when the answers cannot all have been as long as the object."""
    if burst.body_bytes >= burst.requests * body_bytes:
        return burst
    short = f"{burst.requests} answers of {body_bytes} bytes, but only {burst.body_bytes} bytes came"
    return replace(burst, faults=(*burst.faults, short))
