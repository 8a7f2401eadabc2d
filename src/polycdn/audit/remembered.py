"""Looks that several names share: made once, waited for together, forgotten when there are too many."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from itertools import islice
from typing import Final, Generic, TypeVar

from polycdn.audit.purse import SpentError

KEPT_MAX: Final = 2_048
T = TypeVar("T")


class Remembered(Generic[T]):
    """Results by key, the latest used `kept_max` of them."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._tasks: OrderedDict[Hashable, asyncio.Task[T]] = OrderedDict()
        self._kept_max = kept_max

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """The result of a key; `make` is called when nobody made it yet.

        When the one who makes it runs out of budget, the next who waits for it makes it with its own.
        A waiter that is cancelled does not take the look from the others.
        """
        while True:
            task = self._tasks.get(key)
            is_mine = task is None
            if task is None:
                task = asyncio.ensure_future(_called(make))
                task.add_done_callback(_heard)
                self._tasks[key] = task
                self._forget()
            self._tasks.move_to_end(key)
            try:
                return await asyncio.shield(task)
            except SpentError:
                if self._tasks.get(key) is task:
                    del self._tasks[key]
                if is_mine:
                    raise

    def _forget(self) -> None:
        """Drops the longest unused that are done; one that is being made stays."""
        for key in list(islice(self._tasks, max(0, len(self._tasks) - self._kept_max))):
            if self._tasks[key].done():
                del self._tasks[key]

    async def close(self) -> None:
        """Ends what is still being made."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()


async def _called(make: Callable[[], Awaitable[T]]) -> T:
    return await make()


def _heard(task: asyncio.Task[T]) -> None:
    """Nobody may be waiting any more when it fails."""
    if not task.cancelled():
        task.exception()
