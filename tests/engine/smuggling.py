"""Requests that two parsers could read in two ways, and what a strict edge may make of each.

Each payload hides a second request, the canary, where a lax parser would find one. `reads` are the requests
that a back end may see, in order: all of them, or the first few of them and then a refusal. Nothing else, and
never the canary. An empty `reads`: the edge must refuse.
"""

from dataclasses import dataclass
from typing import Final

HOST: Final = "www.example.test"
CANARY_PATH: Final = "/canary"
CANARY: Final = f"GET {CANARY_PATH} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
NEXT: Final = f"GET /next HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
H: Final = f"host: {HOST}\r\n".encode()
LENGTH: Final = b"content-length: %d\r\n" % len(CANARY)
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
ONE_CHUNK: Final = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CANARY), CANARY)


@dataclass(frozen=True)
class Read:
    """One request as it may be understood; `body` None: any."""

    method: str
    target: str
    body: bytes | None = b""
    host: str = HOST


@dataclass(frozen=True)
class Payload:
    """Bytes for one connection."""

    name: str
    wire: bytes
    reads: tuple[Read, ...] = ()


SECOND: Final = Read("GET", "/next")


def post(
    name: str, fields: bytes, body: bytes, read: bytes | None = None, start: bytes = b"HTTP/1.1"
) -> Payload:
    """A POST with these fields after Host; it may be read with the body `read`, or must be refused (None)."""
    wire = b"POST /p " + start + b"\r\n" + H + fields + b"\r\n" + body
    return Payload(name, wire, () if read is None else (Read("POST", "/p", read),))


def head(name: str, lines: bytes, *reads: Read) -> Payload:
    """A head as it is, then the canary, which is a request of its own to nobody who refuses the head."""
    return Payload(name, lines + CANARY, reads)


BOTH_FRAMINGS: Final = (
    post("length then chunked", LENGTH + CHUNKED, b"0\r\n\r\n" + CANARY),
    post("chunked then length", CHUNKED + LENGTH, b"0\r\n\r\n" + CANARY),
    post("chunked and length of 0", CHUNKED + b"content-length: 0\r\n", ONE_CHUNK),
    post(
        "length that ends inside the chunks",
        CHUNKED + b"content-length: 4\r\n",
        b"5c\r\n" + CANARY + b"0\r\n\r\n",
    ),
    post("identity and length", b"transfer-encoding: identity\r\n" + LENGTH, CANARY),
    post("chunked in HTTP/1.0", CHUNKED, b"0\r\n\r\n" + CANARY, start=b"HTTP/1.0"),
    post("both framings in HTTP/1.0", LENGTH + CHUNKED, b"0\r\n\r\n" + CANARY, start=b"HTTP/1.0"),
    post("length nominated by Connection", b"connection: content-length\r\n" + LENGTH, CANARY, CANARY),
    post("coding nominated by Connection", b"connection: transfer-encoding\r\n" + CHUNKED, ONE_CHUNK, CANARY),
    post("host nominated by Connection", b"connection: host\r\n" + LENGTH, CANARY, CANARY),
)

CODINGS: Final = (
    post("chunked, then identity", b"transfer-encoding: chunked, identity\r\n", ONE_CHUNK),
    post("identity, then chunked", b"transfer-encoding: identity, chunked\r\n", ONE_CHUNK),
    post("chunked twice in a list", b"transfer-encoding: chunked, chunked\r\n", ONE_CHUNK),
    post("chunked in two lines", CHUNKED + CHUNKED, ONE_CHUNK),
    post("chunked and identity in two lines", CHUNKED + b"transfer-encoding: identity\r\n", ONE_CHUNK),
    post("a coding nobody knows", b"transfer-encoding: xchunked\r\n" + LENGTH, CANARY),
    post("gzip, then chunked", b"transfer-encoding: gzip, chunked\r\n", ONE_CHUNK),
    post("quoted chunked", b'transfer-encoding: "chunked"\r\n' + LENGTH, CANARY),
    post("chunked with a parameter", b"transfer-encoding: chunked;q=1\r\n" + LENGTH, CANARY),
    post("chunked with an empty member after it", b"transfer-encoding: chunked,\r\n", ONE_CHUNK, CANARY),
    post("chunked with an empty member before it", b"transfer-encoding: ,chunked\r\n", ONE_CHUNK, CANARY),
    post("no coding at all", b"transfer-encoding:\r\n" + LENGTH, CANARY),
    post("upper case", b"Transfer-Encoding: CHUNKED\r\n", ONE_CHUNK, CANARY),
    post("tab before chunked", b"transfer-encoding:\tchunked\r\n", ONE_CHUNK, CANARY),
    post("vertical tab before chunked", b"transfer-encoding: \x0bchunked\r\n" + LENGTH, CANARY),
    post("vertical tab after chunked", b"transfer-encoding: chunked\x0b\r\n" + LENGTH, CANARY),
    post("form feed before chunked", b"transfer-encoding: \x0cchunked\r\n" + LENGTH, CANARY),
    post("no-break space before chunked", b"transfer-encoding: \xa0chunked\r\n" + LENGTH, CANARY),
    post("NUL after chunked", b"transfer-encoding: chunked\x00\r\n" + LENGTH, CANARY),
    post("backspace after chunked", b"transfer-encoding: chunked\x08\r\n" + LENGTH, CANARY),
    post("letters of another alphabet", "transfer-encoding: chunкed\r\n".encode() + LENGTH, CANARY),
    post("space before the colon", b"transfer-encoding : chunked\r\n" + LENGTH, CANARY),
    post("tab before the colon", b"transfer-encoding\t: chunked\r\n" + LENGTH, CANARY),
    post("NUL in the name", b"transfer-encoding\x00: chunked\r\n" + LENGTH, CANARY),
    post("byte above 127 in the name", b"transfer-encoding\xff: chunked\r\n" + LENGTH, CANARY),
    post("underscore in the name", b"transfer_encoding: chunked\r\n" + LENGTH, CANARY, CANARY),
    post("folded before its value", b"transfer-encoding:\r\n chunked\r\n" + LENGTH, CANARY),
    post("folded with a tab", b"x: y\r\n\ttransfer-encoding: chunked\r\n" + LENGTH, CANARY),
    post("ended by a bare LF", b"transfer-encoding: chunked\n" + LENGTH, CANARY),
    post("behind a bare CR", b"x: y\rtransfer-encoding: chunked\r\n" + LENGTH, CANARY),
    post("behind a bare LF", b"x: y\ntransfer-encoding: chunked\r\n" + LENGTH, CANARY),
    post("behind a NUL", b"x: y\x00transfer-encoding: chunked\r\n" + LENGTH, CANARY),
    post("behind CR CR LF", b"x: y\r\r\ntransfer-encoding: chunked\r\n" + LENGTH, CANARY),
)

LENGTHS: Final = (
    post("two lengths, the smaller first", b"content-length: 0\r\n" + LENGTH, CANARY),
    post("two lengths, the larger first", LENGTH + b"content-length: 0\r\n", CANARY),
    post("the same length twice", LENGTH + LENGTH, CANARY, CANARY),
    post("list of equal lengths", b"content-length: 3, 3\r\n", b"abc", b"abc"),
    post("list of different lengths", b"content-length: 0, %d\r\n" % len(CANARY), CANARY),
    post("plus before the length", b"content-length: +%d\r\n" % len(CANARY), CANARY),
    post("negative length", b"content-length: -1\r\n", CANARY),
    post("minus zero", b"content-length: -0\r\n", CANARY),
    post("hexadecimal length", b"content-length: 0x%x\r\n" % len(CANARY), CANARY),
    post("length with a fraction", b"content-length: %d.0\r\n" % len(CANARY), CANARY),
    post("length with an exponent", b"content-length: 5e1\r\n", CANARY),
    post("length with a space inside", b"content-length: 5 0\r\n", CANARY),
    post("length with an underscore", b"content-length: 5_0\r\n", CANARY),
    post("length with a parameter", b"content-length: %d;a\r\n" % len(CANARY), CANARY),
    post("length beyond 64 bits", b"content-length: 18446744073709551616\r\n", CANARY),
    post("length that wraps to the right one", b"content-length: %d\r\n" % (2**64 + len(CANARY)), CANARY),
    post("length with leading zeros", b"content-length: 000%d\r\n" % len(CANARY), CANARY, CANARY),
    post("length with spaces around", b"content-length: \t%d \r\n" % len(CANARY), CANARY, CANARY),
    post("empty length", b"content-length:\r\n", CANARY),
    post("NUL after the length", b"content-length: %d\x00\r\n" % len(CANARY), CANARY),
    post("digits of another script", "content-length: ٥\r\n".encode(), CANARY),
    post("space before the colon of a length", b"content-length : %d\r\n" % len(CANARY), CANARY),
    post("folded length", b"content-length: 1\r\n 0\r\n", CANARY),
    post("length with a vertical tab", b"content-length: \x0b%d\r\n" % len(CANARY), CANARY),
    Payload(
        "underscore in Content-Length",
        b"POST /p HTTP/1.1\r\n" + H + b"content_length: %d\r\n\r\n" % len(NEXT) + NEXT,
        (Read("POST", "/p"), SECOND),
    ),
    Payload(
        "body of a GET", b"GET /p HTTP/1.1\r\n" + H + LENGTH + b"\r\n" + CANARY, (Read("GET", "/p", None),)
    ),
    Payload(
        "body of a HEAD", b"HEAD /p HTTP/1.1\r\n" + H + LENGTH + b"\r\n" + CANARY, (Read("HEAD", "/p", None),)
    ),
    Payload(
        "chunks of a GET",
        b"GET /p HTTP/1.1\r\n" + H + CHUNKED + b"\r\n" + ONE_CHUNK,
        (Read("GET", "/p", None),),
    ),
    Payload(
        "body of an OPTIONS",
        b"OPTIONS /p HTTP/1.1\r\n" + H + LENGTH + b"\r\n" + CANARY,
        (Read("OPTIONS", "/p", None),),
    ),
    Payload(
        "body of a DELETE",
        b"DELETE /p HTTP/1.1\r\n" + H + LENGTH + b"\r\n" + CANARY,
        (Read("DELETE", "/p", CANARY),),
    ),
    Payload(
        "body of a TRACE",
        b"TRACE /p HTTP/1.1\r\n" + H + LENGTH + b"\r\n" + CANARY,
        (Read("TRACE", "/p", None),),
    ),
)


def chunks(name: str, body: bytes, read: bytes | None = None) -> Payload:
    """A chunked POST."""
    return post(name, CHUNKED, body, read)


SIZE: Final = b"%x" % len(CANARY)
CHUNKS: Final = (
    chunks("extension", SIZE + b";a=b\r\n" + CANARY + b"\r\n0\r\n\r\n", CANARY),
    chunks("extension with a quoted string", SIZE + b';a="b;c"\r\n' + CANARY + b"\r\n0\r\n\r\n", CANARY),
    chunks("extension on the last chunk", SIZE + b"\r\n" + CANARY + b"\r\n0;a=b\r\n\r\n", CANARY),
    chunks("extension that ends with a bare LF", b"0;a\n" + SIZE + b"\r\n" + CANARY + b"\r\n0\r\n\r\n"),
    chunks("extension with a bare CR", b"2;a\rb\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("extension with a quoted line end", b'2;a="\r\n"\r\nxx\r\n0\r\n\r\n' + CANARY),
    chunks("extension with a NUL", b"2;a\x00\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("extension without an end", b"2;" + b"a" * 20_000 + b"\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("space before the size", b" 2\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("space after the size", b"2 \r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("tab after the size", b"2\t\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("size with 0x", b"0x2\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("size with a plus", b"+2\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("size with a minus", b"-2\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("size with an underscore", b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n" + CANARY),
    chunks("size with a comma", b"2,2\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("size beyond 64 bits", b"10000000000000002\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("no size", b"\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("size that is no hex", b"2g\r\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("size with leading zeros", b"000" + SIZE + b"\r\n" + CANARY + b"\r\n000\r\n\r\n", CANARY),
    chunks("size line ended by a bare LF", b"2\nxx\r\n0\r\n\r\n" + CANARY),
    chunks("size line ended by a bare CR", b"2\rxx\r\n0\r\n\r\n" + CANARY),
    chunks("chunk longer than its size", b"2\r\nxxxx\r\n0\r\n\r\n" + CANARY),
    chunks("chunk without a line end", b"2\r\nxx0\r\n\r\n" + CANARY),
    chunks("chunk ended by a bare LF", b"2\r\nxx\n0\r\n\r\n" + CANARY),
    chunks("chunk ended by two other bytes", b"2\r\nxxyy0\r\n\r\n" + CANARY),
    chunks("last chunk ended by a bare LF", b"2\r\nxx\r\n0\n\n" + CANARY),
    chunks("the canary where trailers are", b"2\r\nxx\r\n0\r\n" + CANARY, b"xx"),
    chunks(
        "framing in the trailers",
        b"2\r\nxx\r\n0\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n",
        b"xx",
    ),
    chunks("another host in the trailers", b"2\r\nxx\r\n0\r\nhost: other.test\r\n\r\n", b"xx"),
    chunks("trailer ended by a bare LF", b"2\r\nxx\r\n0\r\na: b\n\r\n" + CANARY),
    chunks("folded trailer", b"2\r\nxx\r\n0\r\na: b\r\n c\r\n\r\n", b"xx"),
    chunks("trailer with a space before its colon", b"2\r\nxx\r\n0\r\na : b\r\n\r\n", b"xx"),
    chunks("no end", b"2\r\nxx\r\n" + SIZE + b"\r\n" + CANARY),
)

G: Final = b"GET /p HTTP/1.1\r\n"
TARGETS: Final = (
    head("no Host", G + b"\r\n"),
    head("two Hosts", G + H + H + b"\r\n"),
    head("two different Hosts", G + H + b"host: other.test\r\n\r\n"),
    head("list of hosts", G + f"host: {HOST}, other.test\r\n\r\n".encode()),
    head("empty Host", G + b"host:\r\n\r\n"),
    head("Host with a path", G + f"host: {HOST}/canary\r\n\r\n".encode()),
    head("Host with a user", G + f"host: a@{HOST}\r\n\r\n".encode()),
    head("Host with a space", G + b"host: a b\r\n\r\n"),
    head("Host with a NUL", G + b"host: a\x00b\r\n\r\n"),
    head("Host with a port that is none", G + f"host: {HOST}:80a\r\n\r\n".encode()),
    head("Host with a query", G + f"host: {HOST}?a\r\n\r\n".encode()),
    head("Host with a backslash", G + f"host: {HOST}\\canary\r\n\r\n".encode()),
    head("folded Host", G + b"host:\r\n " + HOST.encode() + b"\r\n\r\n"),
    head("space before the colon of Host", G + f"host : {HOST}\r\n\r\n".encode()),
    Payload(
        "absolute target of another host",
        f"GET http://{HOST}/p HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n".encode() + CANARY,
        (Read("GET", "/p"),),
    ),
    head("absolute target with a user", f"GET http://a@{HOST}/p HTTP/1.1\r\n".encode() + H + b"\r\n"),
    head("absolute target without a host", b"GET http:///p HTTP/1.1\r\n" + H + b"\r\n"),
    head("absolute target with another scheme", f"GET ftp://{HOST}/p HTTP/1.1\r\n".encode() + H + b"\r\n"),
    head("absolute target and no Host", f"GET http://{HOST}/p HTTP/1.1\r\n\r\n".encode()),
    head("authority as the target of a GET", f"GET {HOST}:80 HTTP/1.1\r\n".encode() + H + b"\r\n"),
    head("asterisk as the target of a GET", b"GET * HTTP/1.1\r\n" + H + b"\r\n"),
    head("CONNECT", f"CONNECT {HOST}:80 HTTP/1.1\r\n".encode() + H + b"\r\n"),
    head("space in the target", b"GET /p HTTP/1.1 HTTP/1.1\r\n" + H + b"\r\n"),
    head("tab in the target", b"GET /p\t HTTP/1.1\r\n" + H + b"\r\n"),
    head("CR in the target", b"GET /p\rx HTTP/1.1\r\n" + H + b"\r\n"),
    head("NUL in the target", b"GET /p\x00 HTTP/1.1\r\n" + H + b"\r\n"),
    head("byte above 127 in the target", b"GET /p\xff HTTP/1.1\r\n" + H + b"\r\n"),
    head("fragment in the target", b"GET /p#a HTTP/1.1\r\n" + H + b"\r\n"),
    head("target without a slash", b"GET p HTTP/1.1\r\n" + H + b"\r\n"),
    head("no target", b"GET  HTTP/1.1\r\n" + H + b"\r\n"),
)

LINES: Final = (
    head("bare LF everywhere", b"GET /p HTTP/1.1\n" + H.replace(b"\r", b"") + b"\n"),
    head("bare LF after the first line", b"GET /p HTTP/1.1\n" + H + b"\r\n"),
    head("bare LF for the empty line", G + H + b"\n"),
    head("bare CR for the empty line", G + H + b"\r"),
    head("bare CR in a value", G + H + b"a: b\rc: d\r\n\r\n"),
    head("NUL in a value", G + H + b"a: b\x00c\r\n\r\n"),
    head("NUL in a name", G + H + b"a\x00b: c\r\n\r\n"),
    head("no name", G + H + b": a\r\n\r\n"),
    head("no colon", G + H + b"abc\r\n\r\n"),
    head("space in a name", G + H + b"a b: c\r\n\r\n"),
    head("space before the first name", G + b" a: b\r\n" + H + b"\r\n"),
    head("tab before the first name", G + b"\ta: b\r\n" + H + b"\r\n"),
    head("folded line", G + H + b"a: b\r\n c\r\n\r\n"),
    head("line of spaces before the end", G + H + b" \r\n\r\n"),
    head("name in brackets", G + H + b"(a): b\r\n\r\n"),
    head("first line as a field", G + H + b"GET /canary HTTP/1.1\r\n\r\n"),
    head("two spaces in the first line", b"GET  /p HTTP/1.1\r\n" + H + b"\r\n"),
    head("tabs in the first line", b"GET\t/p\tHTTP/1.1\r\n" + H + b"\r\n"),
    head("space at the end of the first line", b"GET /p HTTP/1.1 \r\n" + H + b"\r\n"),
    head("space before the method", b" GET /p HTTP/1.1\r\n" + H + b"\r\n"),
    head("LF before the method", b"\nGET /p HTTP/1.1\r\n" + H + b"\r\n"),
    head("CR before the method", b"\rGET /p HTTP/1.1\r\n" + H + b"\r\n"),
    head("method in brackets", b"G(ET /p HTTP/1.1\r\n" + H + b"\r\n"),
    head("method with a colon", b"GET: /p HTTP/1.1\r\n" + H + b"\r\n"),
    head("HTTP/0.9", b"GET /p\r\n"),
    head("HTTP/1.2", b"GET /p HTTP/1.2\r\n" + H + b"\r\n"),
    head("HTTP/2.0 on a line", b"GET /p HTTP/2.0\r\n" + H + b"\r\n"),
    head("HTTP/01.1", b"GET /p HTTP/01.1\r\n" + H + b"\r\n"),
    head("HTTP/1.10", b"GET /p HTTP/1.10\r\n" + H + b"\r\n"),
    head("http in lower case", b"GET /p http/1.1\r\n" + H + b"\r\n"),
    head("another protocol", b"GET /p ICY/1.1\r\n" + H + b"\r\n"),
    head("HTTP/1.0 without Host", b"GET /p HTTP/1.0\r\n\r\n"),
    Payload(
        "HTTP/1.0 with what comes after its end",
        b"GET /p HTTP/1.0\r\n" + H + b"\r\n" + CANARY,
        (Read("GET", "/p"),),
    ),
    Payload(
        "HTTP/1.0 with a length",
        b"POST /p HTTP/1.0\r\n" + H + LENGTH + b"\r\n" + CANARY,
        (Read("POST", "/p", CANARY),),
    ),
    Payload(
        "Connection: close with what comes after it",
        G + H + b"connection: close\r\n\r\n" + CANARY,
        (Read("GET", "/p"),),
    ),
    Payload(
        "empty lines before a request", b"\r\n\r\n" + G + H + b"\r\n" + NEXT, (Read("GET", "/p"), SECOND)
    ),
    Payload("the next request sent early", G + H + b"\r\n" + NEXT, (Read("GET", "/p"), SECOND)),
    Payload("a bare LF before the next request", G + H + b"\r\n\n" + CANARY, (Read("GET", "/p"),)),
)

UPGRADE: Final = b"connection: upgrade\r\nupgrade: websocket\r\n"
HTTP2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EXPECTED: Final = (
    post("a body that does not wait", b"expect: 100-continue\r\n" + LENGTH, CANARY, CANARY),
    post("a chunked body that does not wait", b"expect: 100-continue\r\n" + CHUNKED, ONE_CHUNK, CANARY),
    post("expectation in other letters", b"Expect: 100-CONTINUE\r\n" + LENGTH, CANARY, CANARY),
    post("expectation twice", b"expect: 100-continue\r\nexpect: 100-continue\r\n" + LENGTH, CANARY, CANARY),
    post("an expectation nobody knows", b"expect: 200-ok\r\n" + LENGTH, CANARY),
    post("list of expectations", b"expect: 100-continue, a\r\n" + LENGTH, CANARY),
    post("misspelt expectation", b"expect: y 100-continue\r\n" + LENGTH, CANARY),
    Payload(
        "a GET that waits",
        G + H + b"expect: 100-continue\r\n" + LENGTH + b"\r\n" + CANARY,
        (Read("GET", "/p", None),),
    ),
    Payload(
        "an upgrade to HTTP/2",
        G
        + H
        + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n"
        + HTTP2
        + CANARY,
        (Read("GET", "/p"),),
    ),
    Payload(
        "an upgrade to HTTP/2 beside another",
        G + H + b"connection: upgrade\r\nupgrade: websocket, h2c\r\n\r\n" + HTTP2 + CANARY,
        (Read("GET", "/p"),),
    ),
    Payload(
        "an upgrade that is not taken, and its body",
        b"POST /p HTTP/1.1\r\n" + H + UPGRADE + LENGTH + b"\r\n" + CANARY,
        (Read("POST", "/p", CANARY),),
    ),
    Payload(
        "an upgrade that is not taken, and a preface",
        G + H + UPGRADE + b"\r\n" + HTTP2 + CANARY,
        (Read("GET", "/p"),),
    ),
    Payload(
        "the preface of HTTP/2 as a second request", G + H + b"\r\n" + HTTP2 + CANARY, (Read("GET", "/p"),)
    ),
)

PAYLOADS: Final = (*BOTH_FRAMINGS, *CODINGS, *LENGTHS, *CHUNKS, *TARGETS, *LINES, *EXPECTED)
