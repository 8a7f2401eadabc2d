"""HTTP looks: HTTP/1.1, 2 and 3, to a given address with the right SNI and Host, phases timed by libcurl."""

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

import pycurl

from polycdn.measure.look import Look, Question
from polycdn.measure.multi import Multi
from polycdn.measure.transfer import Transfer
from polycdn.model.observation import Reason
from polycdn.model.units import Clock

CONCURRENCY: Final = 256


class Prober:
    """Makes looks, many at once, over connections that it keeps. Use as an async context manager."""

    def __init__(self, clock: Clock, concurrency: int = CONCURRENCY) -> None:
        self._clock = clock
        self._multi = Multi()
        self._slots = asyncio.Semaphore(concurrency)

    async def __aenter__(self) -> Self:
        await self._multi.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._multi.__aexit__(kind, error, trace)

    async def look(self, question: Question) -> Look:
        """What one question brought. Never raises for anything that the world does."""
        async with self._slots:
            transfer = Transfer(question)
            try:
                ended = await self._multi.perform(transfer.prepare())
                look = transfer.look(ended, self._clock.now_ms())
            except pycurl.error as error:
                look = _blind(question, self._clock.now_ms(), f"libcurl refused the look: {error}")
            finally:
                transfer.close()
        if look.reason is Reason.DNS_SERVFAIL:
            return replace(look, reason=await _dns_reason(question.connect_host))
        return look

    async def looks(self, questions: Iterable[Question]) -> tuple[Look, ...]:
        """One look for each question, all at once, in the order of the questions."""
        return tuple(await asyncio.gather(*(self.look(question) for question in questions)))


def _blind(question: Question, at_ms: int, detail: str) -> Look:
    return Look(at_ms, question.provider, question.path, Reason.BLIND, detail)


async def _dns_reason(name: str) -> Reason:
    """Whether a name has no address, or nobody could say; libcurl does not tell the two apart."""
    try:
        await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        is_empty = error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        return Reason.DNS_EMPTY if is_empty else Reason.DNS_SERVFAIL
    return Reason.DNS_SERVFAIL
