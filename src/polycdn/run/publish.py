"""Plans to surfaces, without ever making the decisions wait.

Each surface has an `Outlet` that remembers what it should hold. One that is dead or busy is tried again with
growing pauses; meanwhile the others and the next decisions go on.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from polycdn.errors import SurfaceError
from polycdn.journal.record import Entry, Published, Refused
from polycdn.model.plan import Plan
from polycdn.model.settings import Settings
from polycdn.model.units import Clock
from polycdn.surface.base import Delete, Held, Surface, Wanted, diff_one, want

PUBLISH_WAIT_MS: Final = 500
"""Real time that one round waits for its surfaces; a slower one finishes beside the next rounds."""

RETRY_MS_MIN: Final = 250
RETRY_MS_MAX: Final = 8_000
REREAD_MS: Final = 5_000
"""How often a surface is compared again although nothing changed: an engine may have come back with less."""


@dataclass(slots=True)
class Line:
    """One service on one surface. `is_refused`: it will not take this generation, whatever we do."""

    wanted: Wanted | None = None
    held: int = -1
    good_wanted: int = 0
    good_held: int = 0
    why: str = ""
    is_refused: bool = False

    @property
    def is_settled(self) -> bool:
        """Nothing to do until the next plan."""
        if self.wanted is None or self.is_refused:
            return True
        if self.held != self.wanted.generation:
            return False
        return self.good_held >= self.good_wanted or self.good_wanted != self.held


class Outlet:
    """One surface with the services that it carries; `settings` says which, and what it needs of each."""

    def __init__(
        self, surface: Surface, settings: Mapping[str, Settings], clock: Clock, reread_ms: int = 0
    ) -> None:
        self.surface = surface
        self.lines: dict[str, Line] = {service: Line() for service in settings}
        self._settings = dict(settings)
        self._clock = clock
        self._reread_ms = reread_ms
        self._read_ms = 0
        self._retry_ms = 0
        self._pause_ms = 0
        self._results: list[Entry] = []
        self._task: asyncio.Task[None] | None = None

    def carry(self, settings: Settings) -> None:
        """From now on the surface carries this service, or carries it with these settings."""
        self._settings[settings.service] = settings
        self.lines.setdefault(settings.service, Line())

    def want(self, plan: Plan) -> None:
        """Takes note of a plan, if the surface carries its service; `settle` brings it there."""
        line = self.lines.get(plan.service)
        if line is not None:
            line.wanted = want(plan, self._settings[plan.service])
            line.is_refused = False
            self._retry_ms = 0

    def want_good(self, service: str, generation: int) -> None:
        """Takes note that the traffic of this generation stayed healthy."""
        if service in self.lines:
            self.lines[service].good_wanted = generation

    def settle(self) -> asyncio.Task[None] | None:
        """The work that brings the surface where it should be; None if there is none, or it goes on."""
        if self._task is not None and not self._task.done():
            return None
        self._task = None
        now_ms = self._clock.now_ms()
        if now_ms < self._retry_ms:
            return None
        is_stale = self._reread_ms > 0 and now_ms >= self._read_ms + self._reread_ms
        if is_stale or any(not line.is_settled for line in self.lines.values()):
            self._task = asyncio.create_task(self._settle(now_ms, is_stale=is_stale))
        return self._task

    def take_results(self) -> list[Entry]:
        """What was published or refused since the last call, to be journalled."""
        results, self._results = self._results, []
        return results

    async def read_held(self) -> tuple[Held, ...]:
        """What the surface holds now; () when it cannot be asked. The generations are remembered."""
        try:
            held = await self.surface.read()
        except SurfaceError as error:
            for line in self.lines.values():
                line.why = str(error)
            return ()
        by_service = {one.service: one.generation for one in held}
        for service, line in self.lines.items():
            line.held = by_service.get(service, 0)
        return held

    async def remove_strangers(self, held: tuple[Held, ...]) -> None:
        """Deletes from the surface the services that it carries no more."""
        for one in held:
            if one.service not in self.lines:
                try:
                    await self.surface.apply(Delete(one.service))
                except SurfaceError as error:
                    self._note(one.service, Refused(self.surface.name, one.generation, str(error), True))

    async def close(self) -> None:
        """Gives up what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _settle(self, now_ms: int, *, is_stale: bool) -> None:
        is_done = True
        if is_stale:
            self._read_ms = now_ms
            is_done = await self._reread()
        unsettled = [service for service, line in self.lines.items() if not line.is_settled]
        while is_done and unsettled:
            tried = [await self._bring(service) for service in unsettled]
            is_done = all(tried)
            unsettled = [service for service, line in self.lines.items() if not line.is_settled]
        self._pause_ms = 0 if is_done else min(max(RETRY_MS_MIN, 2 * self._pause_ms), RETRY_MS_MAX)
        self._retry_ms = 0 if is_done else now_ms + self._pause_ms

    async def _reread(self) -> bool:
        """Compares again; False when the surface cannot be asked now."""
        try:
            held = {one.service: one for one in await self.surface.read()}
        except SurfaceError:
            return False
        await self.remove_strangers(tuple(held.values()))
        for service, line in self.lines.items():
            one = held.get(service)
            line.held = one.generation if one is not None else 0
            if line.wanted is not None and line.held != line.wanted.generation:
                line.is_refused = False
        return True

    async def _bring(self, service: str) -> bool:
        """Brings one service to its plan; False when that failed and is worth trying again."""
        line = self.lines[service]
        wanted = line.wanted
        assert wanted is not None, "a line without a plan is settled"
        try:
            if line.held != wanted.generation:
                await self._apply(wanted)
                line.held, line.why = wanted.generation, ""
                self._note(service, Published(self.surface.name, wanted.generation))
            if line.good_wanted == line.held and line.good_held < line.good_wanted:
                await self.surface.mark_good(service, line.held)
                line.good_held = line.held
                self._note(service, Published(self.surface.name, line.held, is_good=True))
        except SurfaceError as error:
            self._refuse(service, wanted, error)
            return not error.is_retryable
        return True

    async def _apply(self, wanted: Wanted) -> None:
        held = {one.service: one for one in await self.surface.read()}
        before = held.get(wanted.service)
        self.lines[wanted.service].held = before.generation if before is not None else 0
        order = diff_one(self.surface.name, before, wanted)
        if order is not None:
            await self.surface.apply(order)

    def _refuse(self, service: str, wanted: Wanted, error: SurfaceError) -> None:
        line = self.lines[service]
        is_news = line.why != str(error)
        line.why = str(error)
        line.is_refused = not error.is_retryable and line.wanted is wanted
        if is_news:
            self._note(service, Refused(self.surface.name, wanted.generation, str(error), error.is_retryable))

    def _note(self, service: str, body: Published | Refused) -> None:
        self._results.append(Entry(self._clock.now_ms(), service, body))


class Publisher:
    """All outlets. `publish` starts what is to be done and waits for it a moment, never longer."""

    def __init__(self, outlets: tuple[Outlet, ...] = (), wait_ms: int = PUBLISH_WAIT_MS) -> None:
        self.outlets = outlets
        self._wait_ms = wait_ms

    def want(self, plan: Plan) -> None:
        """Takes note of a plan for every surface that carries its service."""
        for outlet in self.outlets:
            outlet.want(plan)

    def want_good(self, service: str, generation: int) -> None:
        """Takes note of a good generation for every surface that carries the service."""
        for outlet in self.outlets:
            outlet.want_good(service, generation)

    async def publish(self) -> None:
        """Returns when every surface is settled, or after `wait_ms` of real time."""
        tasks = [task for outlet in self.outlets if (task := outlet.settle()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self._wait_ms / 1000)

    def take_results(self) -> list[Entry]:
        """What was published or refused since the last call, to be journalled."""
        return [entry for outlet in self.outlets for entry in outlet.take_results()]

    def newest_held(self, service: str) -> int:
        """The largest generation that any surface was seen to hold; 0 = none."""
        return max(
            (outlet.lines[service].held for outlet in self.outlets if service in outlet.lines), default=0
        )

    async def close(self) -> None:
        """Gives up what is under way."""
        for outlet in self.outlets:
            await outlet.close()
