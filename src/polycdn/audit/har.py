"""A HAR file (HTTP Archive 1.2, what browsers export) as pages of evidence. Pure but for reading the file."""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from polycdn.audit.bounded import read_bounded
from polycdn.audit.evidence import PageLook, PageSource, Resource, ResourceKind
from polycdn.audit.page import page_of
from polycdn.audit.request import absolute
from polycdn.errors import ConfigError, Fault

HAR_BYTES_MAX: Final = 256 * 1024 * 1024
ENTRIES_MAX: Final = 20_000
RESOURCES_MAX: Final = 5_000
HTML_CHARACTERS_MAX: Final = 2 * 1024 * 1024

KIND_OF_TYPE: Final = {
    "script": ResourceKind.SCRIPT,
    "stylesheet": ResourceKind.STYLE,
    "font": ResourceKind.FONT,
    "image": ResourceKind.IMAGE,
    "document": ResourceKind.FRAME,
    "fetch": ResourceKind.FETCH,
    "xhr": ResourceKind.FETCH,
}
"""`_resourceType` as Chromium and WebKit write it."""

KIND_OF_MIME: Final = (
    ("javascript", ResourceKind.SCRIPT),
    ("text/css", ResourceKind.STYLE),
    ("font", ResourceKind.FONT),
    ("image/", ResourceKind.IMAGE),
    ("text/html", ResourceKind.FRAME),
    ("json", ResourceKind.FETCH),
)


def read_har(path: Path) -> tuple[PageLook, ...]:
    """The pages of a file. Raises ConfigError."""
    return pages_of_har(read_bounded(path, HAR_BYTES_MAX, _fault), str(path))


def pages_of_har(content: bytes, place: str) -> tuple[PageLook, ...]:
    """One look for each page of a recording; its first request is the page itself.

    What blocks rendering is told by the page's HTML when the recording has it, else by the browser's own
    priority (Chromium: VeryHigh for what the first paint waits for). Raises ConfigError.
    """
    try:
        raw = json.loads(content)
        entries = raw["log"]["entries"]
    except (ValueError, RecursionError) as error:
        raise ConfigError((_fault(place, f"no JSON: {str(error)[:120]}"),)) from None
    except (KeyError, TypeError):
        raise ConfigError((_fault(place, "JSON without log.entries"),)) from None
    if not isinstance(entries, list):
        raise ConfigError((_fault(place, "log.entries that is no list"),))
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in entries[:ENTRIES_MAX]:
        if isinstance(entry, dict) and _url(entry):
            groups.setdefault(str(entry.get("pageref", "")), []).append(entry)
    if not groups:
        raise ConfigError((_fault(place, "no request of http or https"),))
    return tuple(_page(group, is_cut=len(entries) > ENTRIES_MAX) for group in groups.values())


def _page(entries: list[dict[str, Any]], *, is_cut: bool) -> PageLook:
    first = _first_document(entries)
    url = _url(first)
    known = _by_url(page_of(url, _text(first)).resources)
    found: dict[str, Resource] = {}
    for entry in entries:
        loaded = _url(entry)
        if entry is first or loaded in found or _status(entry) in range(300, 400):
            continue
        kind = _kind(entry)
        seen = known.get(loaded, Resource(loaded, kind, blocking=_is_urgent(entry, kind) and not known))
        found[loaded] = replace(seen, kind=kind if kind is not ResourceKind.OTHER else seen.kind)
    resources = tuple(found.values())
    return PageLook(url, PageSource.HAR, resources[:RESOURCES_MAX], is_cut or len(resources) > RESOURCES_MAX)


def _first_document(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The page itself: the first request that was not redirected."""
    return next((entry for entry in entries if _status(entry) not in range(300, 400)), entries[0])


def _by_url(resources: Iterable[Resource]) -> dict[str, Resource]:
    return {resource.url: resource for resource in resources}


def _within(raw: Any, *path: str) -> Any:
    for name in path:
        raw = raw.get(name) if isinstance(raw, dict) else None
    return raw


def _url(entry: dict[str, Any]) -> str:
    url = _within(entry, "request", "url")
    return absolute("", url) if isinstance(url, str) else ""


def _status(entry: dict[str, Any]) -> int:
    status = _within(entry, "response", "status")
    return status if isinstance(status, int) else 0


def _text(entry: dict[str, Any]) -> bytes:
    content = _within(entry, "response", "content")
    text, encoding = _within(content, "text"), _within(content, "encoding")
    if not isinstance(text, str):
        return b""
    raw = text[:HTML_CHARACTERS_MAX].encode("utf-8", "replace")
    if encoding != "base64":
        return raw
    try:
        return base64.b64decode(raw[: len(raw) // 4 * 4])
    except binascii.Error:
        return b""


def _kind(entry: dict[str, Any]) -> ResourceKind:
    told = entry.get("_resourceType")
    if isinstance(told, str) and told.lower() in KIND_OF_TYPE:
        return KIND_OF_TYPE[told.lower()]
    mime = _within(entry, "response", "content", "mimeType")
    text = mime.lower() if isinstance(mime, str) else ""
    return next((kind for part, kind in KIND_OF_MIME if part in text), ResourceKind.OTHER)


def _is_urgent(entry: dict[str, Any], kind: ResourceKind) -> bool:
    is_waited_for = kind in (ResourceKind.SCRIPT, ResourceKind.STYLE)
    return is_waited_for and entry.get("_priority") == "VeryHigh"


def _fault(place: str, found: str) -> Fault:
    allowed = f"a HAR file (log.entries) of at most {HAR_BYTES_MAX} bytes"
    return Fault(place, found, allowed, "export it again from the browser's network panel")
