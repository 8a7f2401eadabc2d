"""An engine takes listening sockets over from another: nobody is refused, reset or left without an answer."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alone import alone, free_port
from dns_service import SETTINGS, Client, published
from engine_process import Engine, engine, poll
from providers import HOST, Provider, answer

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

HANDOVERS = 3
BODY = b"right" * 100


class Callers:
    """Clients in threads until the block ends: each counts its answers and notes whatever went wrong."""

    def __init__(self, *calls) -> None:
        self.wrongs: list[str] = []
        self.answers = [0] * len(calls)
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(index, call), daemon=True)
            for index, call in enumerate(calls)
        ]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, index: int, call) -> None:
        with contextlib.closing(call()) as calls:
            for is_right in calls:
                self.answers[index] += 1
                if is_right is not True:
                    self.wrongs.append(str(is_right))
                if self._is_over.is_set():
                    return

    def wait_for_more(self) -> None:
        """Until each client has got twenty answers more."""
        before = list(self.answers)
        poll(
            lambda: all(now >= then + 20 for now, then in zip(self.answers, before, strict=True)),
            f"more answers; wrong so far: {self.wrongs[:3]}",
        )


def fresh_connections(port: int):
    """A connection for each request."""

    def call() -> Iterator[object]:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            try:
                connection.request("GET", "/fresh", headers={"connection": "close", "host": HOST})
                got = connection.getresponse().read()
                is_right: object = got == BODY or f"body {got[:40]!r}"
            except (OSError, http.client.HTTPException) as error:
                is_right = repr(error)
            connection.close()
            yield is_right

    return call


def kept_connection(port: int):
    """One connection for as long as the server keeps it; a new one only when it said that it closes."""

    def call() -> Iterator[object]:
        # `http.client` connects again by itself when the answer before said that the connection closes.
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            while True:
                try:
                    connection.request("GET", "/kept", headers={"host": HOST})
                    body = connection.getresponse().read()
                    yield body == BODY or f"body {body[:40]!r}"
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    yield repr(error)

    return call


def edge_command(port: int, origin: int, *words: str) -> list[str]:
    return [
        *(sys.executable, "-m", "polycdn", "edge", "--listen", f"127.0.0.1:{port}", "--workers", "2"),
        *("--origin", f"http://127.0.0.1:{origin}", *words),
    ]


@contextlib.contextmanager
def kept_idle(port: int, origin: int) -> Iterator[tuple[subprocess.Popen, http.client.HTTPConnection]]:
    """An edge of two workers, and the one connection that a client keeps to it, idle after an answer."""
    edge = subprocess.Popen(edge_command(port, origin))
    try:
        poll(lambda: answers_at(port), "the edge does not answer")
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as kept:
            kept.request("GET", "/first")
            assert kept.getresponse().read() == BODY
            yield edge, kept
    finally:
        edge.kill()
        edge.wait(20)


def _workers(pid: int) -> int:
    """How many workers of an engine are still there, by the names of its threads."""
    return sum(
        name.read_text().startswith("polycdn-worker") for name in Path(f"/proc/{pid}/task").glob("*/comm")
    )


def answers_at(port: int) -> bool:
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection,
    ):
        connection.request("GET", "/", headers={"connection": "close"})
        return connection.getresponse().read() == BODY
    return False


@pytest.mark.alone
def test_clients_of_an_edge_notice_no_handover(tmp_path: Path) -> None:
    fields = "content-type: text/plain\r\ncache-control: max-age=60\r\n"
    with Provider(answer(BODY, fields=fields)) as origin:
        port = free_port()
        disk = ("--disk", f"{tmp_path}:32MB")
        processes = [subprocess.Popen(edge_command(port, origin.port, *disk))]
        try:
            poll(lambda: answers_at(port), "the first edge does not answer")
            calls = [fresh_connections(port), fresh_connections(port), *[kept_connection(port)] * 3]
            with Callers(*calls) as callers:
                for workers in ("3", "1", "2"):
                    callers.wait_for_more()
                    words = ("--take-over", "--workers", workers, *disk)
                    processes.append(subprocess.Popen(edge_command(port, origin.port, *words)))
                    assert processes[-2].wait(60) == 0
                callers.wait_for_more()
            assert callers.wrongs == []
            assert processes[-1].poll() is None
        finally:
            for process in processes:
                process.kill()
                process.wait(20)


def test_an_idle_connection_is_answered_once_more_though_another_worker_has_ended() -> None:
    with Provider(answer(BODY)) as origin:
        port = free_port()
        with kept_idle(port, origin.port) as (old, kept):
            new = subprocess.Popen(edge_command(port, origin.port, "--take-over"))
            try:
                poll(lambda: _workers(old.pid) == 1, "the worker without a connection has not ended")
                kept.request("GET", "/last")
                answered = kept.getresponse()
                assert (answered.read(), answered.will_close) == (BODY, True)
                assert old.wait(60) == 0
                assert answers_at(port)
            finally:
                new.kill()
                new.wait(20)


def test_a_request_that_comes_just_after_sigterm_is_answered_as_the_last() -> None:
    with Provider(answer(BODY)) as origin:
        port = free_port()
        with kept_idle(port, origin.port) as (edge, kept):
            edge.send_signal(signal.SIGTERM)
            poll(lambda: not answers_at(port), "the edge still takes connections")
            kept.request("GET", "/last")
            answered = kept.getresponse()
            assert (answered.read(), answered.will_close) == (BODY, True)
            assert edge.wait(60) == 0


def test_a_client_that_stays_silent_sees_an_orderly_end_and_keeps_no_drain_waiting() -> None:
    with Provider(answer(BODY)) as origin, kept_idle(free_port(), origin.port) as (edge, kept):
        edge.send_signal(signal.SIGTERM)
        assert kept.sock.recv(1) == b""
        assert edge.wait(60) == 0


def test_a_query_is_answered_by_the_old_nameserver_or_the_new_one() -> None:
    with engine("dns", dns=["127.0.0.1:0"], workers=2) as server:
        address = server.start()["listeners"]["dns"][0]
        server.apply(SETTINGS, published(1))
        retired = []

        def ask() -> Iterator[object]:
            while True:
                try:
                    got = Client(address).addresses("www.example.test")
                    yield bool(got) or "no address"
                except (OSError, TimeoutError) as error:
                    yield repr(error)

        with Callers(ask, ask) as callers:
            for _ in range(HANDOVERS):
                callers.wait_for_more()
                retired.append(server.process)
                hello = server.start(take_over=str(server.socket))
                assert hello["listeners"]["dns"] == [address]
                assert retired[-1].wait(30) == 0
            callers.wait_for_more()
        assert callers.wrongs == []
        assert [one["generation"] for one in server.say({"op": "status"})["services"]] == [1]
        for process in retired:
            process.communicate()


@pytest.fixture
def server() -> Iterator[Engine]:
    with engine("dns", dns=["127.0.0.1:0"]) as one:
        one.start()
        yield one


def handover(server: Engine) -> tuple[socket.socket, dict]:
    """A connection on which the sockets were asked for, and the answer; their descriptors are closed."""
    connection = server.connect()
    connection.sendall(b'{"op":"handover","from":0}\n')
    content, fds, _flags, _address = socket.recv_fds(connection, 65_536, 64)
    for fd in fds:
        socket.close(fd)
    told = json.loads(content)
    assert len(fds) == len(told["sockets"])
    return connection, told


def test_an_engine_serves_on_and_takes_orders_when_the_other_leaves_without_a_word(server: Engine) -> None:
    server.apply(SETTINGS, published(1))
    connection, told = handover(server)
    assert {one["kind"] for one in told["sockets"]} == {"lock", "dnsudp", "dnstcp"}
    refused = server.apply(SETTINGS, published(2))
    assert (refused["ok"], refused["retry"]) == (False, True)
    with server.connect() as second:
        second.sendall(b'{"op":"handover","from":0}\n')
        assert json.loads(second.recv(65_536))["retry"] is True
    connection.close()
    poll(lambda: server.apply(SETTINGS, published(2))["ok"], "orders are taken again")
    with server.connect() as stranger:
        stranger.sendall(b'{"op":"taken"}\n')
        assert json.loads(stranger.recv(65_536))["ok"] is False
    assert Client(server.say({"op": "hello"})["listeners"]["dns"][0]).addresses("www.example.test")


def test_one_that_cannot_start_leaves_the_old_one_serving(server: Engine) -> None:
    server.apply(SETTINGS, published(1))
    address = server.say({"op": "hello"})["listeners"]["dns"][0]
    old = server.process
    with socket.create_server(("127.0.0.1", 0)) as taken:
        here = f"127.0.0.1:{taken.getsockname()[1]}"
        server.launch(take_over=str(server.socket), dns=["127.0.0.1:0", here])
        assert server.process.wait(20) == 3
        assert here in server.process.communicate()[1].decode()
    server.process = old
    poll(lambda: server.apply(SETTINGS, published(2))["ok"], "the old one takes orders")
    assert Client(address).addresses("www.example.test")


def test_with_nobody_to_take_over_from_it_starts_as_usual(server: Engine) -> None:
    server.stop(signal.SIGKILL)
    server.start(take_over=str(server.socket))
    assert server.say({"op": "status"})["ok"]
    assert server.stop() == 0
    assert not server.socket.exists()


def test_a_download_goes_on_in_the_old_process_while_the_new_one_serves() -> None:
    release = threading.Event()

    def behave(exchange) -> None:
        if exchange.target == "/slow":
            exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nold")
            release.wait(60)
            exchange.send(b"end")
        else:
            answer(BODY)(exchange)

    with Provider(behave) as origin, alone(origin.port) as old, old.connect() as download:
        download.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        got = download.recv(65_536)
        new = subprocess.Popen(edge_command(old.port, origin.port, "--take-over"))
        try:
            poll(lambda: f"127.0.0.1:{old.port}" not in _listeners(old.process.pid), "the old one let go")
            assert answers_at(old.port)
            assert old.process.poll() is None
            release.set()
            while not got.endswith(b"oldend"):
                piece = download.recv(65_536)
                assert piece, got
                got += piece
            assert old.process.poll() is None
            download.close()
            assert old.process.wait(60) == 0
        finally:
            new.kill()
            new.wait(20)


def test_a_purge_reaches_the_process_that_still_finishes_what_it_has() -> None:
    fields = "content-type: text/plain\r\ncache-control: max-age=60\r\n"
    with (
        Provider(answer(BODY, fields=fields)) as origin,
        alone(origin.port) as old,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", old.port, timeout=20)) as kept,
    ):
        kept.request("GET", "/kept")
        assert kept.getresponse().read() == BODY
        token = Path(old.token_file).read_text().strip()
        admin = ("--admin", f"127.0.0.1:{old.admin}", "--admin-token-file", old.token_file)
        new = subprocess.Popen(edge_command(old.port, origin.port, "--take-over", *admin))
        try:
            poll(lambda: f"127.0.0.1:{old.admin}" not in _listeners(old.process.pid), "the old one let go")
            poll(lambda: answers_at(old.port), "the new one answers")
            order = json.dumps({"url": f"http://127.0.0.1:{old.port}/kept"}).encode()
            assert old.ask_admin("/api/v1/purge", "POST", order, authorization=f"Bearer {token}")[0] == 200
            kept.request("GET", "/kept")
            answered = kept.getresponse()
            assert answered.read() == BODY
            assert "hit" not in answered.headers["cache-status"]
            assert answered.will_close
            assert old.process.wait(60) == 0
        finally:
            new.kill()
            new.wait(20)


def _listeners(pid: int) -> set[str]:
    """The loopback ports on which a process listens, by /proc."""
    inodes = {
        link.split("[")[1].rstrip("]")
        for fd in Path(f"/proc/{pid}/fd").iterdir()
        if (link := _target(fd)).startswith("socket:[")
    }
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        f"127.0.0.1:{int(row[1].split(':')[1], 16)}" for row in rows if row[3] == "0A" and row[9] in inodes
    }


def _target(fd: Path) -> str:
    with contextlib.suppress(OSError):
        return str(fd.readlink())
    return ""
