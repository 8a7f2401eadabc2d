"""Servers that fail in one well-known way each, on a free loopback port."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


class Misbehaving:
    """One listening server. `behave` gets each request's head; `heads` and `connections` are what came."""

    def __init__(self, behave: Behave, tls: tuple[str, str] | None = None, alpn: str = "http/1.1") -> None:
        self._behave = behave
        self._alpn = alpn
        self._tls = tls
        self.heads: list[bytes] = []
        self.server_names: list[str | None] = []
        self.connections = 0
        self.port = 0

    async def __aenter__(self) -> "Misbehaving":
        context = None
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._tls)
            context.set_alpn_protocols([self._alpn])
            context.sni_callback = lambda _ssl, name, _context: self.server_names.append(name)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        with contextlib.suppress(
            ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError
        ):
            try:
                while not reader.at_eof():
                    if self._alpn == "h2":
                        await speak_h2(reader, writer)
                        continue
                    head = await reader.readuntil(b"\r\n\r\n")
                    self.heads.append(head)
                    await self._behave(reader, writer, head)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    await writer.wait_closed()


def answer(
    body: bytes = b"hello", status: str = "200 OK", fields: str = "content-type: text/plain\r\n"
) -> Behave:
    """Answers everything alike and keeps the connection."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _head: bytes) -> None:
        writer.write(f"HTTP/1.1 {status}\r\n{fields}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return behave


def raw(content: bytes, *, then: str = "close") -> Behave:
    """Sends bytes as they are, then closes, resets or hangs."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _head: bytes) -> None:
        writer.write(content)
        await writer.drain()
        if then == "hang":
            await asyncio.Event().wait()
        if then == "reset":
            plain = writer.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        raise ConnectionAbortedError

    return behave


def late(delay_s: float, body: bytes = b"hello") -> Behave:
    """A good answer whose first byte comes late."""
    good = answer(body)

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        await asyncio.sleep(delay_s)
        await good(reader, writer, head)

    return behave


async def speak_h2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Just enough HTTP/2 (RFC 9113 §4.1) to answer every request with 200 and "hello"."""
    settings, headers, data, ack, end_stream, end_headers = 4, 1, 0, 1, 1, 4
    await reader.readexactly(len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))

    def send(kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        writer.write(
            len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
        )

    send(settings, 0, 0)
    while True:
        head = await reader.readexactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big")
        await reader.readexactly(length)
        if kind == settings and not flags & ack:
            send(settings, ack, 0)
        if kind == headers:
            send(headers, end_headers, stream, b"\x88")  # :status 200, RFC 7541 appendix A
            send(data, end_stream, stream, b"hello")
        await writer.drain()
