"""A page as users get it: redirects followed, hop by hop, and what the last one loads."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from polycdn.audit.evidence import HttpLook, HttpStatus, PageLook, Unseen
from polycdn.audit.names import name_of_host
from polycdn.audit.page import page_of
from polycdn.audit.purse import Purse
from polycdn.audit.remembered import Remembered
from polycdn.audit.request import Getter, Got

REDIRECTS_MAX: Final = 8
INLINE_BYTES_MAX: Final = 65_536
"""A larger page is read in a thread, so that others do not wait for it."""
PAGES_KEPT_MAX: Final = 256

Resolve = Callable[[str, Purse], Awaitable[str]]
"""Gives an address of a canonical name, "" when there is none."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answers of all hops, in order, and the page that the last one is."""

    looks: tuple[HttpLook, ...]
    page: PageLook | None = None
    unseen: tuple[Unseen, ...] = ()


class Fetcher:
    """Fetches pages, each URL once."""

    def __init__(self, getter: Getter, resolve: Resolve, page_bytes_max: int) -> None:
        self._getter = getter
        self._resolve = resolve
        self._page_bytes_max = page_bytes_max
        self._hops: Remembered[tuple[HttpLook, PageLook | None]] = Remembered(PAGES_KEPT_MAX)

    async def close(self) -> None:
        """Ends what nobody waits for any more."""
        await self._hops.close()

    async def fetch(self, url: str, purse: Purse, *, follow: bool = True) -> Fetched:
        """What users get for a URL. Raises SpentError; never for anything that the world does."""
        looks: list[HttpLook] = []
        seen = set()
        while True:
            seen.add(url)
            look, page = await self._hop(url, purse)
            looks.append(look)
            if not follow or not 300 <= look.code < 400 or not look.location:
                return Fetched(tuple(looks), page)
            if look.location in seen or len(looks) > REDIRECTS_MAX:
                return Fetched(
                    tuple(looks), None, (Unseen(url, "http", f"loop: redirects to {look.location}"),)
                )
            url = look.location

    async def content(self, url: str, purse: Purse) -> bytes:
        """The body of a URL after its redirects; b"" when there is none. Raises SpentError."""
        for _ in range(REDIRECTS_MAX):
            got = await self._got(url, purse)
            look = got.look if got else None
            if got is None or look is None or look.status is not HttpStatus.OK:
                return b""
            if not 300 <= look.code < 400:
                return got.body if look.code == 200 and not look.truncated else b""
            url = look.location
            if not url.startswith("https://"):
                return b""
        return b""

    async def _hop(self, url: str, purse: Purse) -> tuple[HttpLook, PageLook | None]:
        return await self._hops.get(url, lambda: self._made(url, purse))

    async def _made(self, url: str, purse: Purse) -> tuple[HttpLook, PageLook | None]:
        got = await self._got(url, purse)
        if got is None:
            return HttpLook(url, "", HttpStatus.BAD, why="the host has no address"), None
        return got.look, await _page(got)

    async def _got(self, url: str, purse: Purse) -> Got | None:
        """The answer of a URL; None when its host has no address."""
        host = urlsplit(url).hostname or ""
        name = name_of_host(host)
        address = await self._resolve(name, purse) if name else host
        if not address:
            return None
        purse.spend()
        return await self._getter.get(url, address, self._page_bytes_max)


async def _page(got: Got) -> PageLook | None:
    """What an answer loads; None when it is no HTML."""
    look = got.look
    kind = (look.header("content-type") or "").lower()
    is_html = "html" in kind or (not kind and got.body[:512].lstrip()[:1] == b"<")
    if look.status is not HttpStatus.OK or not 200 <= look.code < 300 or not is_html:
        return None
    _, _, charset = kind.partition("charset=")
    charset = charset.strip(" \"';")[:40] or "utf-8"
    if len(got.body) <= INLINE_BYTES_MAX:
        return page_of(look.url, got.body, is_truncated=look.truncated, charset=charset)
    return await asyncio.to_thread(page_of, look.url, got.body, is_truncated=look.truncated, charset=charset)
