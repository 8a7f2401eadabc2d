"""`polycdn edge` as one command, for tests: free ports, a file for what it says, and its end."""

import contextlib
import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine_process import START_S, poll
from providers import TIMEOUT_S, read_to_end


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@dataclass
class Alone:
    """A running edge; `admin` is its admin port, `tls_port` 0 without TLS."""

    process: subprocess.Popen[bytes]
    port: int
    tls_port: int
    admin: int
    token_file: str

    def raw(self, content: bytes) -> bytes:
        """All that comes back on a connection of its own until the edge closes it."""
        with self.connect() as connection:
            connection.sendall(content)
            return read_to_end(connection)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)

    def ask_admin(
        self, path: str, method: str = "GET", body: bytes | None = None, **fields: str
    ) -> tuple[int, str]:
        """Status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=TIMEOUT_S)
        connection.request(method, path, body, fields)
        answer = connection.getresponse()
        content = answer.read().decode()
        connection.close()
        return answer.status, content

    def metric(self, line: str) -> float:
        """The value of a sample, named with its labels; 0 if it is not there."""
        _, text = self.ask_admin("/metrics")
        found = [row.rsplit(" ", 1)[1] for row in text.splitlines() if row.rsplit(" ", 1)[0] == line]
        return float(found[0]) if found else 0.0

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


@contextlib.contextmanager
def alone(
    *origin_ports: int, words: tuple[str, ...] = (), tls: Any = None, patience_s: float = START_S
) -> Iterator[Alone]:
    """One command in front of these origins, ended at the end; `tls` is (cert file, key file)."""
    port, admin, tls_port = free_port(), free_port(), free_port() if tls else 0
    command = [sys.executable, "-m", "polycdn", "edge", "--listen", f"127.0.0.1:{port}"]
    command += ["--admin", f"127.0.0.1:{admin}", "--workers", "1"]
    for origin in origin_ports:
        command += ["--origin", f"http://127.0.0.1:{origin}"]
    if tls:
        command += ["--listen-tls", f"127.0.0.1:{tls_port}", "--cert", tls[0], "--key", tls[1]]
    process = subprocess.Popen([*command, *words], stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        first = process.stderr.readline().decode()
        poll(lambda: is_open(admin), f"the edge does not listen; it said {first!r}", patience_s)
        yield Alone(process, port, tls_port, admin, first.split()[-1] if first else "")
    finally:
        process.kill()
        process.communicate(timeout=120)
