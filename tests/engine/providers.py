"""Small HTTP/1.1 providers that do exactly what a test says, and an edge in front of them."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from engine_process import Engine, engine

from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.settings import Limits, PublishedPlan, Settings, Upstream
from polycdn.model.topology import Endpoint, ProviderKind, Region
from polycdn.model.wire import digest

HOST = "www.example.test"
TIMEOUT_S = 60


class Hangup(Exception):
    """A behaviour is done with its connection."""


@dataclass
class Exchange:
    """One request as a provider got it; `send` answers in bytes."""

    connection: socket.socket
    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes
    number: int

    def value(self, name: str) -> str | None:
        """All values of a field, joined; None if it is not there."""
        values = [value for key, value in self.fields if key == name.lower()]
        return ", ".join(values) if values else None

    def send(self, content: bytes) -> None:
        self.connection.sendall(content)

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Hangup

    def hang(self) -> None:
        """Says nothing until the other side gives up."""
        with contextlib.suppress(OSError):
            self.connection.recv(1)
        raise Hangup


Behave = Callable[[Exchange], None]


def answer(
    body: bytes = b"good", status: str = "200 OK", fields: str = "content-type: text/plain\r\n"
) -> Behave:
    """Answers everything alike and keeps the connection."""
    return says(f"HTTP/1.1 {status}\r\n{fields}content-length: {len(body)}\r\n\r\n".encode() + body)


def says(content: bytes, close: bool = False) -> Behave:
    """Sends these bytes for every request."""

    def behave(exchange: Exchange) -> None:
        exchange.send(content)
        if close:
            raise Hangup

    return behave


def hangs(exchange: Exchange) -> None:
    exchange.hang()


def resets(exchange: Exchange) -> None:
    exchange.reset()


@dataclass
class Provider:
    """One listening provider; `requests` are those that came whole."""

    behave: Behave
    certificate: tuple[str, str] | None = None
    reads_body: bool = True
    requests: list[Exchange] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    def __enter__(self) -> "Provider":
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def open_number(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def close(self) -> None:
        """No more connections, and those that are open end; may be called twice."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT_S)

    def _accept(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        # ValueError: the edge broke off in the middle of a request.
        try:
            with contextlib.suppress(OSError, Hangup, ValueError):
                if self.certificate:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(*self.certificate)
                    connection = context.wrap_socket(connection, server_side=True)
                self._open.add(connection)
                with connection.makefile("rb") as stream:
                    while exchange := self._read(connection, stream, number):
                        self.requests.append(exchange)
                        self.behave(exchange)
        finally:
            self._open.discard(connection)
            connection.close()

    def _read(self, connection: socket.socket, stream: Any, number: int) -> Exchange | None:
        line = stream.readline().decode()
        if not line:
            return None
        method, target, _version = line.split()
        fields = []
        while (row := stream.readline().decode("latin-1").rstrip("\r\n")) != "":
            name, value = row.split(":", 1)
            fields.append((name.lower(), value.strip()))
        found = dict(fields)
        body = b""
        if self.reads_body:
            if "content-length" in found:
                body = stream.read(int(found["content-length"]))
            elif found.get("transfer-encoding") == "chunked":
                while size := int(stream.readline(), 16):
                    body += stream.read(size)
                    stream.readline()
                stream.readline()
        return Exchange(connection, method, target, fields, body, number)


def upstream(name: str, port: int, **endpoint: Any) -> Upstream:
    """A CDN on loopback, without TLS unless `endpoint` says otherwise."""
    addresses = ("127.0.0.1",)
    return Upstream(
        name, ProviderKind.CDN, Endpoint(HOST, port, **{"tls": False, "addresses": addresses, **endpoint})
    )


def refused_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


QUICK = Limits(
    connect_timeout_ms=1_000, first_byte_timeout_ms=400, idle_timeout_ms=1_000, client_head_timeout_ms=800
)


def settings(*upstreams: Upstream, limits: Limits = QUICK, **more: Any) -> Settings:
    """A service `www` with these upstreams."""
    return Settings("www", more.pop("hostnames", (HOST,)), upstreams, limits=limits, **more)


def published(
    one: Settings, generation: int = 1, orders: dict[str, tuple[str, ...]] | None = None
) -> PublishedPlan:
    """A plan that tries the upstreams in their order, everywhere unless `orders` has the region."""
    names = tuple(upstream.name for upstream in one.upstreams)
    rows = []
    for region in one.regions or (Region(),):
        order = (orders or {}).get(region.name, names)
        rows.append(RegionPlan(region.name, ((order[0], 10_000),), order, 60))
    return PublishedPlan(
        Plan(one.service, generation, generation - 1, 1_700_000_000_000, tuple(rows)), digest(one)
    )


@dataclass
class Edge:
    """A running edge; `port` speaks plain HTTP, `tls_port` TLS."""

    process: Engine
    port: int
    tls_port: int
    generation: int = 0

    def serve(self, one: Settings, orders: dict[str, tuple[str, ...]] | None = None) -> None:
        """Makes this the service in force."""
        self.generation += 1
        applied = self.process.apply(one, published(one, self.generation, orders))
        assert applied["ok"], applied

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)

    def raw(self, content: bytes) -> bytes:
        """All that comes back on a connection of its own until the edge closes it."""
        with self.connect() as connection:
            connection.sendall(content)
            return read_to_end(connection)

    def counts(self, since_ms: int = 0) -> list[dict[str, Any]]:
        return list(self.process.say({"op": "counts", "since_ms": since_ms})["counts"])

    def served(self) -> list[dict[str, Any]]:
        return list(self.process.say({"op": "counts", "since_ms": 0})["served"])


@contextlib.contextmanager
def edge(**config: Any) -> Iterator[Edge]:
    """An edge on free ports, without services."""
    with engine("edge", http=["127.0.0.1:0"], https=["127.0.0.1:0"], **config) as process:
        listeners = process.start()["listeners"]
        ports = [int(listeners[kind][0].rsplit(":", 1)[1]) for kind in ("http", "https")]
        yield Edge(process, ports[0], ports[1])


def read_to_end(connection: socket.socket) -> bytes:
    """Bytes until the other side closes; a reset ends it too."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            received += piece
    return bytes(received)


def get(target: str = "/", fields: str = "connection: close\r\n", method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nhost: {HOST}\r\n{fields}\r\n".encode()


@dataclass
class Reply:
    """An answer of the edge, taken apart by the simplest means."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def value(self, name: str) -> str | None:
        values = [value for key, value in self.fields if key == name.lower()]
        return ", ".join(values) if values else None


def parse(content: bytes) -> Reply:
    """The reply in the bytes of a connection that was closed after it. The body is left in its framing."""
    head, _, body = content.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
    return Reply(int(lines[0].split()[1]), fields, body)
