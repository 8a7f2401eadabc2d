"""What a server of the lab is asked, and what it answers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

LAB_KEY: Final = "polycdn-lab-key"
"""Request field that names a request in every log and decides its fate: "client/kind/number"."""

BODY_SHA256: Final = "polycdn-lab-sha256"
"""Answer field with the body's SHA-256 in hex, so that a client can judge a body that it has never seen."""

HTML: Final = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, its body read; `key` is LAB_KEY's value, or the connection's number and the request's.

    `is_other_version`: who serves it has other versions of all objects than the rest has.
    """

    method: str
    target: str
    fields: dict[str, str]
    body: bytes
    key: str
    is_other_version: bool = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: either a `body` of known length or a `stream` of pieces, sent as they come.

    A body of some size is sent at `bytes_per_s`, 0 = as fast as it is taken.
    """

    status: int
    fields: dict[str, str]
    body: bytes | memoryview = b""
    stream: AsyncIterator[bytes] | None = None
    bytes_per_s: int = 0

    def having(self, **fields: str) -> "Answer":
        """The same answer with more fields; underscores in names become hyphens."""
        return replace(
            self, fields=self.fields | {name.replace("_", "-"): value for name, value in fields.items()}
        )


Handler = Callable[[Request], Awaitable[Answer]]


def page(status: int, text: str) -> Answer:
    """A small HTML page, as a provider shows it to users."""
    body = f"<!doctype html><title>{text}</title><h1>{text}</h1>\n".encode()
    return Answer(status, {"content-type": HTML, "cache-control": "no-store"}, body)


def conditional(request: Request, answer: Answer) -> Answer:
    """A 200 with an ETag as the request wants it: 304, 206 of one range, 416, or whole (RFC 9110 §13, §14).

    Several ranges in one request are answered with the whole, which §14.2 allows.
    """
    etag = answer.fields.get("etag")
    if answer.status != 200 or etag is None or request.method not in ("GET", "HEAD"):
        return answer
    if etag in request.fields.get("if-none-match", "").replace(" ", "").split(","):
        kept = {name: value for name, value in answer.fields.items() if name != "content-type"}
        return Answer(304, kept)
    wanted = request.fields.get("range")
    if wanted is None or request.fields.get("if-range", etag) != etag:
        return answer.having(accept_ranges="bytes")
    return _ranged(answer, wanted)


def _ranged(answer: Answer, wanted: str) -> Answer:
    body_bytes = len(answer.body)
    unit, _, span = wanted.partition("=")
    first, dash, last = span.strip().partition("-")
    numbers = [text for text in (first, last) if text]
    if unit != "bytes" or not dash or not numbers or not all(text.isdecimal() for text in numbers):
        return answer.having(accept_ranges="bytes")
    start = int(first) if first else max(0, body_bytes - int(last))
    stop = min(int(last) + 1, body_bytes) if first and last else body_bytes
    if start >= body_bytes or start >= stop:
        return Answer(416, {"content-range": f"bytes */{body_bytes}"})
    kept = {name: value for name, value in answer.fields.items() if name != "repr-digest"}
    part = replace(answer, status=206, fields=kept, body=memoryview(answer.body)[start:stop])
    return part.having(content_range=f"bytes {start}-{stop - 1}/{body_bytes}", accept_ranges="bytes")
