"""No request is understood differently by the edge and by who stands behind it: our own origin, and nginx."""

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from alone import Alone, alone, free_port, is_open
from engine_process import poll
from providers import TIMEOUT_S, Exchange, Provider, read_to_end
from smuggling import CANARY_PATH, HOST, PAYLOADS, H, Payload, Read
from smuggling_h2 import STREAMS, Stream, until_over, wire

from polycdn.lab.exchange import Answer, Request
from polycdn.lab.injector import Injector
from polycdn.lab.server import Server
from polycdn.run.clock import Wall

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

ANSWER = b"ok"
PASSED_ON = b"\r\nvia: 1.1 polycdn\r\n"
"""What the edge adds to an answer that is not its own."""

BROKEN_OFF = {"400", "408", "499"}
"""How nginx logs a request that did not come whole."""


@dataclass
class LabOrigin:
    """The lab's own server, on a thread; `understood` is what it read."""

    understood: list[Read] = field(default_factory=list)
    port: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator["LabOrigin"]:
        loop = asyncio.new_event_loop()
        server = Server("127.0.0.1:0", self._answer, Injector("origin", Wall(), None, None))
        self.port = int(server.listen.rpartition(":")[2])
        task = loop.create_task(server.run())
        thread = threading.Thread(target=_until_cancelled, args=(loop, task), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(task.cancel)
            thread.join(TIMEOUT_S)
            loop.close()

    async def _answer(self, request: Request) -> Answer:
        self.understood.append(
            Read(request.method, request.target, bytes(request.body), request.fields.get("host", ""))
        )
        return Answer(200, {"cache-control": "no-store"}, ANSWER)


def _until_cancelled(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)


@dataclass
class Nginx:
    """nginx in front of a recorder: its log says what it read, the recorder which body that had."""

    folder: Path
    recorder: Provider
    port: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator["Nginx"]:
        self.port = free_port()
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, port=self.port, behind=self.recorder.port))
        words = ["nginx", "-p", str(self.folder), "-e", str(self.folder / "error.log"), "-c", str(config)]
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        try:
            poll(lambda: is_open(self.port), "nginx does not listen")
            yield self
        finally:
            process.terminate()
            process.wait(20)

    @property
    def understood(self) -> list[Read]:
        """Requests that nginx read whole, in order; one that it did not pass on has no known body."""
        lines = [line.split(" ") for line in (self.folder / "access.log").read_text().splitlines()]
        whole = [row for row in lines if row[0] not in BROKEN_OFF]
        behind = {(one.method, one.target): one for one in self.recorder.requests}
        assert all(row[2] != CANARY_PATH for row in lines), "nginx saw the canary"
        return [
            Read(method, target, found.body if (found := behind.get((method, target))) else None, host)
            for _status, method, target, host in whole
        ]


NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log error;
events {{ worker_connections 256; }}
http {{
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  log_format read '$status $request_method $request_uri $http_host'; access_log {folder}/access.log read;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_set_header Host $http_host; }}
  }}
}}
"""


def record(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 2\r\n\r\n" + ANSWER)


@dataclass
class Pair:
    """An edge and who stands behind it."""

    edge: Alone
    back: Any
    given_up: int = 0

    def attempts(self) -> int:
        """Requests that the edge says it forwarded."""
        _, text = self.edge.ask_admin("/metrics")
        rows = re.findall(r"^polycdn_provider_attempts_total\{.*\} (\d+)", text, re.MULTILINE)
        return sum(map(int, rows))


@pytest.fixture(scope="module", params=["our origin", "nginx"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        back: Any
        if request.param == "nginx":
            if not shutil.which("nginx"):
                pytest.skip("nginx is not installed; see `make peers`")
            recorder = stack.enter_context(Provider(record))
            back = stack.enter_context(Nginx(tmp_path_factory.mktemp("nginx"), recorder).running())
        else:
            back = stack.enter_context(LabOrigin().running())
        yield Pair(stack.enter_context(alone(back.port)), back)


def talk(edge: Alone, content: bytes) -> bytes:
    """All that comes back to a client that says this and no more."""
    with edge.connect() as connection:
        # The edge may have refused and closed before it was told all.
        with contextlib.suppress(ConnectionError):
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        return read_to_end(connection)


def seen_by(pair: Pair, read_before: int, answered: int) -> list[Read]:
    """What was understood behind the edge since then, once it is as much as the edge passed answers on."""
    poll(
        lambda: len(pair.back.understood) - read_before == answered,
        f"behind the edge {answered} requests are understood",
        5,
    )
    return list(pair.back.understood[read_before:])


def fits(read: Read, allowed: Read) -> bool:
    is_body = read.body is None or allowed.body is None or read.body == allowed.body
    return is_body and (read.method, read.target, read.host) == (allowed.method, allowed.target, allowed.host)


def test_there_are_enough_classes_and_each_has_a_name_of_its_own():
    assert len({payload.name for payload in PAYLOADS}) == len(PAYLOADS) >= 60
    assert len({stream.name for stream in STREAMS}) == len(STREAMS) >= 40


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)
def test_nobody_finds_a_request_that_the_edge_did_not_send(pair: Pair, payload: Payload):
    read_before = len(pair.back.understood)
    received = talk(pair.edge, payload.wire)
    seen = seen_by(pair, read_before, received.count(PASSED_ON))
    assert len(seen) <= len(payload.reads), f"understood as {seen}"
    assert all(map(fits, seen, payload.reads)), f"understood as {seen}"
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", received)]
    if len(seen) == len(payload.reads) > 0:
        assert statuses[: len(seen)] and max(statuses[: len(seen)]) < 500
    elif statuses:
        assert 400 <= statuses[-1] <= 505
        assert b"connection: close" in received.rpartition(b"HTTP/1.1 ")[2]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_fields_of_http2_never_become_lines_of_another_request(pair: Pair, stream: Stream):
    read_before = len(pair.back.understood)
    with pair.edge.connect() as connection:
        connection.sendall(wire(stream))
        _, body = until_over(connection)
    is_answered = body == ANSWER
    seen = seen_by(pair, read_before, 1) if is_answered else list(pair.back.understood[read_before:])
    # A stream that broke after its request was passed on: the edge counts no attempt that the client gave up.
    pair.given_up += len(seen) - int(is_answered)
    allowed = Read("POST", "/p", stream.body or b"", HOST)
    assert len(seen) <= 1
    assert all(fits(one, allowed) for one in seen), f"understood as {seen}"


def test_both_have_counted_the_same_after_all_of_them(pair: Pair):
    read_before = len(pair.back.understood)
    received = talk(pair.edge, b"GET /last HTTP/1.1\r\n" + H + b"\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")
    assert [one.target for one in seen_by(pair, read_before, 1)] == ["/last"]
    most = len(pair.back.understood)
    poll(lambda: most - pair.given_up <= pair.attempts() <= most, "the counts of the edge differ")
    assert all(one.target != CANARY_PATH for one in pair.back.understood)


def test_a_connection_is_not_used_again_after_an_answer_before_the_body():
    body = b"GET /canary HTTP/1.1\r\n" + H + b"\r\n"

    def answers_at_once(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

    with Provider(answers_at_once, reads_body=False) as hasty, alone(hasty.port) as edge:
        for _ in range(5):
            with edge.connect() as connection:
                connection.sendall(b"POST /p HTTP/1.1\r\n" + H + b"content-length: %d\r\n\r\n" % len(body))
                answer = connection.recv(1_000)
                assert answer.startswith(b"HTTP/1.1 403 ")
                with contextlib.suppress(ConnectionError):
                    connection.sendall(body)
            talk(edge, b"GET /next HTTP/1.1\r\n" + H + b"\r\n")
        assert {one.target for one in hasty.requests} == {"/p", "/next"}
