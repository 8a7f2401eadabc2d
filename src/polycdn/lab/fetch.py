"""One request of a client: a fresh connection, a strict look at the answer, no second try."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from polycdn.lab.http1 import (
    STREAM_LIMIT_BYTES,
    Head,
    ProtocolError,
    TruncatedError,
    body_chunks,
    read_head,
    request_head,
)
from polycdn.model.observation import Reason
from polycdn.model.units import Clock

CERTIFICATE_HAS_EXPIRED: Final = 10
"""X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is sent, and how long it may take in real time: until the head, and then until the end."""

    method: str
    target: str
    fields: dict[str, str]
    body: bytes = b""
    first_byte_ms: int = 5_000
    rest_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class Site:
    """Where the service is asked, besides the address: port, name and whom to trust (None = without TLS)."""

    hostname: str
    port: int
    context: ssl.SSLContext | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went. Times are real and count from before the connection; `first_byte_ms` 0 = none came."""

    reason: Reason
    first_byte_ms: int
    total_ms: int
    body_bytes: int


class Check(Protocol):
    """Looks at an answer as it comes; the first word that is not OK ends the request."""

    def head(self, head: Head) -> Reason:
        """The head of a 2xx answer."""
        ...

    def chunk(self, chunk: bytes) -> Reason:
        """A piece of the body."""
        ...

    def end(self) -> Reason:
        """The body is complete."""
        ...


class Failure(Exception):
    """The request failed for `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def client_context(ca_file: str) -> ssl.SSLContext:
    """A context that trusts the lab's authority alone and speaks HTTP/1.1."""
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


async def fetch(site: Site, address: str, call: Call, check: Check, wall: Clock) -> Outcome:
    """Asks `address` once, over its own connection."""
    attempt = _Attempt(site, call, check, wall)
    try:
        await attempt.run(address)
        reason = Reason.OK
    except Failure as failure:
        reason = failure.reason
    return attempt.outcome(reason)


class _Attempt:
    """The stages of one request; each turns what can go wrong in it into a word."""

    def __init__(self, site: Site, call: Call, check: Check, wall: Clock) -> None:
        self._site = site
        self._call = call
        self._check = check
        self._wall = wall
        self._start_ms = wall.now_ms()
        self._first_byte_ms = 0
        self._body_bytes = 0

    def outcome(self, reason: Reason) -> Outcome:
        return Outcome(reason, self._first_byte_ms, self._elapsed_ms(), self._body_bytes)

    async def run(self, address: str) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            async with _failing_as(Reason.TIMEOUT), asyncio.timeout(self._call.first_byte_ms / 1000):
                reader, writer = await self._connect(address)
                head = await self._ask(reader, writer)
            self._first_byte_ms = max(1, self._elapsed_ms())
            _must(_status_reason(head.status))
            _must(self._check.head(head))
            async with _failing_as(Reason.STALLED), asyncio.timeout(self._call.rest_ms / 1000):
                await self._read(reader, head)
            _must(self._check.end())
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _connect(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            address,
            self._site.port,
            limit=STREAM_LIMIT_BYTES,
            ssl=self._site.context,
            server_hostname=self._site.hostname if self._site.context else None,
        )

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Head:
        call = self._call
        fields = {"host": self._site.hostname, "connection": "close", **call.fields}
        if call.body:
            fields["content-length"] = str(len(call.body))
        writer.write(request_head(call.method, call.target, fields) + call.body)
        await writer.drain()
        head = await read_head(reader)
        if head is None:
            raise Failure(Reason.EMPTY)
        return head

    async def _read(self, reader: asyncio.StreamReader, head: Head) -> None:
        async for chunk in body_chunks(reader, head, is_answer=True):
            self._body_bytes += len(chunk)
            _must(self._check.chunk(chunk))

    def _elapsed_ms(self) -> int:
        return self._wall.now_ms() - self._start_ms


@asynccontextmanager
async def _failing_as(late: Reason) -> AsyncIterator[None]:
    """Turns exceptions into failures; a deadline that passes fails as `late`."""
    try:
        yield
    except TimeoutError:
        raise Failure(late) from None
    except TruncatedError:
        raise Failure(Reason.TRUNCATED) from None
    except ProtocolError:
        raise Failure(Reason.PROTOCOL) from None
    except OSError as error:
        raise Failure(reason_of(error)) from None


def reason_of(error: OSError) -> Reason:
    """The word for what the socket or TLS said."""
    if isinstance(error, ssl.SSLCertVerificationError):
        is_expired = error.verify_code == CERTIFICATE_HAS_EXPIRED
        return Reason.CERT_EXPIRED if is_expired else Reason.TLS
    if isinstance(error, ssl.SSLError):
        return Reason.TLS
    if isinstance(error, ConnectionRefusedError):
        return Reason.REFUSED
    return Reason.RESET if isinstance(error, ConnectionError) else Reason.UNREACHABLE


def _status_reason(status: int) -> Reason:
    if status >= 500:
        return Reason.HTTP_5XX
    return Reason.OK if 200 <= status < 300 else Reason.STATUS


def _must(reason: Reason) -> None:
    if reason is not Reason.OK:
        raise Failure(reason)
