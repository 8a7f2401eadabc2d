"""Sending an answer, well or badly: the actors of the fault library. fault.py decides what goes wrong."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from polycdn.lab.exchange import HTML, Answer, page
from polycdn.lab.fault import Fault, FaultKind
from polycdn.lab.http1 import CHUNK_BYTES, answer_head, framed

HANG_S_MAX: Final = 60
STREAM_PIECES_KEPT: Final = 5
"""A stream has no known half: this many pieces are sent before it dies or ends early."""

CORRUPT_STEP_BYTES: Final = 65_536
BEFORE_ANSWER: Final = frozenset({FaultKind.RESET, FaultKind.EMPTY_REPLY})
INSTEAD: Final = {
    FaultKind.HTTP_5XX: page(503, "503 Service Unavailable"),
    FaultKind.ERROR_PAGE: page(200, "Error 1101: worker threw exception"),
}
NO_HTTP: Final = {
    FaultKind.GARBAGE: (b"\x15\x03SSH-2.0 \x00\xff\r\n", 1),
    FaultKind.HEADER_BOMB: (
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %064d\r\n" % (n, n) for n in range(200)),
        100,
    ),
}
"""What is said instead of HTTP, and how often."""

CUT: Final = frozenset({FaultKind.DIE_MID_BODY, FaultKind.TRUNCATE, FaultKind.STALL})
PLAIN_TEXT: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"


def reset(sock: socket.socket) -> None:
    """Makes the next close of the socket a reset (SO_LINGER of 0)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset_stream(writer: asyncio.StreamWriter) -> None:
    """Resets a connection now; what was not sent yet is lost."""
    reset(writer.get_extra_info("socket"))
    writer.transport.abort()


async def hang(sock: socket.socket) -> None:
    """Says nothing on an accepted socket until the other side leaves, or a minute is over; closes it."""
    loop = asyncio.get_running_loop()
    with sock:
        try:
            async with asyncio.timeout(HANG_S_MAX):
                while await loop.sock_recv(sock, 4096):
                    pass
        except OSError:
            pass


async def speak_plainly(sock: socket.socket) -> None:
    """Answers a TLS handshake with plain text and closes."""
    loop = asyncio.get_running_loop()
    with sock:
        try:
            async with asyncio.timeout(HANG_S_MAX):
                await loop.sock_recv(sock, 4096)
                await loop.sock_sendall(sock, PLAIN_TEXT)
        except OSError:
            pass


async def talk_nonsense(writer: asyncio.StreamWriter, words: tuple[bytes, int]) -> None:
    """Says some bytes, several times, as long as they are taken."""
    content, times = words
    for _ in range(times):
        writer.write(content)
        await writer.drain()


async def send(writer: asyncio.StreamWriter, answer: Answer, fault: Fault | None, *, is_head: bool) -> bool:
    """Sends an answer as the fault has it; False when the connection is of no more use."""
    kind = fault.kind if fault else None
    if kind is not None and kind in ALTERED:
        answer = ALTERED[kind](answer)
    if fault is not None and kind is FaultKind.SLOW_FIRST_BYTE:
        await asyncio.sleep(fault.delay_ms / 1000)
    if is_head or answer.status == 304:
        writer.write(_head(answer))
        await writer.drain()
        return True
    if answer.stream is not None:
        return await _send_stream(writer, answer, answer.stream, fault)
    if kind in CUT:
        await _send_body(writer, answer, len(answer.body) // 2)
        return _end_early(writer, kind)
    if fault is not None and kind is FaultKind.SLOW_DRIP:
        writer.write(_head(answer))
        await _drip(writer, bytes(answer.body), fault.delay_ms)
        return True
    await _send_body(writer, answer, len(answer.body))
    return True


async def _send_body(writer: asyncio.StreamWriter, answer: Answer, stop: int) -> None:
    """Head and the first `stop` bytes; a small answer in one write, a large one in few."""
    head = _head(answer)
    if stop <= CHUNK_BYTES // 4:
        writer.write(head + answer.body[:stop])
        await writer.drain()
        return
    writer.write(head)
    view = memoryview(answer.body)
    for start in range(0, stop, CHUNK_BYTES):
        writer.write(view[start : min(start + CHUNK_BYTES, stop)])
        await writer.drain()
        if answer.bytes_per_s:
            await asyncio.sleep(CHUNK_BYTES / answer.bytes_per_s)


async def _send_stream(
    writer: asyncio.StreamWriter, answer: Answer, stream: AsyncIterator[bytes], fault: Fault | None
) -> bool:
    """Head and pieces as they come, chunked."""
    kind = fault.kind if fault else None
    ends_early = kind in CUT
    writer.write(_head(answer))
    sent = 0
    async with aclosing(stream):  # type: ignore[type-var]
        async for piece in stream:
            if ends_early and sent >= STREAM_PIECES_KEPT:
                return _end_early(writer, kind)
            if fault is not None and kind is FaultKind.SLOW_DRIP:
                await asyncio.sleep(fault.delay_ms / 1000)
            writer.write(framed(piece))
            await writer.drain()
            sent += 1
    writer.write(framed(b""))
    await writer.drain()
    return True


async def _drip(writer: asyncio.StreamWriter, body: bytes, delay_ms: int) -> None:
    for start in range(len(body)):
        writer.write(body[start : start + 1])
        await writer.drain()
        await asyncio.sleep(delay_ms / 1000)


def _end_early(writer: asyncio.StreamWriter, kind: FaultKind | None) -> bool:
    if kind is FaultKind.DIE_MID_BODY:
        reset_stream(writer)
    return False


def _head(answer: Answer) -> bytes:
    fields = dict(answer.fields)
    if answer.stream is not None:
        fields["transfer-encoding"] = "chunked"
    elif answer.status != 304:
        fields.setdefault("content-length", str(len(answer.body)))
    return answer_head(answer.status, fields)


def _corrupted(answer: Answer) -> Answer:
    if answer.stream is not None:
        return replace(answer, stream=_corrupted_stream(answer.stream))
    return replace(answer, body=_flipped(bytes(answer.body), CORRUPT_STEP_BYTES))


async def _corrupted_stream(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in stream:
        yield _flipped(piece, len(piece))


def _flipped(body: bytes, step_bytes: int) -> bytes:
    """The body with one bit wrong in the middle of each step; its length stays."""
    spoiled = bytearray(body)
    for start in range(0, len(body), step_bytes or 1):
        middle = (start + min(start + step_bytes, len(body))) // 2
        spoiled[middle] ^= 0x01
    return bytes(spoiled)


def _as_page(answer: Answer) -> Answer:
    return replace(answer, fields=answer.fields | {"content-type": HTML})


def _halved(answer: Answer) -> Answer:
    if answer.stream is not None:
        return replace(answer, stream=_first_pieces(answer.stream))
    return replace(answer, body=answer.body[: len(answer.body) // 2])


async def _first_pieces(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    sent = 0
    async with aclosing(stream):  # type: ignore[type-var]
        async for piece in stream:
            if sent == STREAM_PIECES_KEPT:
                return
            yield piece
            sent += 1


ALTERED: Final = {
    FaultKind.CORRUPT: _corrupted,
    FaultKind.WRONG_TYPE: _as_page,
    FaultKind.WRONG_LENGTH: _halved,
}
"""Faults that change an answer and leave its framing in order."""
