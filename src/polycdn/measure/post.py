"""A vantage's way to the decider: signed reports in order, over HTTP or a Unix socket, from a short queue."""

import asyncio
from collections import deque
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

import pycurl

from polycdn.measure.multi import Multi
from polycdn.measure.report import VantageReport
from polycdn.measure.sign import signed_headers
from polycdn.model import wire
from polycdn.model.units import Clock

REPORTS_KEPT: Final = 600
DELIVERY_MS_MAX: Final = 5_000
OBSERVATIONS_PATH: Final = "/observations"
SENT_BEFORE: Final = 409
"""The receiver has this report already: its answer to an earlier attempt was lost."""


class Mailbox:
    """Posts reports one after another. While the receiver is away the oldest are dropped, and counted."""

    def __init__(self, url: str, key: bytes, clock: Clock, reports_kept: int = REPORTS_KEPT) -> None:
        self._url = url
        self._key = key
        self._clock = clock
        self._reports_kept = reports_kept
        self._queue: deque[VantageReport] = deque()
        self._is_filled = asyncio.Event()
        self._multi = Multi()
        self.dropped = 0
        self.last_error = ""
        """Why the last delivery failed; "" when it did not."""

    async def __aenter__(self) -> Self:
        await self._multi.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._multi.__aexit__(kind, error, trace)

    def put(self, report: VantageReport) -> None:
        """Queues a report; over the limit the oldest one goes."""
        self._queue.append(report)
        if len(self._queue) > self._reports_kept:
            self._queue.popleft()
            self.dropped += 1
        self._is_filled.set()

    async def deliver_forever(self, retry_ms: int) -> None:
        """Posts what is queued; after a failure waits `retry_ms` of the clock and tries again."""
        while True:
            await self._is_filled.wait()
            report = self._queue[0]
            status = await self._post(report)
            if status >= 500:
                self.last_error = f"the receiver answers with status {status}"
            if status == 0 or status >= 500:
                await self._clock.sleep_until(self._clock.now_ms() + retry_ms)
                continue
            if 200 <= status < 300 or status == SENT_BEFORE:
                self.last_error = ""
            else:
                self.dropped += 1
                self.last_error = f"the receiver refused a report with status {status}"
            self._forget(report)

    def _forget(self, report: VantageReport) -> None:
        if self._queue and self._queue[0] is report:
            self._queue.popleft()
        if not self._queue:
            self._is_filled.clear()

    async def _post(self, report: VantageReport) -> int:
        """The receiver's status; 0 when it could not be reached."""
        body = wire.canonical(replace(report, dropped=self.dropped))
        easy: Any = pycurl.Curl()
        try:
            url = self._url
            if url.startswith("unix:"):
                easy.setopt(pycurl.UNIX_SOCKET_PATH, url.removeprefix("unix:").removeprefix("//"))
                url = f"http://localhost{OBSERVATIONS_PATH}"
            headers = signed_headers(self._key, report.vantage, report.at_ms, body)
            easy.setopt(pycurl.URL, url)
            easy.setopt(pycurl.PROXY, "")
            easy.setopt(pycurl.NOSIGNAL, 1)
            easy.setopt(pycurl.TIMEOUT_MS, DELIVERY_MS_MAX)
            easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
            easy.setopt(
                pycurl.HTTPHEADER,
                [
                    "Content-Type: application/json",
                    "Expect:",
                    *(f"{name}: {value}" for name, value in headers),
                ],
            )
            easy.setopt(pycurl.POSTFIELDS, body)
            easy.setopt(pycurl.WRITEFUNCTION, len)
            ended = await self._multi.perform(easy)
            if ended.code:
                self.last_error = ended.message
                return 0
            return int(easy.getinfo(pycurl.RESPONSE_CODE))
        finally:
            easy.close()
