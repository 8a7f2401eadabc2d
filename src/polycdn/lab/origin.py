"""An origin: chat, feed, patch and music, plus /probe; logs every request."""

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from polycdn.lab.content import EVENTS, JSON, Content, Static, chat_event, feed_body, other_version, statics
from polycdn.lab.exchange import BODY_SHA256, Answer, Request, conditional, page
from polycdn.lab.logs import LineLog
from polycdn.lab.spec import OriginSpec
from polycdn.model.units import Clock

KEY_BYTES_MAX: Final = 200


class Origin:
    """Answers the lab's requests. Holds which POST keys were executed here."""

    def __init__(self, spec: OriginSpec, clock: Clock, log: LineLog) -> None:
        self._name = spec.process.name
        self._content = spec.content
        self._clock = clock
        self._log = log
        self._statics = statics(spec.content)
        self._executed: dict[str, bytes] = {}
        self._keys_dir = Path(spec.keys_dir) if spec.keys_dir else None

    async def answer(self, request: Request) -> Answer:
        """The answer to one request; logged when it is made, or for a stream when it ends."""
        if request.path == "/chat" and request.method == "GET":
            return self._chat(request)
        answer, is_executed = self._whole(request)
        self._write(request, answer.status, len(answer.body), is_executed=is_executed)
        return answer

    def _whole(self, request: Request) -> tuple[Answer, bool]:
        """An answer of known length, and whether it executed a POST."""
        if request.method == "POST":
            return self._post(request)
        if request.method not in ("GET", "HEAD"):
            return page(405, "405 Method Not Allowed").having(allow="GET, HEAD, POST"), False
        known = statics(other_version(self._content)) if request.is_other_version else self._statics
        static = known.get(request.path)
        if static is not None:
            return conditional(request, _static_answer(static, self._content)), False
        number = request.path.removeprefix("/feed/")
        if number.isdecimal() and number.isascii() and request.path != number:
            body = feed_body(int(number), self._name, self._clock.now_ms())
            return _json_answer(200, body), False
        return page(404, "404 Not Found"), False

    def _post(self, request: Request) -> tuple[Answer, bool]:
        """Executes a key once; a repeated one gets the first answer again. /message knows no keys."""
        if request.path == "/message":
            return _json_answer(201, feed_body(0, self._name, self._clock.now_ms())), True
        if request.path != "/feed":
            return page(404, "404 Not Found"), False
        key = request.fields.get("idempotency-key", "")
        if not 0 < len(key) <= KEY_BYTES_MAX:
            return page(400, "400 Idempotency-Key is missing or too long"), False
        fresh = feed_body(len(self._executed), self._name, self._clock.now_ms())
        body, is_executed = self._execute(key, fresh)
        return _json_answer(201 if is_executed else 200, body), is_executed

    def _execute(self, key: str, fresh: bytes) -> tuple[bytes, bool]:
        known = self._executed.get(key)
        if known is not None:
            return known, False
        if self._keys_dir is not None and (shared := _claim(self._keys_dir, key, fresh)) is not None:
            return shared, False
        self._executed[key] = fresh
        return fresh, True

    def _chat(self, request: Request) -> Answer:
        last = request.fields.get("last-event-id", "0")
        query = parse_qs(urlsplit(request.target).query)
        reply = query.get("reply", [request.key])[0]
        first = int(last) + 1 if last.isdecimal() and last.isascii() else 1
        fields = {"content-type": EVENTS, "cache-control": "no-store"}
        if request.method == "HEAD":
            return Answer(200, fields)
        return Answer(200, fields, stream=self._events(request, reply, first))

    async def _events(self, request: Request, reply: str, first: int) -> AsyncIterator[bytes]:
        sent_bytes = 0
        try:
            for index in range(first, self._content.chat_events + 1):
                if index > first:
                    await asyncio.sleep(self._content.chat_interval_ms / 1000)
                event = chat_event(self._content, reply, index)
                sent_bytes += len(event)
                yield event
        finally:
            self._write(request, 200, sent_bytes, is_executed=False)

    def _write(self, request: Request, status: int, body_bytes: int, *, is_executed: bool) -> None:
        self._log.write(
            at_ms=self._clock.now_ms(),
            origin=self._name,
            key=request.fields.get("idempotency-key", request.key),
            method=request.method,
            path=request.path,
            status=status,
            bytes=body_bytes,
            executed=is_executed,
        )


def _static_answer(static: Static, content: Content) -> Answer:
    fields = {
        "content-type": static.content_type,
        "etag": f'"{static.sha256[:16]}"',
        "cache-control": f"public, max-age={content.max_age_s}",
        "repr-digest": _digest(bytes.fromhex(static.sha256)),
    }
    return Answer(200, fields, static.body, bytes_per_s=content.bytes_per_s)


def _json_answer(status: int, body: bytes) -> Answer:
    digest = sha256(body)
    fields = {
        "content-type": JSON,
        "cache-control": "no-store",
        "content-digest": _digest(digest.digest()),
        BODY_SHA256: digest.hexdigest(),
    }
    return Answer(status, fields, body)


def _digest(digest: bytes) -> str:
    """A SHA-256 as RFC 9530 writes it."""
    return f"sha-256=:{b64encode(digest).decode()}:"


def _claim(keys_dir: Path, key: str, fresh: bytes) -> bytes | None:
    """None if the key is ours now; else the answer of who had it before. Of racing links one is made."""
    path = keys_dir / sha256(key.encode()).hexdigest()
    draft = keys_dir / f".{os.getpid()}.draft"
    draft.write_bytes(fresh)
    try:
        os.link(draft, path)
    except FileExistsError:
        return path.read_bytes()
    finally:
        draft.unlink()
    return None
