"""The same over HTTP/2 (RFC 9113): fields that would mean something else once they are lines of HTTP/1.1."""

import socket
from dataclasses import dataclass
from typing import Final

from smuggling import CANARY, CANARY_PATH, HOST

from polycdn.lab.frames import (
    DATA,
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
)

START: Final[Fields] = (
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/p"), (b":authority", HOST.encode()),
)  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """One request: its fields, a body unless None, and trailers unless empty."""

    name: str
    fields: Fields
    body: bytes | None = None
    trailers: Fields = ()


def wire(stream: Stream, number: int = 1) -> bytes:
    """A connection's beginning, and the request on it."""
    return PREFACE + frame(SETTINGS, 0, 0) + request(stream, number)


def request(stream: Stream, number: int) -> bytes:
    """The frames of one request."""
    is_last = stream.body is None and not stream.trailers
    sent = frame(HEADERS, END_HEADERS | (END_STREAM if is_last else 0), number, block(stream.fields))
    if stream.body is not None:
        sent += frame(DATA, 0 if stream.trailers else END_STREAM, number, stream.body)
    if stream.trailers:
        sent += frame(HEADERS, END_HEADERS | END_STREAM, number, block(stream.trailers))
    return sent


def read_frame(connection: socket.socket) -> tuple[int, int, int, bytes] | None:
    """Kind, flags, stream and payload of the next frame; None at the end."""
    head = _exactly(connection, 9)
    if head is None:
        return None
    payload = _exactly(connection, int.from_bytes(head[:3], "big"))
    if payload is None:
        return None
    return head[3], head[4], int.from_bytes(head[5:], "big"), payload


def until_over(connection: socket.socket, number: int = 1) -> tuple[str, bytes]:
    """How a stream ended (`answered`, `reset`, or `closed` with its connection), and the body until then."""
    body = b""
    while (found := read_frame(connection)) is not None:
        kind, flags, stream, payload = found
        if kind == GOAWAY:
            break
        if stream == number and kind == RST_STREAM:
            return "reset", body
        if stream == number and kind == DATA:
            body += payload
        if stream == number and kind in (DATA, HEADERS) and flags & END_STREAM:
            return "answered", body
    return "closed", body


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    content = b""
    try:
        while len(content) < size:
            piece = connection.recv(size - len(content))
            if not piece:
                return None
            content += piece
    except ConnectionResetError:
        return None
    return content


def having(name: str, *more: tuple[bytes, bytes], body: bytes | None = None) -> Stream:
    """A POST with these fields too."""
    return Stream(name, START + more, body)


def instead(name: str, pseudo: bytes, value: bytes) -> Stream:
    """A POST with another value of a pseudo-field."""
    return Stream(name, tuple((key, value if key == pseudo else found) for key, found in START), b"xx")


LINE: Final = f" HTTP/1.1\r\nhost: {HOST}\r\n\r\nGET {CANARY_PATH}".encode()
STREAMS: Final = (
    having("line ends in a value", (b"x", b"y\r\ntransfer-encoding: chunked"), body=b"0\r\n\r\n" + CANARY),
    having("a whole request in a value", (b"x", b"y\r\n\r\n" + CANARY)),
    having("bare LF in a value", (b"x", b"y\ntransfer-encoding: chunked"), body=b"0\r\n\r\n" + CANARY),
    having("bare CR in a value", (b"x", b"y\rtransfer-encoding: chunked"), body=b"0\r\n\r\n" + CANARY),
    having("NUL in a value", (b"x", b"y\x00z")),
    having(
        "line ends in a name", (b"x: y\r\ntransfer-encoding: chunked\r\nz", b"a"), body=b"0\r\n\r\n" + CANARY
    ),
    having("colon in a name", (b"transfer-encoding: chunked", b"a"), body=b"0\r\n\r\n" + CANARY),
    having("space in a name", (b"transfer-encoding ", b"chunked"), body=b"0\r\n\r\n" + CANARY),
    having("NUL in a name", (b"x\x00y", b"a")),
    having("upper case in a name", (b"X-Upper", b"a")),
    having("empty name", (b"", b"a")),
    having("Transfer-Encoding", (b"transfer-encoding", b"chunked"), body=b"0\r\n\r\n" + CANARY),
    having("Connection", (b"connection", b"content-length"), (b"content-length", b"2"), body=b"xx"),
    having("Proxy-Connection", (b"proxy-connection", b"keep-alive")),
    having("Keep-Alive", (b"keep-alive", b"timeout=5")),
    having("Upgrade", (b"upgrade", b"h2c")),
    having("TE other than trailers", (b"te", b"chunked")),
    having("length smaller than the body", (b"content-length", b"0"), body=CANARY),
    having("length larger than the body", (b"content-length", b"500"), body=CANARY),
    having("two lengths", (b"content-length", b"0"), (b"content-length", b"%d" % len(CANARY)), body=CANARY),
    having("list of lengths", (b"content-length", b"0, %d" % len(CANARY)), body=CANARY),
    having("signed length", (b"content-length", b"+%d" % len(CANARY)), body=CANARY),
    having("length of a request without a body", (b"content-length", b"%d" % len(CANARY))),
    having("another Host", (b"host", b"other.test"), body=b"xx"),
    having("two Hosts", (b"host", HOST.encode()), (b"host", b"other.test"), body=b"xx"),
    having("Host with line ends", (b"host", HOST.encode() + b"\r\nx: y"), body=b"xx"),
    instead("line ends in the method", b":method", b"GET" + b" /p" + LINE),
    instead("space in the method", b":method", b"GET /canary HTTP/1.1\r\nx:"),
    instead("line ends in the path", b":path", b"/p" + LINE),
    instead("space in the path", b":path", b"/p HTTP/1.1"),
    instead("tab in the path", b":path", b"/p\tx"),
    instead("NUL in the path", b":path", b"/p\x00"),
    instead("fragment in the path", b":path", b"/p#a"),
    instead("a URL as the path", b":path", b"http://other.test/canary"),
    instead("empty path", b":path", b""),
    instead("path without a slash", b":path", b"p"),
    instead("asterisk as the path of a POST", b":path", b"*"),
    instead("line ends in the authority", b":authority", HOST.encode() + b"\r\nx: y"),
    instead("user in the authority", b":authority", b"a@" + HOST.encode()),
    instead("path in the authority", b":authority", HOST.encode() + b"/canary"),
    instead("empty authority", b":authority", b""),
    instead("a URL as the scheme", b":scheme", b"http://other.test/canary?"),
    instead("line ends in the scheme", b":scheme", b"http\r\nx: y"),
    instead("CONNECT", b":method", b"CONNECT"),
    having("second path", (b":path", b"/canary"), body=b"xx"),
    having("second method", (b":method", b"GET"), body=b"xx"),
    having("second authority", (b":authority", b"other.test"), body=b"xx"),
    having("unknown pseudo-field", (b":canary", b"a"), body=b"xx"),
    having("status of an answer", (b":status", b"200"), body=b"xx"),
    Stream("pseudo-field after a field", (*START[:3], (b"x", b"y"), START[3]), b"xx"),
    Stream("no path", tuple(one for one in START if one[0] != b":path"), b"xx"),
    Stream("no method", tuple(one for one in START if one[0] != b":method"), b"xx"),
    Stream("no scheme", tuple(one for one in START if one[0] != b":scheme"), b"xx"),
    Stream("no authority and no Host", tuple(one for one in START if one[0] != b":authority"), b"xx"),
    Stream(
        "framing in trailers", START, b"xx", ((b"transfer-encoding", b"chunked"), (b"content-length", b"9"))
    ),
    Stream("pseudo-field in trailers", START, b"xx", ((b":path", b"/canary"),)),
    Stream("line ends in trailers", START, b"xx", ((b"x", b"y\r\n\r\n" + CANARY),)),
    Stream("Host in trailers", START, b"xx", ((b"host", b"other.test"),)),
)
