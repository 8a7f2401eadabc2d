"""Whether a purge reaches a provider: an object seen from its cache, purged, and asked for again."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from polycdn.measure.parity import NO_DOOR, NOT_REACHED, NOT_SEEN, REACHED
from polycdn.measure.parity_ask import Call, Heard, call_of, hear
from polycdn.model.purge import PurgeDoor
from polycdn.model.topology import Provider
from polycdn.model.units import Clock

PAUSE_MS: Final = 250
WARM_MS: Final = 5_000
"""How long an object may take to be answered from a cache, twice in a row."""
REACH_MS: Final = 10_000
"""How long a purge may take; those of large CDNs take from a fifth of a second to some seconds."""
HIT: Final = re.compile(r"hit(?![-\w])", re.I)
WORDED: Final = ("x-cache", "x-cache-status", "cf-cache-status", "cdn-cache", "x-proxy-cache")
"""Headers of CDNs' own in which a word says whether a cache answered; Cache-Status is the standard's."""


@dataclass(frozen=True, slots=True)
class Sign:
    """What an answer says of the caches that it came through; None = nothing."""

    is_hit: bool | None
    age_s: int | None

    @property
    def is_kept(self) -> bool:
        """Whether a cache answered. Without a word on it, an age of a second or more says so."""
        return bool(self.age_s) if self.is_hit is None else self.is_hit


def sign_of(headers: Sequence[tuple[str, str]]) -> Sign:
    """From Cache-Status (RFC 9211), else from CDNs' own words for it, and from Age (RFC 9111 §5.1)."""
    named = dict(headers)
    age = named.get("age", "").split(",")[0].strip()
    age_s = int(age) if age.isascii() and age.isdecimal() and len(age) < 12 else None
    if "cache-status" in named:
        words = re.split(r"[,;]", named["cache-status"].lower())
        return Sign(any(word.strip() in ("hit", "hit=?1") for word in words), age_s)
    said = [named[name] for name in WORDED if name in named]
    return Sign(any(HIT.search(text) for text in said) if said else None, age_s)


def is_forgotten(before: Sign, after: Sign, elapsed_s: float) -> bool:
    """Whether an answer is from after the purge: from no cache, or younger than the object had become."""
    if not after.is_kept:
        return True
    return before.age_s is not None and after.age_s is not None and after.age_s + 1 < before.age_s + elapsed_s


async def reach_of(
    provider: Provider,
    door: PurgeDoor | None,
    secret: str,
    place: tuple[str, str],
    deadline_ms: int,
    clock: Clock,
) -> str:
    """`REACHED`; `NOT_REACHED` or `NOT_SEEN` with the reason; `NO_DOOR`. `place`: the object's host, path.

    `deadline_ms` is for one request. Changes the provider's cache.
    """
    if door is None:
        return NO_DOOR
    asked = call_of(provider, *place, "GET", (), deadline_ms)
    seen = await _kept(asked, clock)
    if isinstance(seen, str):
        return f"{NOT_SEEN}: {seen}"
    before, seen_ms = seen
    told = await hear(purge_call(provider, door, secret, place, deadline_ms))
    if not 200 <= told.status < 300:
        return f"{NOT_REACHED}: the purge was answered by {told.status or told.detail}"
    end_ms = clock.now_ms() + REACH_MS
    while True:
        heard = await hear(asked)
        after, now_ms = sign_of(heard.headers), clock.now_ms()
        if heard.status and is_forgotten(before, after, (now_ms - seen_ms) / 1000):
            return REACHED
        if now_ms >= end_ms:
            age = "" if after.age_s is None else f", {after.age_s} s old"
            return f"{NOT_REACHED}: still from the cache after {REACH_MS // 1000} s{age}"
        await clock.sleep_until(now_ms + PAUSE_MS)


async def _kept(asked: Call, clock: Clock) -> tuple[Sign, int] | str:
    """What the answer from the cache said and when, once two in a row came from there; else why not."""
    end_ms, row = clock.now_ms() + WARM_MS, 0
    while True:
        heard = await hear(asked)
        sign, now_ms = sign_of(heard.headers), clock.now_ms()
        row = row + 1 if heard.status and sign.is_kept else 0
        if row == 2:
            return sign, now_ms
        if now_ms >= end_ms:
            return _why_not(heard, sign)
        await clock.sleep_until(now_ms + PAUSE_MS)


def _why_not(heard: Heard, sign: Sign) -> str:
    if not heard.status:
        return f"no answer: {heard.detail}"
    if sign == Sign(None, None):
        return "its answers say nothing of a cache (no Cache-Status, X-Cache or Age)"
    return f"not answered from a cache within {WARM_MS // 1000} s"


def purge_call(
    provider: Provider, door: PurgeDoor, secret: str, place: tuple[str, str], deadline_ms: int
) -> Call:
    """The request that purges. In a URL's query the object's words are percent-encoded, in a body JSON's."""
    host, path = place
    own = call_of(provider, host, path, door.method, (), deadline_ms)
    url = f"{'https' if provider.endpoint.tls else 'http'}://{host}{path}"
    words = {"{url}": url, "{host}": host, "{path}": path}
    headers: tuple[tuple[str, str], ...] = ()
    if secret:
        name, _, value = door.header.partition(": ")
        headers = ((name, value.replace("{token}", secret)),)
    body = door.body and _filled(door.body, {word: json.dumps(text)[1:-1] for word, text in words.items()})
    if body:
        headers = (*headers, ("Content-Type", "application/json"))
    if not door.url:
        return Call(
            own.url, door.method, (*own.headers, *headers), body, own.connect_to, own.ca_file, deadline_ms
        )
    start, mark, query = door.url.partition("?")
    encoded = {word: quote(text, safe="") for word, text in words.items()}
    there = f"{_filled(start, words)}{mark}{_filled(query, encoded)}"
    return Call(there, door.method, headers, body, "", door.ca_file, deadline_ms)


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\{(url|host|path)\}", lambda match: words[match[0]], text)
