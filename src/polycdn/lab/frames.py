"""Frames of HTTP/2 as bytes (RFC 9113 §4.1), for clients that speak it badly on purpose."""

import asyncio
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
CONTINUATION: Final = 9
ACK: Final = 1
END_STREAM: Final = 1
END_HEADERS: Final = 4
CANCEL: Final = (8).to_bytes(4, "big")

Fields = tuple[tuple[bytes, bytes], ...]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame on the wire."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(text: bytes) -> bytes:
    """A string of HPACK, not Huffman-coded (RFC 7541 §5.2)."""
    if len(text) < 127:
        return bytes((len(text),)) + text
    rest, coded = len(text) - 127, bytearray((127,))
    while rest >= 128:
        coded.append(rest % 128 + 128)
        rest //= 128
    return bytes(coded) + bytes((rest,)) + text


def block(fields: Fields) -> bytes:
    """Fields as literals that are never indexed (RFC 7541 §6.2.3)."""
    return b"".join(b"\x10" + literal(name) + literal(value) for name, value in fields)


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    """Kind, flags, stream and payload of the next frame. Raises IncompleteReadError at the end."""
    head = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
    return head[3], head[4], int.from_bytes(head[5:], "big"), payload
