"""The way from an emulated CDN to the origins: the first healthy one, over connections that are kept."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from polycdn.lab.exchange import Answer, Request, page
from polycdn.lab.http1 import (
    HOP_BY_HOP,
    STREAM_LIMIT_BYTES,
    EmptyError,
    Head,
    ProtocolError,
    TruncatedError,
    body_chunks,
    read_body,
    read_head,
    request_head,
)
from polycdn.model.topology import Endpoint
from polycdn.model.units import Clock

CONNECT_S_MAX: Final = 1
HEAD_S_MAX: Final = 5
BODY_BYTES_MAX: Final = 67_108_864
IDLE_MAX: Final = 64
SICK_MS: Final = 2_000
"""How long an origin that failed is asked last; real time."""

Failed = (OSError, ProtocolError, TruncatedError, EmptyError)


@dataclass(slots=True)
class Link:
    """One connection to an origin. `is_used`: it may have been closed on the other side in the meantime."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    is_used: bool = False


class Upstream:
    """One origin with its idle connections."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.sick_until_ms = 0
        self._idle: list[Link] = []
        self._context = ssl.create_default_context(cafile=endpoint.ca_file) if endpoint.tls else None

    async def fetch(self, request: Request, fields: Mapping[str, str]) -> Answer:
        """The origin's answer. A kept connection found dead is replaced once; a POST gets a new one."""
        link = self._kept() if request.method != "POST" else None
        if link is not None:
            try:
                return await self._ask(link, request, fields)
            except (ConnectionError, EmptyError, ProtocolError):
                link.writer.transport.abort()
        return await self._ask(await self._connect(), request, fields)

    def close(self) -> None:
        """Drops the idle connections."""
        for link in self._idle:
            link.writer.transport.abort()
        self._idle.clear()

    def _kept(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if not (link.reader.at_eof() or link.writer.is_closing()):
                return link
            link.writer.transport.abort()
        return None

    async def _connect(self) -> Link:
        endpoint = self.endpoint
        address = endpoint.addresses[0] if endpoint.addresses else endpoint.host
        async with asyncio.timeout(CONNECT_S_MAX):
            reader, writer = await asyncio.open_connection(
                address,
                endpoint.port,
                limit=STREAM_LIMIT_BYTES,
                ssl=self._context,
                server_hostname=endpoint.host if endpoint.tls else None,
            )
        return Link(reader, writer)

    async def _ask(self, link: Link, request: Request, fields: Mapping[str, str]) -> Answer:
        try:
            wanted = {"host": self.endpoint.host, **fields, "content-length": str(len(request.body))}
            link.writer.write(request_head(request.method, request.target, wanted) + request.body)
            async with asyncio.timeout(HEAD_S_MAX):
                await link.writer.drain()
                head = await read_head(link.reader)
            if head is None:
                raise EmptyError
            return await self._answer(link, request, head)
        except (*Failed, asyncio.CancelledError):
            link.writer.transport.abort()
            raise

    async def _answer(self, link: Link, request: Request, head: Head) -> Answer:
        fields = {name: value for name, value in head.fields.items() if name not in HOP_BY_HOP}
        if request.method == "HEAD" or head.status in (204, 304):
            self._keep(link, head)
            return Answer(head.status, fields)
        fields.pop("content-length", None)
        if head.length is None:
            return Answer(head.status, fields, stream=self._stream(link, head))
        async with asyncio.timeout(HEAD_S_MAX):
            body = await read_body(link.reader, head, is_answer=True, bytes_max=BODY_BYTES_MAX)
        self._keep(link, head)
        return Answer(head.status, fields, body)

    async def _stream(self, link: Link, head: Head) -> AsyncIterator[bytes]:
        is_whole = False
        try:
            async for chunk in body_chunks(link.reader, head, is_answer=True):
                yield chunk
            is_whole = head.is_chunked
        finally:
            if is_whole:
                self._keep(link, head)
            else:
                link.writer.transport.abort()

    def _keep(self, link: Link, head: Head) -> None:
        if head.is_last or len(self._idle) >= IDLE_MAX:
            link.writer.transport.abort()
        else:
            link.is_used = True
            self._idle.append(link)


class Origins:
    """All origins in order of preference."""

    def __init__(self, endpoints: tuple[Endpoint, ...], wall: Clock) -> None:
        self._upstreams = tuple(Upstream(endpoint) for endpoint in endpoints)
        self._wall = wall

    async def fetch(self, request: Request) -> Answer:
        """The first good answer; 502 when there is none. A POST that may have arrived is not sent again."""
        fields = {
            name: value
            for name, value in request.fields.items()
            if name not in HOP_BY_HOP and name not in ("host", "content-length", "range", "if-none-match")
        }
        answer = page(502, "502 Bad Gateway")
        for upstream in self._in_order():
            try:
                answer = await upstream.fetch(request, fields)
            except Failed as error:
                upstream.sick_until_ms = self._wall.now_ms() + SICK_MS
                if request.method == "POST" and not isinstance(error, ConnectionRefusedError):
                    break
                continue
            if answer.status < 500 or request.method == "POST":
                break
        return answer

    def close(self) -> None:
        """Drops all idle connections."""
        for upstream in self._upstreams:
            upstream.close()

    def _in_order(self) -> list[Upstream]:
        now_ms = self._wall.now_ms()
        return sorted(self._upstreams, key=lambda upstream: upstream.sick_until_ms > now_ms)
