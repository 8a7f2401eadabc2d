"""Whether a server does what a row is about: right bytes, out of its cache or from the origin."""

import hashlib
import http.client
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from throughput.asking import ask, trusting
from throughput.rows import MIB, Kind, Row, Tool
from throughput.serving import Running

PATHS = ("/1k", "/100k", "/100m", "/miss", "/no-store", "/slow/")
"""What the origin counts, in its order."""

FILLS_MAX = 8
MISSES = 3
QUIET_S = 0.2
QUIET_WITHIN_S = 10
FIRST = 5_000_001
"""Where the checked range begins: within a block, and over the end of it."""


@dataclass(frozen=True)
class Origin:
    """The origin of one server, which counts, and what its objects are."""

    port: int
    digests: dict[str, str]
    big: Path

    def asked(self, path: str) -> int:
        """Requests so far for one of the paths."""
        return int(ask(self.port, "/count").body.split()[PATHS.index(path)])

    def quiet(self) -> bool:
        """Whether no request came for a while; some servers still fetch for clients that have left."""
        end = time.monotonic() + QUIET_WITHIN_S
        before = ask(self.port, "/count").body
        while time.monotonic() < end:
            time.sleep(QUIET_S)
            now = ask(self.port, "/count").body
            if now == before:
                return True
            before = now
        return False


def digest(body: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(body).hexdigest()


def fault(row: Row, running: Running, origin: Origin) -> str | None:
    """Why the server cannot be measured in this row; None when it can, and then its cache has the object."""
    try:
        if dead := running.dead():
            return dead
        if not origin.quiet():
            return f"its origin is still asked {QUIET_WITHIN_S} s after the last row"
        if row.is_tls and (old := _old_tls(running.site.https, row.tool is Tool.H2LOAD)):
            return old
        return _check_of(row)(row, running, origin)
    except (OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"


def _check_of(row: Row) -> Callable[[Row, Running, Origin], str | None]:
    if row.kind is Kind.MISS:
        return _misses
    if row.kind is Kind.MEMORY:
        return _test_set
    if row.kind in (Kind.STORM, Kind.COLD_START):
        return lambda *_: None
    if row.name == "not_modified":
        return _not_modified
    if row.tool is Tool.H2LOAD:
        return _hits_h2
    return _range if "range" in row.words else _hits


def _hits(row: Row, running: Running, origin: Origin) -> str | None:
    """The right bytes, and in the end from the cache: a server may need some requests to keep an object."""
    port, found = running.port(row.name, row.is_tls), ""
    for attempt in range(FILLS_MAX):
        before = origin.asked(row.path)
        answer = ask(port, row.path, row.is_tls)
        if answer.status != 200 or digest(answer.body) != origin.digests[row.file]:
            return f"wrong answer: status {answer.status}, {len(answer.body)} bytes"
        asked = origin.asked(row.path) - before
        if not asked:
            return None
        found = f"not a hit: the origin saw {asked} requests for one, {attempt + 1} times"
        time.sleep(0.1 * attempt)
    return found


def _test_set(row: Row, running: Running, origin: Origin) -> str | None:
    """Every object in its cache."""
    for file in ("1k", "100k", "100m"):
        if found := _hits(replace(row, file=file, path=f"/{file}"), running, origin):
            return found
    return None


def _hits_h2(row: Row, running: Running, origin: Origin) -> str | None:
    if found := _hits(row, running, origin):
        return found
    url, before = f"https://127.0.0.1:{running.port(row.name, True)}{row.path}", origin.asked(row.path)
    done = subprocess.run(
        ("nghttp", "--no-verify-peer", "-H", ":authority: localhost", url),
        capture_output=True,
        timeout=30,
        check=False,
    )
    if digest(done.stdout) != origin.digests[row.file]:
        return f"wrong answer over HTTP/2: {len(done.stdout)} bytes"
    return None if origin.asked(row.path) == before else "not a hit over HTTP/2"


def _not_modified(row: Row, running: Running, origin: Origin) -> str | None:
    if found := _hits(row, running, origin):
        return found
    before, port = origin.asked(row.path), running.port(row.name, False)
    answer = ask(port, row.path, If_None_Match=row.words[-1])
    asked = origin.asked(row.path) - before
    if answer.status != 304 or answer.body or asked:
        return f"status {answer.status}, {len(answer.body)} bytes, the origin saw {asked} requests"
    return None


def _range(row: Row, running: Running, origin: Origin) -> str | None:
    if found := _hits(row, running, origin):
        return found
    before, port = origin.asked(row.path), running.port(row.name, row.is_tls)
    answer = ask(port, row.path, row.is_tls, Range=f"bytes={FIRST}-{FIRST + MIB - 1}")
    asked = origin.asked(row.path) - before
    with origin.big.open("rb") as big:
        big.seek(FIRST)
        is_right = answer.body == big.read(MIB)
    if answer.status != 206 or not is_right or asked:
        return f"range: status {answer.status}, {len(answer.body)} bytes, the origin saw {asked} requests"
    return None


def _misses(row: Row, running: Running, origin: Origin) -> str | None:
    before, port = origin.asked(row.path), running.port(row.name, False)
    answers = [ask(port, row.path) for _ in range(MISSES)]
    asked = origin.asked(row.path) - before
    if any(answer.status != 200 or digest(answer.body) != origin.digests[row.file] for answer in answers):
        return f"wrong answer: status {answers[-1].status}, {len(answers[-1].body)} bytes"
    return None if asked == MISSES else f"the origin saw {asked} of {MISSES} requests"


def _old_tls(port: int, is_h2: bool) -> str | None:
    context = trusting()
    context.set_alpn_protocols(["h2"] if is_h2 else ["http/1.1"])
    with socket.create_connection(("127.0.0.1", port), 10) as raw, context.wrap_socket(raw) as tls:
        if tls.version() != "TLSv1.3":
            return f"{tls.version()} instead of TLSv1.3"
        if is_h2 and tls.selected_alpn_protocol() != "h2":
            return f"agrees on {tls.selected_alpn_protocol()} instead of h2"
    return None
