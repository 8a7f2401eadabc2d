"""Where a decider's events come together: observations until the round is due, operators' orders at once."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from polycdn.model.event import Event, Observed
from polycdn.model.observation import Observation
from polycdn.model.units import Clock
from polycdn.run.loop import Addressed

OBSERVATIONS_MAX: Final = 100_000
"""Per service and round; beyond it the oldest are dropped, and counted."""

ORDERS_MAX: Final = 1_000


class Inbox:
    """The live source of rounds: one `Observed` per service every `round_ms`, empty when nobody looked."""

    def __init__(self, services: Iterable[str], clock: Clock, round_ms: int) -> None:
        self.dropped = 0
        self._clock = clock
        self._round_ms = round_ms
        self._next_ms = clock.now_ms() + round_ms
        self._seen: dict[str, deque[Observation]] = {service: deque() for service in services}
        self._orders: list[Addressed] = []
        self._is_stopped = False
        self._woken = asyncio.Event()

    def observe(self, service: str, observations: Iterable[Observation]) -> None:
        """Keeps what was seen for the next round; of a service that is not steered here nothing is kept."""
        seen = self._seen.get(service)
        if seen is None:
            return
        seen.extend(observations)
        while len(seen) > OBSERVATIONS_MAX:
            seen.popleft()
            self.dropped += 1

    def put(self, service: str, event: Event) -> asyncio.Future[None]:
        """Has the event decided at once. The future is done once it is journalled, or has a JournalError.

        Raises OverflowError when too many wait.
        """
        if len(self._orders) >= ORDERS_MAX:
            raise OverflowError(f"{ORDERS_MAX} orders wait already")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._orders.append(Addressed(service, event, written))
        self._woken.set()
        return written

    def stop(self) -> None:
        """There is no next round."""
        self._is_stopped = True
        self._woken.set()

    async def next_round(self) -> Sequence[Addressed] | None:
        """Orders as soon as there are any, observations when the round is due; None after `stop`."""
        if not self._orders and not self._is_stopped:
            await self._wait()
        if self._is_stopped:
            return None
        self._woken.clear()
        orders, self._orders = self._orders, []
        now_ms = self._clock.now_ms()
        if now_ms < self._next_ms:
            return orders
        self._next_ms += self._round_ms * (1 + (now_ms - self._next_ms) // self._round_ms)
        return [*orders, *(Addressed(service, self._observed(service, now_ms)) for service in self._seen)]

    async def _wait(self) -> None:
        due = asyncio.ensure_future(self._clock.sleep_until(self._next_ms))
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait((due, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            due.cancel()
            woken.cancel()
            await asyncio.gather(due, woken, return_exceptions=True)

    def _observed(self, service: str, now_ms: int) -> Observed:
        seen = self._seen[service]
        observations = tuple(sorted(seen, key=_place))
        seen.clear()
        return Observed(now_ms, observations)


def _place(one: Observation) -> tuple[int, str, str, str, str, str]:
    """The order of a round: by time, and never by who was heard first."""
    return (one.at_ms, one.vantage, one.provider, one.region, one.path, one.reason)
