"""An HTTP/1.1 server, with or without TLS, that can be made to misbehave; origins and CDNs are made of it."""

import asyncio
import ssl
from dataclasses import dataclass, replace
from socket import AF_INET, IPPROTO_TCP, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, TCP_NODELAY, socket
from typing import Final

from polycdn.lab.exchange import LAB_KEY, Handler, Request
from polycdn.lab.fault import AT_CONNECTION, AT_REQUEST, Fault, FaultKind
from polycdn.lab.http1 import STREAM_LIMIT_BYTES, Head, ProtocolError, TruncatedError, read_body, read_head
from polycdn.lab.injector import Injector
from polycdn.lab.places import split_listen
from polycdn.lab.spoil import (
    BEFORE_ANSWER,
    INSTEAD,
    NO_HTTP,
    hang,
    reset,
    reset_stream,
    send,
    speak_plainly,
    talk_nonsense,
)
from polycdn.model.settings import Certificate

BACKLOG: Final = 1_024
ACCEPT_BATCH: Final = 64
HANDSHAKE_S_MAX: Final = 10
IDLE_S_MAX: Final = 60
FOLLOW_INTERVAL_S: Final = 0.025
REQUEST_BODY_BYTES_MAX: Final = 1_048_576
STILL_MATTER: Final = frozenset({FaultKind.REFUSE, FaultKind.HANG})
"""Of the faults of a connection, those that also hit one that was made before they began."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Contexts of a server; `expired` falls back to `good` when there is none."""

    good: ssl.SSLContext
    expired: ssl.SSLContext | None = None


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """A context for HTTP/1.1 with this certificate; no session tickets, as no client of the lab resumes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 0
    return context


class Server:
    """Accepts on one address and answers with `handler`, spoiled as the injector says."""

    def __init__(self, listen: str, handler: Handler, injector: Injector, tls: Tls | None = None) -> None:
        self._handler = handler
        self._injector = injector
        self._tls = tls
        self._accepted = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._socket = _bound(*split_listen(listen))
        self._address: tuple[str, int] = self._socket.getsockname()
        self._is_open = False

    @property
    def listen(self) -> str:
        """`address:port` as really bound."""
        return f"{self._address[0]}:{self._address[1]}"

    async def run(self) -> None:
        """Serves until cancelled; opens and closes the listener as the faults say."""
        self.follow()
        try:
            while True:
                await asyncio.sleep(FOLLOW_INTERVAL_S)
                self.follow()
        finally:
            self._close()
            self._socket.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def follow(self) -> None:
        """Reads the faults again and opens or closes the listener accordingly."""
        self._injector.reload()
        is_refusing = self._injector.is_refusing()
        if is_refusing and self._is_open:
            self._refuse()
        elif not is_refusing and not self._is_open:
            self._open()

    def _open(self) -> None:
        self._socket.listen(BACKLOG)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)
        self._is_open = True

    def _close(self) -> None:
        if self._is_open:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._is_open = False

    def _refuse(self) -> None:
        """Nobody listens any more, but the address stays ours: bound, not listening. Old connections die."""
        self._close()
        self._socket.close()
        self._socket = _bound(*self._address)
        for writer in self._writers:
            reset_stream(writer)

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                sock, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            sock.setblocking(False)
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            self._accepted += 1
            task = asyncio.get_running_loop().create_task(self._connection(sock, self._accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connection(self, sock: socket, number: int) -> None:
        own_key = f"connection/{number}"
        fault = self._injector.at(own_key, AT_CONNECTION)
        if fault is not None and fault.kind is not FaultKind.EXPIRED_CERT:
            await _misbehave(sock, fault)
            return
        try:
            reader, writer = await _streams(sock, self._context(fault))
        except OSError:
            sock.close()
            return
        self._writers.add(writer)
        try:
            requests = 0
            while await self._exchange(reader, writer, f"{own_key}/{requests}"):
                requests += 1
            writer.close()
        except (OSError, ProtocolError, TruncatedError):
            writer.transport.abort()
        finally:
            self._writers.discard(writer)
            if not writer.is_closing():
                writer.transport.abort()

    def _context(self, fault: Fault | None) -> ssl.SSLContext | None:
        if self._tls is None:
            return None
        return (self._tls.expired or self._tls.good) if fault else self._tls.good

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, own_key: str
    ) -> bool:
        """Answers one request; False when the connection is to be closed."""
        async with asyncio.timeout(IDLE_S_MAX):
            head = await read_head(reader)
            if head is None:
                return False
            request = await _request(reader, head, own_key)
        fault = self._injector.at(own_key.rpartition("/")[0], STILL_MATTER)
        fault = fault or self._injector.at(request.key, AT_REQUEST)
        if fault is not None and fault.kind is FaultKind.HANG:
            await _until_gone(reader)
            return False
        if fault is not None and fault.kind in (FaultKind.REFUSE, FaultKind.RESET):
            reset_stream(writer)
            return False
        if fault is not None and fault.kind in BEFORE_ANSWER:
            return False
        if fault is not None and fault.kind in NO_HTTP:
            await talk_nonsense(writer, NO_HTTP[fault.kind])
            return False
        is_usable = await self._answer(request, writer, fault)
        if fault is not None and fault.kind is FaultKind.STALL and not is_usable:
            await _until_gone(reader)
        return is_usable and not head.is_last

    async def _answer(self, request: Request, writer: asyncio.StreamWriter, fault: Fault | None) -> bool:
        """Asks the handler and sends what it says; False when the connection is of no more use."""
        kind = fault.kind if fault else None
        if kind is FaultKind.OTHER_VERSION:
            request = replace(request, is_other_version=True)
        instead = INSTEAD.get(kind) if kind else None
        answer = instead or await self._handler(request)
        if kind is FaultKind.LOST_ANSWER:
            return False
        return await send(writer, answer, fault, is_head=request.method == "HEAD")


async def _request(reader: asyncio.StreamReader, head: Head, own_key: str) -> Request:
    method, target, _ = head.first
    body = await read_body(reader, head, is_answer=False, bytes_max=REQUEST_BODY_BYTES_MAX)
    return Request(method, target, head.fields, body, head.fields.get(LAB_KEY, own_key))


async def _misbehave(sock: socket, fault: Fault) -> None:
    if fault.kind is FaultKind.HANG:
        await hang(sock)
    elif fault.kind is FaultKind.TLS:
        await speak_plainly(sock)
    else:
        reset(sock)
        sock.close()


async def _until_gone(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(IDLE_S_MAX):
        while await reader.read(4096):
            pass


async def _streams(
    sock: socket, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams on an accepted socket, the handshake done. Raises OSError, which ssl.SSLError is too."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=STREAM_LIMIT_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    timeout_s = HANDSHAKE_S_MAX if context else None
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol, sock, ssl=context, ssl_handshake_timeout=timeout_s
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _bound(address: str, port: int) -> socket:
    sock = socket(AF_INET, SOCK_STREAM)
    sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    sock.setblocking(False)
    try:
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock
