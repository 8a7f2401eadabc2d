"""A CDN's cache: by target, with a real TTL and a bound in bytes; one fetch for any number of misses."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from polycdn.lab.exchange import Answer
from polycdn.model.units import Clock

MAX_AGE: Final = re.compile(r"(?:^|[,\s])(s-maxage|max-age)=(\d{1,9})(?=$|[,\s])")
UNKEPT: Final = re.compile(r"(?:^|[,\s])(no-store|no-cache|private)(?=$|[,\s=])")

Fetch = Callable[[], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored answer; `age_ms` is how old it was when it was stored."""

    answer: Answer
    stored_ms: int
    age_ms: int
    lifetime_ms: int

    def age_at(self, now_ms: int) -> int:
        """Milliseconds since the origin made it (RFC 9111 §4.2.3)."""
        return self.age_ms + now_ms - self.stored_ms


class Cache:
    """Stores 200 answers of known length while they are fresh; the least recently used go first."""

    def __init__(self, bytes_max: int, wall: Clock) -> None:
        self._bytes_max = bytes_max
        self._wall = wall
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._stored_bytes = 0
        self._fetches: dict[str, asyncio.Future[Answer | None]] = {}

    async def get(self, target: str, fetch: Fetch) -> Answer:
        """The stored answer with its Age, or a fetched one; `cache-status` says which (RFC 9211)."""
        stored = self._fresh(target)
        if stored is not None:
            return stored
        running = self._fetches.get(target)
        if running is not None:
            shared = await asyncio.shield(running)
            if shared is not None:
                return self._fresh(target) or shared
            return (await fetch()).having(cache_status="lab; fwd=miss")
        return (await self._lead(target, fetch)).having(cache_status="lab; fwd=miss")

    async def _lead(self, target: str, fetch: Fetch) -> Answer:
        """Fetches for everybody who waits; what may not be stored is not shared either."""
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._fetches[target] = future
        shared = None
        try:
            answer = await fetch()
            shared = answer if self._store(target, answer) else None
            return answer
        finally:
            del self._fetches[target]
            future.set_result(shared)

    def _fresh(self, target: str) -> Answer | None:
        entry = self._entries.get(target)
        if entry is None:
            return None
        age_ms = entry.age_at(self._wall.now_ms())
        if age_ms >= entry.lifetime_ms:
            self._drop(target)
            return None
        self._entries.move_to_end(target)
        return entry.answer.having(age=str(age_ms // 1000), cache_status="lab; hit")

    def _store(self, target: str, answer: Answer) -> bool:
        lifetime_ms = lifetime_of(answer)
        age_text = answer.fields.get("age", "0")
        age_ms = int(age_text) * 1000 if age_text.isdecimal() else 0
        if lifetime_ms <= age_ms or len(answer.body) > self._bytes_max:
            return False
        self._drop(target)
        self._entries[target] = Entry(answer, self._wall.now_ms(), age_ms, lifetime_ms)
        self._stored_bytes += len(answer.body)
        while self._stored_bytes > self._bytes_max:
            self._drop(next(iter(self._entries)))
        return True

    def _drop(self, target: str) -> None:
        entry = self._entries.pop(target, None)
        if entry is not None:
            self._stored_bytes -= len(entry.answer.body)


def lifetime_of(answer: Answer) -> int:
    """Milliseconds for which a shared cache may use an answer; 0 = not at all (RFC 9111 §3, §4.2.1)."""
    control = answer.fields.get("cache-control", "").lower()
    if answer.status != 200 or answer.stream is not None or UNKEPT.search(control):
        return 0
    ages: dict[str, str] = dict(MAX_AGE.findall(control))
    return int(ages.get("s-maxage", ages.get("max-age", "0"))) * 1000
