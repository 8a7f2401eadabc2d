"""libcurl's multi interface on the event loop: many transfers at once, one thread, connections kept.

libcurl says which sockets to watch and when to be called again; the event loop watches and calls.
"""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import pycurl

CONNECTIONS_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class Ended:
    """How a transfer ended: libcurl's result code (0 = done) and its own words."""

    code: int
    message: str


class Multi:
    """Runs easy handles on the running event loop. Use as an async context manager."""

    def __init__(self, connections_kept: int = CONNECTIONS_KEPT) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._call_later)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections_kept)
        self._waiting: dict[Any, asyncio.Future[Ended]] = {}
        self._watched: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for easy, future in list(self._waiting.items()):
            self._multi.remove_handle(easy)
            future.cancel()
        self._waiting.clear()
        self._multi.close()
        if self._timer:
            self._timer.cancel()
        for fd in self._watched:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
        self._watched.clear()

    async def perform(self, easy: Any) -> Ended:
        """How the transfer ended. Cancelling the caller aborts it."""
        future: asyncio.Future[Ended] = self._loop.create_future()
        self._waiting[easy] = future
        self._multi.add_handle(easy)
        try:
            return await future
        finally:
            if self._waiting.pop(easy, None):
                self._multi.remove_handle(easy)

    def _watch(self, event: int, fd: int, _multi: Any, _state: Any) -> None:
        if fd in self._watched:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            self._watched.discard(fd)
        if event in (pycurl.POLL_IN, pycurl.POLL_INOUT):
            self._loop.add_reader(fd, self._act, fd, pycurl.CSELECT_IN)
            self._watched.add(fd)
        if event in (pycurl.POLL_OUT, pycurl.POLL_INOUT):
            self._loop.add_writer(fd, self._act, fd, pycurl.CSELECT_OUT)
            self._watched.add(fd)

    def _call_later(self, timeout_ms: int) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if timeout_ms >= 0:
            self._timer = self._loop.call_later(timeout_ms / 1000, self._act, pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, fd: int, events: int) -> None:
        self._multi.socket_action(fd, events)
        self._collect()

    def _collect(self) -> None:
        while True:
            queued, done, failed = self._multi.info_read()
            for easy in done:
                self._end(easy, Ended(0, ""))
            for easy, code, message in failed:
                self._end(easy, Ended(code, message))
            if not queued:
                return

    def _end(self, easy: Any, ended: Ended) -> None:
        self._multi.remove_handle(easy)
        future = self._waiting.pop(easy)
        if not future.done():
            future.set_result(ended)
