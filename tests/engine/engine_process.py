"""A real engine process and its control socket, for tests."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from polycdn.model.settings import PublishedPlan, Settings
from polycdn.model.wire import canonical, digest

START_S = 60


class Engine:
    """One engine with a folder of its own; `start` again after `stop` is a restart on the same state."""

    def __init__(self, role: str, folder: Path, **config: Any) -> None:
        self.role = role
        self.folder = folder
        self.socket = folder / "s"
        self.config = {
            "format": "polycdn/engine/1",
            "engine": "e1",
            "state_dir": str(folder / "state"),
            "socket": str(self.socket),
            **config,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **config: Any) -> dict[str, Any]:
        """Its answer to `hello`, once it serves."""
        self.launch(**config)
        return poll(self.hello_if_up, f"{self.role} does not answer")

    def launch(self, **config: Any) -> None:
        file = self.folder / "config.json"
        file.write_text(json.dumps({**self.config, **config}))
        words = [sys.executable, "-m", "polycdn.run.engine", self.role, str(file)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE)

    def hello_if_up(self) -> dict[str, Any] | None:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"ended: {self.process.communicate()[1].decode()}")
        with contextlib.suppress(OSError):
            answer = self.say({"op": "hello"})
            return answer if answer["pid"] == self.process.pid else None
        return None

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal_number)
        self.process.communicate(timeout=120)
        code, self.process = self.process.returncode, None
        return code

    def say(self, word: dict[str, Any]) -> dict[str, Any]:
        """The answer to one word, on a connection of its own."""
        with self.connect() as connection, connection.makefile("rwb") as stream:
            stream.write(json.dumps(word).encode() + b"\n")
            stream.flush()
            return json.loads(stream.readline())

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        try:
            connection.connect(str(self.socket))
        except OSError:
            connection.close()
            raise
        return connection

    def service_folder(self, service: str) -> Path:
        return self.folder / "state" / "engines" / "e1" / service

    def write(self, settings: Settings, published: PublishedPlan) -> None:
        """Puts the pair where the engine looks for a candidate."""
        folder = self.service_folder(published.plan.service)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"settings-{digest(settings)}.json").write_bytes(canonical(settings))
        (folder / "candidate.json").write_bytes(canonical(published))

    def apply(self, settings: Settings, published: PublishedPlan) -> dict[str, Any]:
        self.write(settings, published)
        return self.say({"op": "apply", "service": published.plan.service})


@contextlib.contextmanager
def engine(role: str, **config: Any) -> Iterator[Engine]:
    """An engine that is not started yet, ended at the end. Its folder has a short path, as sockets need."""
    with tempfile.TemporaryDirectory(prefix="polycdn-") as folder:
        one = Engine(role, Path(folder), **config)
        try:
            yield one
        finally:
            one.stop(signal.SIGKILL)


def poll(ask: Callable[[], Any], what: str, limit_s: float = START_S) -> Any:
    """The first true answer; AssertionError after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"{what} within {limit_s} s")


def open_files(pid: int) -> int:
    """How many file descriptors a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
