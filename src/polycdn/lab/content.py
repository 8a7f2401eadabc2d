"""What the origins serve, made from a seed alone, so that every process knows it byte for byte.

| path | what | Cache-Control |
|---|---|---|
| /probe | a small object for vantages | max-age |
| /patch.bin | a game patch, 20 MB | max-age |
| /music/playlist.m3u8, /music/segN.ts | HLS | max-age |
| /feed/N | small dynamic JSON | no-store |
| POST /feed, POST /message | executed once a key; executed each time | no-store |
| /chat?reply=R | server-sent events with ids | no-store |
"""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256, shake_256
from typing import Final

from polycdn.model.chance import chance_ppm
from polycdn.model.topology import Expect, ProbedObject

PROBE_PATH: Final = "/probe"
PATCH_PATH: Final = "/patch.bin"
PLAYLIST_PATH: Final = "/music/playlist.m3u8"
BINARY: Final = "application/octet-stream"
PLAYLIST: Final = "application/vnd.apple.mpegurl"
SEGMENT: Final = "video/mp2t"
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
WORDS: Final = ("a", "plan", "is", "kept", "while", "nobody", "can", "say", "why", "it", "was", "made")


@dataclass(frozen=True, slots=True)
class Content:
    """Sizes and pace. `max_age_s` and `chat_interval_ms` are real time: neither is compressed.

    Objects are sent at `bytes_per_s`, 0 = as fast as they are taken.
    """

    seed: int = 1
    patch_bytes: int = 20_000_000
    segments: int = 10
    segment_bytes: int = 200_000
    probe_bytes: int = 1_024
    chat_events: int = 20
    chat_interval_ms: int = 50
    max_age_s: int = 60
    bytes_per_s: int = 0


STANDARD: Final = Content()
"""What a lab serves unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Static:
    """One cacheable object; `sha256` in hex."""

    path: str
    content_type: str
    body: bytes
    sha256: str


@lru_cache(maxsize=4)
def statics(content: Content) -> dict[str, Static]:
    """Every cacheable object by its path."""
    segment_paths = [segment_path(index) for index in range(content.segments)]
    found = [
        _static(content, PROBE_PATH, BINARY, content.probe_bytes),
        _static(content, PATCH_PATH, BINARY, content.patch_bytes),
        *(_static(content, path, SEGMENT, content.segment_bytes) for path in segment_paths),
    ]
    body = _playlist(segment_paths).encode()
    found.append(Static(PLAYLIST_PATH, PLAYLIST, body, sha256(body).hexdigest()))
    return {static.path: static for static in found}


def probed_objects(content: Content) -> tuple[ProbedObject, ...]:
    """Every cacheable object with what a good answer looks like, /probe first."""
    return tuple(
        ProbedObject(
            static.path,
            Expect(body_bytes=len(static.body), sha256=static.sha256, content_type=static.content_type),
        )
        for static in statics(content).values()
    )


def other_version(content: Content) -> Content:
    """The same objects with other bytes of the same lengths."""
    return replace(content, seed=content.seed + 1)


def segment_path(index: int) -> str:
    """The path of one HLS segment."""
    return f"/music/seg{index}.ts"


def feed_body(number: int, origin: str, at_ms: int) -> bytes:
    """The post with that number as JSON; differs from request to request by its stamps."""
    post = {"post": number, "text": f"post {number}", "from": origin, "at_ms": at_ms}
    return json.dumps(post).encode()


def chat_event(content: Content, reply: str, index: int) -> bytes:
    """Event `index` (from 1) of a reply on the wire; the same from every origin: a stream can go on."""
    return f"id: {index}\ndata: {chat_word(content, reply, index)}\n\n".encode()


def chat_word(content: Content, reply: str, index: int) -> str:
    """The text of one event; that of the last one is `[DONE]`."""
    if index >= content.chat_events:
        return "[DONE]"
    return WORDS[chance_ppm(content.seed, reply, index) % len(WORDS)]


def _static(content: Content, path: str, content_type: str, body_bytes: int) -> Static:
    body = shake_256(f"{content.seed}{path}".encode()).digest(body_bytes)
    return Static(path, content_type, body, sha256(body).hexdigest())


def _playlist(segment_paths: list[str]) -> str:
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n"
    return head + "".join(f"#EXTINF:6.0,\n{path}\n" for path in segment_paths) + "#EXT-X-ENDLIST\n"
