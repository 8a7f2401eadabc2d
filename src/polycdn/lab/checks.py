"""What a good answer is, for each kind of request. A 200 that carries something else is a failure."""

import json
from hashlib import sha256
from typing import Final

from polycdn.lab.content import EVENTS, JSON, Content, chat_event
from polycdn.lab.exchange import BODY_SHA256
from polycdn.lab.http1 import Head
from polycdn.model.observation import Reason
from polycdn.model.topology import Expect
from polycdn.model.units import Clock

FEED_BYTES_MAX: Final = 65_536


class ObjectCheck:
    """An object that is known beforehand: its type, its size and its SHA-256."""

    def __init__(self, expect: Expect) -> None:
        self._expect = expect
        self._hash = sha256()
        self._body_bytes = 0

    def head(self, head: Head) -> Reason:
        """CONTENT for another type or size."""
        is_type = _media_type(head) == self._expect.content_type
        is_size = head.length in (None, self._expect.body_bytes)
        return Reason.OK if is_type and is_size else Reason.CONTENT

    def chunk(self, chunk: bytes) -> Reason:
        """Hashes as it comes."""
        self._hash.update(chunk)
        self._body_bytes += len(chunk)
        return Reason.OK

    def end(self) -> Reason:
        """CORRUPT for other bytes, CONTENT for another number of them."""
        if self._body_bytes != self._expect.body_bytes:
            return Reason.CONTENT
        return Reason.OK if self._hash.hexdigest() == self._expect.sha256 else Reason.CORRUPT


class FeedCheck:
    """A JSON post that differs each time: judged by its digest field and, if `number` is given, by it."""

    def __init__(self, number: int | None) -> None:
        self._number = number
        self._body = bytearray()
        self._sha256 = ""

    def head(self, head: Head) -> Reason:
        """CONTENT when it is not JSON or comes without the origin's digest."""
        self._sha256 = head.fields.get(BODY_SHA256, "")
        return Reason.OK if _media_type(head) == JSON and self._sha256 else Reason.CONTENT

    def chunk(self, chunk: bytes) -> Reason:
        """Gathers the body; CONTENT when it is far too large."""
        self._body += chunk
        return Reason.OK if len(self._body) <= FEED_BYTES_MAX else Reason.CONTENT

    def end(self) -> Reason:
        """CORRUPT for other bytes than the origin sent, CONTENT for another post than was asked for."""
        if sha256(self._body).hexdigest() != self._sha256:
            return Reason.CORRUPT
        post = json.loads(self._body)["post"]
        return Reason.OK if self._number in (None, post) else Reason.CONTENT


class ChatCheck:
    """A stream of events in order, without a gap, until the last one.

    `first_event_ms` is real time from the start, 0 = none came.
    """

    def __init__(self, content: Content, reply: str, wall: Clock) -> None:
        self._content = content
        self._reply = reply
        self._wall = wall
        self._start_ms = wall.now_ms()
        self._pending = b""
        self._events = 0
        self.first_event_ms = 0

    def head(self, head: Head) -> Reason:
        """CONTENT when it is not an event stream."""
        return Reason.OK if _media_type(head) == EVENTS else Reason.CONTENT

    def chunk(self, chunk: bytes) -> Reason:
        """CORRUPT at the first event that is not the next one."""
        *events, self._pending = (self._pending + chunk).split(b"\n\n")
        for event in events:
            if event + b"\n\n" != chat_event(self._content, self._reply, self._events + 1):
                return Reason.CORRUPT
            self._events += 1
            if self._events == 1:
                self.first_event_ms = max(1, self._wall.now_ms() - self._start_ms)
        return Reason.OK

    def end(self) -> Reason:
        """TRUNCATED when the last event never came."""
        is_whole = self._events == self._content.chat_events and not self._pending
        return Reason.OK if is_whole else Reason.TRUNCATED


def _media_type(head: Head) -> str:
    return head.fields.get("content-type", "").partition(";")[0].strip().lower()
