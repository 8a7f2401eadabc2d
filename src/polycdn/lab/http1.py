"""HTTP/1.1 on asyncio streams, small and strict (RFC 9112); for both ends of the lab's connections."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

HEAD_BYTES_MAX: Final = 32_768
CHUNK_BYTES: Final = 262_144
STREAM_LIMIT_BYTES: Final = 262_144
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"}
)


class ProtocolError(Exception):
    """What came is not HTTP/1.1."""


class TruncatedError(Exception):
    """The body ended before its length."""


class EmptyError(Exception):
    """The connection was closed before the first byte of an answer."""


@dataclass(frozen=True, slots=True)
class Head:
    """First line and fields; names in lower case, repeated ones joined by a comma."""

    first: tuple[str, str, str]
    fields: dict[str, str]

    @property
    def status(self) -> int:
        """Status code of an answer."""
        return int(self.first[1])

    @property
    def length(self) -> int | None:
        """Content-Length, None if there is none. Raises ProtocolError if it is not a number."""
        text = self.fields.get("content-length")
        if text is None:
            return None
        if not text.isdecimal() or not text.isascii():
            raise ProtocolError(f"Content-Length {text!r}")
        return int(text)

    @property
    def is_chunked(self) -> bool:
        """Whether the body is chunked."""
        return self.fields.get("transfer-encoding", "").lower() == "chunked"

    @property
    def is_last(self) -> bool:
        """Whether the sender closes the connection after this message."""
        return "close" in self.fields.get("connection", "").lower()


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head, None if the connection was closed before its first byte."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise ProtocolError("closed inside a head") from None
    except asyncio.LimitOverrunError:
        raise ProtocolError(f"a head of more than {STREAM_LIMIT_BYTES} bytes") from None
    return parse_head(raw)


def parse_head(raw: bytes) -> Head:
    """A head with its empty line. Raises ProtocolError."""
    if len(raw) > HEAD_BYTES_MAX:
        raise ProtocolError(f"a head of {len(raw)} bytes, limit {HEAD_BYTES_MAX}")
    lines = raw.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or not ("HTTP/1." in parts[0] or "HTTP/1." in parts[-1]):
        raise ProtocolError(f"first line {lines[0][:80]!r}")
    if parts[0].startswith("HTTP/") and not (len(parts[1]) == 3 and parts[1].isdecimal()):
        raise ProtocolError(f"status {parts[1][:80]!r}")
    fields: dict[str, str] = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        if not colon or not TOKEN.fullmatch(name):
            raise ProtocolError(f"field {line[:80]!r}")
        name, value = name.lower(), value.strip(" \t")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    if "content-length" in fields and "transfer-encoding" in fields:
        raise ProtocolError("both Content-Length and Transfer-Encoding")
    return Head((parts[0], parts[1], parts[2] if len(parts) > 2 else ""), fields)


async def body_chunks(reader: asyncio.StreamReader, head: Head, *, is_answer: bool) -> AsyncIterator[bytes]:
    """The body piece by piece. Raises TruncatedError when it ends early."""
    if head.is_chunked:
        async for chunk in _chunked(reader):
            yield chunk
    elif head.length is not None:
        left = head.length
        while left:
            chunk = await reader.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise TruncatedError(f"{left} of {head.length} bytes are missing")
            left -= len(chunk)
            yield chunk
    elif is_answer:
        while chunk := await reader.read(CHUNK_BYTES):
            yield chunk


async def read_body(reader: asyncio.StreamReader, head: Head, *, is_answer: bool, bytes_max: int) -> bytes:
    """The whole body. Raises ProtocolError when it is larger than `bytes_max`."""
    if (head.length or 0) > bytes_max:
        raise ProtocolError(f"a body of {head.length} bytes, limit {bytes_max}")
    body = bytearray()
    async for chunk in body_chunks(reader, head, is_answer=is_answer):
        body += chunk
        if len(body) > bytes_max:
            raise ProtocolError(f"a body of more than {bytes_max} bytes")
    return bytes(body)


def request_head(method: str, target: str, fields: dict[str, str]) -> bytes:
    """A request's head on the wire."""
    return _wire(f"{method} {target} HTTP/1.1", fields)


def answer_head(status: int, fields: dict[str, str]) -> bytes:
    """An answer's head on the wire."""
    return _wire(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", fields)


def framed(chunk: bytes) -> bytes:
    """One chunk of a chunked body on the wire; an empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


async def _chunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    try:
        while chunk_bytes := _chunk_length(await reader.readuntil(b"\r\n")):
            chunk = await reader.readexactly(chunk_bytes + 2)
            if not chunk.endswith(b"\r\n"):
                raise ProtocolError("a chunk that does not end where it should")
            yield chunk[:-2]
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    except asyncio.IncompleteReadError:
        raise TruncatedError("closed inside a chunked body") from None
    except asyncio.LimitOverrunError:
        raise ProtocolError("a chunk's line is too long") from None


def _chunk_length(line: bytes) -> int:
    digits = line.split(b";", 1)[0].strip()
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", digits):
        raise ProtocolError(f"chunk length {line[:40]!r}")
    return int(digits, 16)


def _wire(first: str, fields: dict[str, str]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
