"""One burst of load on a server, by wrk, h2load or pull, and what the tool says of it."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from throughput.rows import Row, Tool

HERE = Path(__file__).parent
PATIENCE_S = 90
WRK_CONNECTIONS = 64
H2_CONNECTIONS, H2_STREAMS = 32, 10


@dataclass(frozen=True)
class Burst:
    """What the client saw. A latency is None where the tool does not tell it; `faults` are sentences."""

    requests: int
    body_bytes: int
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    worst_ms: float | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Client:
    """Where the tools and the objects are, how long a burst takes, and where a log may lie."""

    programs: Path
    files: Path
    seconds: int
    log: Path

    def burst(self, row: Row, port: int, path: str) -> Burst:
        """What the row's tool saw when it asked for the path on a port of loopback."""
        if row.tool is Tool.WRK:
            return self._wrk(row, port, path)
        return self._h2load(port, path) if row.tool is Tool.H2LOAD else self._pull(row, port, path)

    def _wrk(self, row: Row, port: int, path: str) -> Burst:
        url = f"{'https' if row.is_tls else 'http'}://127.0.0.1:{port}{path}"
        said = self._run(
            "wrk", "-t1", f"-c{WRK_CONNECTIONS}", f"-d{self.seconds}s", "-s", HERE / "wrk.lua",
            "-H", "Host: localhost", url,
        )  # fmt: skip
        burst = _told(json.loads(said.splitlines()[-1]))
        return _with_length(burst, (self.files / row.file).stat().st_size)

    def _h2load(self, port: int, path: str) -> Burst:
        self.log.unlink(missing_ok=True)
        said = self._run(
            "h2load", "-t1", f"-c{H2_CONNECTIONS}", f"-m{H2_STREAMS}", "-D", self.seconds,
            f"--log-file={self.log}", "-H", ":authority: localhost", f"https://127.0.0.1:{port}{path}",
        )  # fmt: skip
        burst = told_by_h2load(said, self.log.read_text(), self.seconds)
        return _with_length(burst, (self.files / path[1:]).stat().st_size)

    def _pull(self, row: Row, port: int, path: str) -> Burst:
        words = (port, path, self.files / row.file, "seconds", self.seconds, *row.words)
        return _told(json.loads(self._run(self.programs / "pull", *words)))

    def _run(self, *command: object) -> str:
        words, name = [str(word) for word in command], Path(str(command[0])).name
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=self.seconds + PATIENCE_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{name} did not end within {self.seconds + PATIENCE_S} s") from error
        if done.returncode or not done.stdout.strip():
            raise OSError(f"{name} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
        return done.stdout


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


def _told(words: dict[str, Any]) -> Burst:
    """What the line of JSON by wrk.lua or pull says."""
    why = words.pop("first_error", "status or socket")
    errors = words.pop("errors")
    return Burst(**words, faults=(f"{errors} errors, the first: {why}",) if errors else ())


def _with_length(burst: Burst, body_bytes: int) -> Burst:
    """A fault more when the answers cannot all have been as long as the object."""
    if burst.body_bytes >= burst.requests * body_bytes:
        return burst
    short = f"{burst.requests} answers of {body_bytes} bytes, but only {burst.body_bytes} bytes came"
    return replace(burst, faults=(*burst.faults, short))
