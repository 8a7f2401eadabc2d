"""What clients ask for, how often, and what they hold to be good. No client tries anything twice."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from polycdn.lab.checks import FeedCheck
from polycdn.lab.content import (
    EVENTS,
    PATCH_PATH,
    PLAYLIST_PATH,
    PROBE_PATH,
    Content,
    Static,
    chat_event,
    other_version,
    segment_path,
    statics,
)
from polycdn.lab.exchange import LAB_KEY
from polycdn.lab.fetch import Call, Check
from polycdn.lab.http1 import Head
from polycdn.model.observation import Reason

CONTENT = Content(
    seed=1, patch_bytes=20_000_000, chat_events=20, chat_interval_ms=100, max_age_s=2, bytes_per_s=16_000_000
)
PATCH_BLOCK_BYTES = 1_048_576
SMALL_OBJECTS, SEGMENTS = 10, CONTENT.segments


@dataclass(frozen=True)
class Shot:
    """One request that is due."""

    workload: str
    key: str
    call: Call
    check: Check


class WholeCheck:
    """A known object, in the version of either upstream, but never in a mixture of both."""

    def __init__(self, path: str) -> None:
        self._statics = [statics(each)[path] for each in (CONTENT, other_version(CONTENT))]
        self._hash = sha256()
        self._body_bytes = 0

    def head(self, head: Head) -> Reason:
        media = head.fields.get("content-type", "").partition(";")[0]
        return Reason.OK if media == self._statics[0].content_type else Reason.CONTENT

    def chunk(self, chunk: bytes) -> Reason:
        self._hash.update(chunk)
        self._body_bytes += len(chunk)
        return Reason.OK

    def end(self) -> Reason:
        if self._body_bytes != len(self._statics[0].body):
            return Reason.CONTENT
        is_one = self._hash.hexdigest() in [static.sha256 for static in self._statics]
        return Reason.OK if is_one else Reason.CORRUPT


class EventsCheck:
    """Every event in order, to the last. `fault` says what else came: a gap, a repeat or a wrong event."""

    def __init__(self, reply: str) -> None:
        self._reply = reply
        self._pending = b""
        self._events = 0
        self.fault = ""

    def head(self, head: Head) -> Reason:
        is_stream = head.fields.get("content-type", "").partition(";")[0] == EVENTS
        return Reason.OK if is_stream else Reason.CONTENT

    def chunk(self, chunk: bytes) -> Reason:
        *events, self._pending = (self._pending + chunk).split(b"\n\n")
        for event in events:
            if event + b"\n\n" != chat_event(CONTENT, self._reply, self._events + 1):
                self.fault = self._fault_of(event)
                return Reason.CORRUPT
            self._events += 1
        return Reason.OK

    def end(self) -> Reason:
        is_whole = self._events == CONTENT.chat_events and not self._pending
        return Reason.OK if is_whole else Reason.TRUNCATED

    def _fault_of(self, event: bytes) -> str:
        number = event.partition(b"\n")[0].removeprefix(b"id: ")
        if not number.isdigit() or int(number) == self._events + 1:
            return "wrong"
        return "repeat" if int(number) <= self._events else "gap"


def small(number: int, key: str) -> Shot:
    """A small object; ten of them by their query, so that a cache meets each anew."""
    target = f"{PROBE_PATH}?n={number % SMALL_OBJECTS}"
    return Shot("small", key, Call("GET", target, {LAB_KEY: key}, rest_ms=5_000), WholeCheck(PROBE_PATH))


def api(number: int, key: str) -> Shot:
    """A dynamic answer that no cache may keep."""
    call = Call("GET", f"/feed/{number}", {LAB_KEY: key}, rest_ms=5_000)
    return Shot("api", key, call, FeedCheck(number))


def patch(number: int, key: str) -> Shot:
    """20 MB, each version of its query asked for twice: a cache meets it cold and warm."""
    call = Call("GET", f"{PATCH_PATH}?v={number // 2}", {LAB_KEY: key}, rest_ms=12_000)
    return Shot("patch", key, call, WholeCheck(PATCH_PATH))


def hls(number: int, key: str) -> Shot:
    """Each fifth request the playlist, else the next segment."""
    path = PLAYLIST_PATH if number % 5 == 0 else segment_path(number % SEGMENTS)
    return Shot("hls", key, Call("GET", path, {LAB_KEY: key}, rest_ms=6_000), WholeCheck(path))


def events(number: int, key: str) -> Shot:
    """A stream of 20 events with ids over 2 s."""
    fields = {LAB_KEY: key, "accept": EVENTS}
    call = Call("GET", f"/chat?reply={key}", fields, rest_ms=7_000)
    return Shot("events", key, call, EventsCheck(key))


def post_key(number: int, key: str) -> Shot:
    """A write that names itself, so that nobody carries it out twice."""
    fields = {LAB_KEY: key, "idempotency-key": key, "content-type": "application/json"}
    return Shot(
        "post-key", key, Call("POST", "/feed", fields, b'{"text":"a"}', rest_ms=5_000), FeedCheck(None)
    )


def post(number: int, key: str) -> Shot:
    """A write that is carried out each time it arrives."""
    fields = {LAB_KEY: key, "content-type": "application/json"}
    call = Call("POST", "/message", fields, b'{"text":"a"}', rest_ms=5_000)
    return Shot("post", key, call, FeedCheck(None))


WORKLOADS: dict[str, tuple[int, Callable[[int, str], Shot]]] = {
    "small": (6_000, small),
    "api": (6_000, api),
    "patch": (700, patch),
    "hls": (4_000, hls),
    "events": (1_500, events),
    "post-key": (4_000, post_key),
    "post": (4_000, post),
}
"""Requests per 1 000 s, and the maker of the n-th."""


def manifest(content: Content = CONTENT) -> dict[str, dict[str, object]]:
    """Digests of every known object by its target, as `polycdn edge --digests` reads them."""
    known = statics(content)
    targets = {f"{PROBE_PATH}?n={number}": known[PROBE_PATH] for number in range(SMALL_OBJECTS)}
    targets |= {f"{PATCH_PATH}?v={number}": known[PATCH_PATH] for number in range(200)}
    targets |= known
    entries: dict[int, dict[str, object]] = {}
    return {target: entries.setdefault(id(static), _entry(static)) for target, static in targets.items()}


def _entry(static: Static) -> dict[str, object]:
    blocks = [
        static.body[at : at + PATCH_BLOCK_BYTES] for at in range(0, len(static.body), PATCH_BLOCK_BYTES)
    ]
    return {
        "size": len(static.body),
        "sha256": static.sha256,
        "block_bytes": PATCH_BLOCK_BYTES,
        "block_sha256": [sha256(block).hexdigest() for block in blocks],
    }
