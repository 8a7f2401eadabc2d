"""The plan as JSON over HTTP, for players, service workers, SDKs and load balancers that poll.

| request | answer |
|---|---|
| `GET /api/v1/plans` | `{"plans": [{service, generation, etag}]}` |
| `GET /api/v1/plans/SERVICE` | the PublishedPlan, with an ETag; 304 on `If-None-Match` |
| `... ?wait=SECONDS&after=GENERATION` | waits up to SECONDS for a newer one; 304 if none came |
| `GET /healthz` | 200 |

Problems are RFC 9457 objects. The plan in force lies on disk and is served again after a restart.
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polycdn.errors import SurfaceError
from polycdn.model.settings import PublishedPlan
from polycdn.model.wire import canonical, digest, from_json
from polycdn.surface.base import Delete, Held, Order, check_order
from polycdn.surface.files import read_whole, write_whole

WAIT_S_MAX: Final = 60
WAITERS_MAX: Final = 4_096
OPEN_TO_BROWSERS: Final[dict[str, Any]] = {
    "allow_origins": ("*",),
    "allow_headers": ("if-none-match",),
    "expose_headers": ("etag", "polycdn-generation"),
}
"""A service worker of any site may read the feed; plans are no secret."""


@dataclass(frozen=True, slots=True)
class Page:
    """One plan as it is served."""

    generation: int
    body: bytes
    digest: str

    @property
    def etag(self) -> str:
        """Strong: the digest of the very bytes."""
        return f'"{self.digest}"'


class FeedSurface:
    """Plans in `<folder>/<service>.json`, the last good ones in `<folder>/good`; `app` serves them."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder
        self._pages = _load(folder)
        self._changed = asyncio.Condition()
        self._waiters = 0
        self._is_closing = False

    @property
    def name(self) -> str:
        """What the operator calls it."""
        return self._name

    async def read(self) -> tuple[Held, ...]:
        """What is served."""
        return tuple(
            Held(service, page.generation, page.digest) for service, page in sorted(self._pages.items())
        )

    async def apply(self, order: Order) -> None:
        """Writes the plan to disk, then serves it and wakes everyone who waits."""
        if isinstance(order, Delete):
            self._pages.pop(order.service, None)
            for file in (self._file(order.service), self._good_file(order.service)):
                file.unlink(missing_ok=True)
        else:
            page = self._pages.get(order.wanted.service)
            held = page and Held(order.wanted.service, page.generation, page.digest)
            wanted = check_order(self._name, held or None, order)
            if wanted is None:
                return
            body = canonical(wanted.published)
            write_whole(self._file(wanted.service), body)
            self._pages[wanted.service] = Page(wanted.generation, body, digest(wanted.published))
        async with self._changed:
            self._changed.notify_all()

    async def mark_good(self, service: str, generation: int) -> None:
        """Keeps the page on disk as the last good one, if it is this generation."""
        page = self._pages.get(service)
        if page is not None and page.generation == generation:
            write_whole(self._good_file(service), page.body)

    async def release_waiters(self) -> None:
        """Answers everyone who waits, so that the server can stop."""
        self._is_closing = True
        async with self._changed:
            self._changed.notify_all()

    def app(self) -> Starlette:
        """The HTTP side."""
        return Starlette(
            routes=[
                Route("/api/v1/plans", self._list),
                Route("/api/v1/plans/{service}", self._get),
                Route("/healthz", _healthy),
            ],
            middleware=[Middleware(CORSMiddleware, **OPEN_TO_BROWSERS)],
        )

    async def _list(self, _: Request) -> Response:
        plans = [
            {"service": service, "generation": page.generation, "etag": page.etag}
            for service, page in sorted(self._pages.items())
        ]
        return Response(canonical({"plans": plans}), media_type="application/json")

    async def _get(self, request: Request) -> Response:
        service = request.path_params["service"]
        try:
            wait_s = _number(request, "wait", WAIT_S_MAX)
            after = _number(request, "after", None)
        except ValueError as error:
            return problem(400, "Bad parameter", str(error))
        etags = request.headers.get("if-none-match", "")
        if wait_s and not await self._wait_for_change(service, etags, after, wait_s):
            return problem(
                503, "Too many clients wait", f"limit {WAITERS_MAX}; ask again", {"retry-after": "5"}
            )
        page = self._pages.get(service)
        if page is None:
            return problem(404, "No plan", f"no plan of service {service!r} has been published")
        return _answer(page, is_known=_is_known(page, etags, after))

    async def _wait_for_change(self, service: str, etags: str, after: int | None, wait_s: int) -> bool:
        """False when too many wait already; True at once when the client's plan is not the newest."""
        if self._waiters >= WAITERS_MAX:
            return False

        def is_over() -> bool:
            page = self._pages.get(service)
            return self._is_closing or page is None or not _is_known(page, etags, after)

        self._waiters += 1
        try:
            async with asyncio.timeout(wait_s), self._changed:
                await self._changed.wait_for(is_over)
        except TimeoutError:
            return True
        finally:
            self._waiters -= 1
        return True

    def _file(self, service: str) -> Path:
        return self._folder / f"{service}.json"

    def _good_file(self, service: str) -> Path:
        return self._folder / "good" / f"{service}.json"


def problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An RFC 9457 problem."""
    body = canonical({"detail": detail, "status": status, "title": title})
    return Response(body, status, headers, media_type="application/problem+json")


def _answer(page: Page, *, is_known: bool) -> Response:
    headers = {
        "etag": page.etag,
        "cache-control": "no-cache",
        "polycdn-generation": str(page.generation),
    }
    if is_known:
        return Response(status_code=304, headers=headers)
    return Response(page.body, headers=headers, media_type="application/json")


def _is_known(page: Page, etags: str, after: int | None) -> bool:
    """Whether the client has this page: by ETag (weak comparison, RFC 9110 §13.1.2) or by generation."""
    if after is not None and not etags:
        return page.generation <= after
    return any(tag.strip().removeprefix("W/") in (page.etag, "*") for tag in etags.split(","))


def _number(request: Request, name: str, limit: int | None) -> int | None:
    """A query parameter, cut at `limit`; None if absent. Raises ValueError if it is no whole number."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise ValueError(f"{name} must be a whole number, found {text[:40]!r}")
    return int(text) if limit is None else min(int(text), limit)


async def _healthy(_: Request) -> Response:
    return Response(b"ok\n", media_type="text/plain")


def _load(folder: Path) -> dict[str, Page]:
    """The plans that were in force. A file that is none is passed over; the next plan replaces it."""
    pages = {}
    for file in sorted(folder.glob("*.json")):
        try:
            published = from_json(PublishedPlan, json.loads(read_whole(file) or b""))
        except (ValueError, RecursionError, SurfaceError):
            continue
        plan = published.plan
        pages[plan.service] = Page(plan.generation, canonical(published), digest(published))
    return pages
