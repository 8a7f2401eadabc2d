"""A page as a headless Chromium loads it, when there is one: also what scripts and style sheets load.

Spoken to over a pipe (Chrome DevTools Protocol, `--remote-debugging-pipe`): no port is opened. Each page
has a browser and a profile of its own, which end with it.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from polycdn.audit.evidence import PageLook, PageSource, Resource, ResourceKind
from polycdn.audit.request import absolute

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
RESOURCES_MAX: Final = 2_000
QUIET_S: Final = 0.5
"""So long nothing may be asked for after the load event until the page counts as loaded."""

KIND_OF_TYPE: Final = {
    "Script": ResourceKind.SCRIPT,
    "Stylesheet": ResourceKind.STYLE,
    "Font": ResourceKind.FONT,
    "Image": ResourceKind.IMAGE,
    "Document": ResourceKind.FRAME,
    "Fetch": ResourceKind.FETCH,
    "XHR": ResourceKind.FETCH,
}
BLOCKING: Final = ("Blocking", "InBodyParserBlocking")
URGENT: Final = "VeryHigh"
ARGUMENTS: Final = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
    "--disable-features=Translate,MediaRouter", "--no-default-browser-check", "--disable-dev-shm-usage",
)  # fmt: skip

START: Final = """
import fcntl, os, sys
into, out = (fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3])
os.dup2(into, 3)
os.dup2(out, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium wants its pipes as descriptors 3 and 4."""


class BrowserError(Exception):
    """No page came of it; the message says why."""


@dataclass(frozen=True, slots=True)
class Browser:
    """A Chromium. `arguments` are more of its own (the lab maps names to its ports by them).

    Without its sandbox, which it does not have when root runs it, it is not let near strangers' pages:
    `is_trusting` says that the pages are one's own.
    """

    program: str
    arguments: tuple[str, ...] = ()
    is_trusting: bool = False

    async def load(self, url: str, deadline_s: float) -> PageLook:
        """What a page loads until it is quiet or the deadline passes. Raises BrowserError."""
        if os.geteuid() == 0 and not self.is_trusting:
            raise BrowserError("refused: a browser has no sandbox when root runs it")
        try:
            async with asyncio.timeout(deadline_s + 5), self._running() as pipe:
                return await _loaded(pipe, url, deadline_s)
        except TimeoutError:
            raise BrowserError("timeout: the browser does not answer") from None
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise BrowserError(f"bad: {str(error)[:200] or type(error).__name__}") from None

    @asynccontextmanager
    async def _running(self) -> AsyncIterator["_Pipe"]:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-c", START, str(theirs_in), str(theirs_out), self.program,
                *ARGUMENTS, *sandbox, *self.arguments,
                f"--user-data-dir={profile}", pass_fds=(theirs_in, theirs_out), start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            os.close(theirs_in)
            os.close(theirs_out)
            pipe = await _Pipe.opened(ours_in, ours_out)
            try:
                yield pipe
            finally:
                pipe.close()
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


def find_browser() -> Browser | None:
    """The Chromium of this machine, None when there is none."""
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    return Browser(found) if found else None


class _Pipe:
    """Messages of the protocol, each ended by a zero byte."""

    def __init__(self, reader: asyncio.StreamReader, transports: tuple[Any, Any], out: Any) -> None:
        self._reader = reader
        self._transports = transports
        self._out = out
        self._sent = 0
        self._early: list[dict[str, Any]] = []

    @classmethod
    async def opened(cls, read_fd: int, write_fd: int) -> "_Pipe":
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MESSAGE_BYTES_MAX)
        read_file, write_file = os.fdopen(read_fd, "rb", 0), os.fdopen(write_fd, "wb", 0)
        reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), read_file)
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, write_file)
        return cls(reader, (reading, writing), writing)

    def close(self) -> None:
        for transport in self._transports:
            transport.close()

    async def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """The result of a call; events that come before it are kept for `event`."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = await self._next()
            if answer.get("id") == self._sent:
                return answer.get("result") or {}
            self._early.append(answer)

    async def event(self) -> dict[str, Any]:
        """The next event."""
        return self._early.pop(0) if self._early else await self._next()

    async def _next(self) -> dict[str, Any]:
        message = json.loads((await self._reader.readuntil(b"\0"))[:-1])
        return message if isinstance(message, dict) else {}


async def _loaded(pipe: _Pipe, url: str, deadline_s: float) -> PageLook:
    target = await pipe.call("Target.createTarget", url="about:blank")
    attached = await pipe.call("Target.attachToTarget", targetId=target.get("targetId", ""), flatten=True)
    session = str(attached.get("sessionId", ""))
    await pipe.call("Page.enable", session)
    await pipe.call("Network.enable", session)
    page = PageLook(url, PageSource.BROWSER)
    requests: list[dict[str, Any]] = []
    is_whole = False
    try:
        async with asyncio.timeout(deadline_s):
            moved = await pipe.call("Page.navigate", session, url=url)
            if moved.get("errorText"):
                raise BrowserError(f"bad: {moved['errorText']}")
            is_whole = await _listened(pipe, requests)
    except TimeoutError:
        pass
    main, resources = _read(requests, url)
    if not main:
        raise BrowserError("timeout: the page did not begin")
    return replace(page, url=main, resources=resources, truncated=not is_whole)


async def _listened(pipe: _Pipe, requests: list[dict[str, Any]]) -> bool:
    """Gathers requests until the page is loaded and quiet; False when there were too many."""
    is_loaded = False
    while len(requests) < RESOURCES_MAX:
        try:
            async with asyncio.timeout(QUIET_S if is_loaded else None):
                event = await pipe.event()
        except TimeoutError:
            return True
        is_loaded = is_loaded or event.get("method") == "Page.loadEventFired"
        if event.get("method") == "Network.requestWillBeSent" and isinstance(event.get("params"), dict):
            requests.append(event["params"])
    return False


def _read(requests: list[dict[str, Any]], url: str) -> tuple[str, tuple[Resource, ...]]:
    """Where the page itself ended up, and all else that was asked for."""
    main_id = requests[0].get("requestId") if requests else None
    main = ""
    found: dict[str, Resource] = {}
    for each in requests:
        told = each.get("request")
        request: dict[str, Any] = told if isinstance(told, dict) else {}
        asked = absolute(url, str(request.get("url", "")))
        if each.get("requestId") == main_id:
            main = asked
        elif asked:
            kind = KIND_OF_TYPE.get(str(each.get("type")), ResourceKind.OTHER)
            found.setdefault(asked, Resource(asked, kind, _is_blocking(each, request, kind)))
    return main, tuple(found.values())


def _is_blocking(event: dict[str, Any], request: dict[str, Any], kind: ResourceKind) -> bool:
    """By Chromium's own word, where its version says it; else by the priority of scripts and styles."""
    told = event.get("renderBlockingBehavior", request.get("renderBlockingBehavior"))
    if told is not None:
        return told in BLOCKING
    is_waited_for = kind in (ResourceKind.SCRIPT, ResourceKind.STYLE)
    initiator = event.get("initiator")
    is_parsed = isinstance(initiator, dict) and initiator.get("type") == "parser"
    return is_waited_for and is_parsed and request.get("initialPriority") == URGENT
