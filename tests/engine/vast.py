"""An origin whose object can be of any size: its bytes are made from their offset when they are sent."""

import threading
from array import array
from dataclasses import dataclass, field

from providers import Exchange

BLOCK = 1 << 20
GB = 1_000_000_000
PIECE_BYTES = 1 << 16


def octets(first: int, end: int, seed: int = 0) -> bytes:
    """The bytes from `first` up to `end` of the object with that seed, each eight one number."""
    numbers = array("Q", range((seed << 48) + first // 8, (seed << 48) - (-end // 8)))
    return numbers.tobytes()[first % 8 : first % 8 + end - first]


@dataclass
class Vast:
    """One object; what was asked of it, and how many bytes it sent."""

    length: int
    etag: str = '"one"'
    seed: int = 0
    takes_ranges: bool = True
    tells_ranges: bool = True
    cache_control: str = "max-age=600"
    more: str = ""
    """Further field lines."""

    holds_head: threading.Event | None = None
    """What an answer waits for before its head."""

    holds_at: tuple[int, threading.Event] | None = None
    """The offset at which a body waits, and what it waits for."""

    asked: list[str | None] = field(default_factory=list)
    """The Range of each request, in order."""

    sent_bytes: int = 0

    def behave(self, exchange: Exchange) -> None:
        self.asked.append(exchange.value("range"))
        if self.holds_head:
            self.holds_head.wait(15)
        fields = f"cache-control: {self.cache_control}\r\n{self.more}"
        fields += f"etag: {self.etag}\r\n" if self.etag else ""
        fields += "accept-ranges: bytes\r\n" if self.takes_ranges and self.tells_ranges else ""
        if self.etag and exchange.value("if-none-match") == self.etag:
            exchange.send(f"HTTP/1.1 304 Not Modified\r\n{fields}\r\n".encode())
            return
        status, first, end = "200 OK", 0, self.length
        wanted = exchange.value("range") if self.takes_ranges else None
        if wanted and exchange.value("if-range") in (None, self.etag):
            first, end = self._span(wanted)
            if first >= self.length:
                head = f"HTTP/1.1 416 No\r\ncontent-range: bytes */{self.length}\r\ncontent-length: 0\r\n\r\n"
                exchange.send(head.encode())
                return
            status = "206 Partial Content"
            fields += f"content-range: bytes {first}-{end - 1}/{self.length}\r\n"
        exchange.send(f"HTTP/1.1 {status}\r\n{fields}content-length: {end - first}\r\n\r\n".encode())
        if exchange.method != "HEAD":
            self._send(exchange, first, end)

    def _span(self, wanted: str) -> tuple[int, int]:
        first, _, last = wanted.removeprefix("bytes=").split(",")[0].partition("-")
        if not first:
            return max(self.length - int(last), 0), self.length
        return int(first), min(int(last) + 1 if last else self.length, self.length)

    def _send(self, exchange: Exchange, first: int, end: int) -> None:
        seed = self.seed
        while first < end:
            until = min(first + PIECE_BYTES, end)
            if self.holds_at and first <= self.holds_at[0] < end:
                if first == self.holds_at[0]:
                    self.holds_at[1].wait(15)
                else:
                    until = min(until, self.holds_at[0])
            exchange.send(octets(first, until, seed))
            self.sent_bytes += until - first
            first = until
