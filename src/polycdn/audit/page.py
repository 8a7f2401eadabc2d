"""What a page loads, read off its HTML without a browser. Pure, and linear in the page's length.

A scan over the tags and no tree: html.parser and the parsers that build trees take quadratic time on pages
made for it (decision 0002). Sees what the HTML names; what scripts and style sheets load then, it does not.
"""

import html
import re
from dataclasses import dataclass, field, replace
from typing import Final

from polycdn.audit.evidence import PageLook, PageSource, Resource, ResourceKind
from polycdn.audit.request import absolute

RESOURCES_MAX: Final = 2_000
TAGS_MAX: Final = 20_000
"""After so many the rest of a page is not looked at."""
ATTRIBUTES_MAX: Final = 64
ATTRIBUTES_BYTES_MAX: Final = 16_384
"""A tag goes on at most so far; a longer one is not looked at."""

CHARSETS: Final = re.compile(
    r"utf-?8|utf-?16|utf-16(le|be)|us-ascii|latin-?1|iso-8859-(1[013-6]|[1-9])|windows-125[0-8]|koi8-[ru]|shift_jis"
    r"|euc-(jp|kr)|iso-2022-jp|gbk|gb2312|gb18030|big5",
    re.IGNORECASE,
)
"""Those of the Encoding Standard that Python has under the same name; all else is read as UTF-8."""
OPENING: Final = re.compile(r"<(!--|[a-zA-Z][a-zA-Z0-9]{0,15}(?=[\s/>])|/(?:head|noscript)(?=[\s>]))")
REST: Final = re.compile(r"""(?:[^"'>]+|"[^"]*"|'[^']*')*>?""")
BETWEEN: Final = re.compile(r"[\s/]*")
ATTRIBUTE: Final = re.compile(
    r"""([^\s"'<>/=]{1,64})(?:\s{0,16}=\s{0,16}("[^"]*"|'[^']*'|[^\s"'>]*))?|(>)|["'=<]"""
)
IMPORT: Final = re.compile(r"""@import\s{1,16}(?:url\(\s{0,16})?["']?([^"'()\s;]{1,2048})""", re.IGNORECASE)
ENDS: Final = {
    name: re.compile(f"</{name}", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "template", "iframe", "noframes")
}
"""Elements whose content is no markup, or not that of this page, and where it ends."""

LOADS: Final = {
    "img": ("src", ResourceKind.IMAGE),
    "iframe": ("src", ResourceKind.FRAME),
    "frame": ("src", ResourceKind.FRAME),
    "embed": ("src", ResourceKind.OTHER),
    "object": ("data", ResourceKind.OTHER),
    "video": ("src", ResourceKind.OTHER),
    "audio": ("src", ResourceKind.OTHER),
    "source": ("src", ResourceKind.OTHER),
    "track": ("src", ResourceKind.OTHER),
    "input": ("src", ResourceKind.IMAGE),
}
READ: Final = frozenset({"base", "noscript", "script", "link", "style", *ENDS, *LOADS})
"""Elements whose attributes or content matter."""
KIND_OF_AS: Final = {
    "script": ResourceKind.SCRIPT,
    "style": ResourceKind.STYLE,
    "font": ResourceKind.FONT,
    "image": ResourceKind.IMAGE,
    "fetch": ResourceKind.FETCH,
}
VISIBLE: Final = frozenset(
    {"p", "div", "h1", "h2", "main", "article", "section", "header", "nav", "img", "table"}
)


@dataclass(slots=True)
class _Scan:
    """What was met so far. `is_before_content`: nothing that users see came yet."""

    base: str
    is_before_content: bool = True
    in_noscript: bool = False
    found: dict[tuple[str, ResourceKind], Resource] = field(default_factory=dict)
    last_script: tuple[str, ResourceKind] | None = None
    is_full: bool = False

    def add(self, resource: Resource) -> None:
        key = (resource.url, resource.kind)
        if not resource.url or self.in_noscript or self._is_blocking(key):
            return
        if len(self.found) >= RESOURCES_MAX and key not in self.found:
            self.is_full = True
            return
        self.found[key] = resource

    def _is_blocking(self, key: tuple[str, ResourceKind]) -> bool:
        known = self.found.get(key)
        return known is not None and known.blocking


def page_of(url: str, body: bytes, *, is_truncated: bool = False, charset: str = "utf-8") -> PageLook:
    """The resources of a page, in order. Never raises for any bytes."""
    text = body.decode(charset if CHARSETS.fullmatch(charset) else "utf-8", "replace")
    scan = _Scan(url)
    at = tags = 0
    while opening := OPENING.search(text, at):
        tags += 1
        if tags > TAGS_MAX:
            scan.is_full = True
            break
        at = _take(scan, text, opening)
    resources = tuple(scan.found.values())
    return PageLook(url, PageSource.HTML, resources, is_truncated or scan.is_full)


def _take(scan: _Scan, text: str, opening: re.Match[str]) -> int:
    """Reads one tag; gives where to go on."""
    name, at = opening.group(1).lower(), opening.end()
    if name == "!--":
        end = text.find("-->", max(at - 2, 0))
        return len(text) if end < 0 else end + 3
    if name.startswith("/"):
        scan.in_noscript = scan.in_noscript and name != "/noscript"
        return at
    if name not in READ:
        scan.is_before_content = scan.is_before_content and name not in VISIBLE
        return _end(REST.match(text, at, at + ATTRIBUTES_BYTES_MAX))
    attributes, at = _attributes(text, at)
    content = ""
    if name in ENDS:
        ending = ENDS[name].search(text, at)
        end = ending.start() if ending else len(text)
        content, at = text[at : min(end, at + ATTRIBUTES_BYTES_MAX)], end
    _meet(scan, name, attributes, content)
    return at


def _attributes(text: str, at: int) -> tuple[dict[str, str], int]:
    """The attributes of a tag, the first of a name counts, and where the tag ends."""
    found: dict[str, str] = {}
    limit = min(len(text), at + ATTRIBUTES_BYTES_MAX)
    while at < limit and len(found) < ATTRIBUTES_MAX:
        at = _end(BETWEEN.match(text, at, limit))
        match = ATTRIBUTE.match(text, at, limit)
        if match is None:
            return found, at
        at = max(match.end(), at + 1)
        if match.group(3):
            break
        name, value = match.group(1), match.group(2) or ""
        if name:
            quoted = value[1:-1] if value[:1] in ("'", '"') else value
            found.setdefault(name.lower(), html.unescape(quoted))
    return found, at


def _end(match: re.Match[str] | None) -> int:
    assert match is not None, "a pattern that matches nothing too"
    return match.end()


def _meet(scan: _Scan, name: str, attributes: dict[str, str], content: str) -> None:
    """What one element loads."""
    fallback = "onerror" in attributes
    integrity = bool(attributes.get("integrity"))
    match name:
        case "base":
            scan.base = absolute(scan.base, attributes.get("href", "")) or scan.base
        case "noscript":
            scan.in_noscript = True
        case "script":
            _meet_script(scan, attributes, content, fallback=fallback, integrity=integrity)
        case "link":
            _meet_link(scan, attributes, fallback=fallback, integrity=integrity)
        case "style":
            for found in IMPORT.finditer(content):
                url = absolute(scan.base, found.group(1))
                scan.add(Resource(url, ResourceKind.STYLE, scan.is_before_content))
        case _ if name in LOADS:
            attribute, kind = LOADS[name]
            scan.add(Resource(absolute(scan.base, attributes.get(attribute, "")), kind, fallback=fallback))
    scan.is_before_content = scan.is_before_content and name not in VISIBLE


def _meet_script(
    scan: _Scan, attributes: dict[str, str], content: str, *, fallback: bool, integrity: bool
) -> None:
    """A script with a source; or one without, which may be the second way of the one before it."""
    url = absolute(scan.base, attributes.get("src", ""))
    if not url:
        before = scan.found.get(scan.last_script) if scan.last_script else None
        if before is not None and _is_second_way(content):
            scan.found[(before.url, before.kind)] = replace(before, fallback=True)
        scan.last_script = None
        return
    is_waited_for = (
        not ({"async", "defer"} & set(attributes)) and attributes.get("type", "").lower() != "module"
    )
    scan.add(
        Resource(url, ResourceKind.SCRIPT, is_waited_for and scan.is_before_content, integrity, fallback)
    )
    scan.last_script = (url, ResourceKind.SCRIPT)


def _is_second_way(content: str) -> bool:
    """Whether a script loads a copy when the one before it did not come: `window.x || document.write`."""
    is_conditional = "||" in content or "if" in content
    return is_conditional and ("document.write" in content or "createElement" in content)


def _meet_link(scan: _Scan, attributes: dict[str, str], *, fallback: bool, integrity: bool) -> None:
    relations = attributes.get("rel", "").lower().split()
    url = absolute(scan.base, attributes.get("href", ""))
    if "stylesheet" in relations and "alternate" not in relations:
        media = attributes.get("media", "").lower().strip()
        blocks = scan.is_before_content and "disabled" not in attributes and media in ("", "all", "screen")
        scan.add(Resource(url, ResourceKind.STYLE, blocks, integrity, fallback))
    elif {"preload", "modulepreload"} & set(relations):
        kind = KIND_OF_AS.get(attributes.get("as", "").lower(), ResourceKind.OTHER)
        scan.add(Resource(url, kind, integrity=integrity, fallback=fallback))
    elif {"icon", "apple-touch-icon"} & set(relations):
        scan.add(Resource(url, ResourceKind.IMAGE, fallback=fallback))
