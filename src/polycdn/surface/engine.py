"""An engine process as a surface: files it reads, and words on its socket (docs/engine-protocol.md).

An engine that is dead or busy is a retryable SurfaceError after a deadline. What it will serve when it comes
back is known all the same, from its `plan.json`.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from polycdn.errors import SurfaceError
from polycdn.model.observation import Observation, Source
from polycdn.model.settings import PublishedPlan
from polycdn.model.wire import WireError, canonical, digest, from_json
from polycdn.surface.base import Delete, Held, Order, Wanted, check_order
from polycdn.surface.control import DEADLINE_MS, call
from polycdn.surface.files import read_whole, write_whole

FROM_GOOD: Final = "good"
"""`source` of a service whose newest plan the engine would not or should not load."""


@dataclass(frozen=True, slots=True)
class ServedCount:
    """Requests (or queries) that the engine answered in one second; `outcome` as in the protocol."""

    at_ms: int
    service: str
    region: str
    outcome: str
    requests: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What an engine counted in whole seconds: observations by service, in time order, and what it served."""

    observed: tuple[tuple[str, Observation], ...]
    served: tuple[ServedCount, ...]
    upto_ms: int


class EngineSurface:
    """One engine. `folder` is `<state>/engines/<engine>`."""

    def __init__(self, name: str, folder: Path, socket: Path, deadline_ms: int = DEADLINE_MS) -> None:
        self._name = name
        self._folder = folder
        self._socket = socket
        self._deadline_ms = deadline_ms

    @property
    def name(self) -> str:
        """The engine's name."""
        return self._name

    async def read(self) -> tuple[Held, ...]:
        """What the engine serves; if it is not there, what lies on its disk."""
        try:
            services = (await self._call({"op": "status"}))["services"]
        except SurfaceError as error:
            if not error.is_retryable:
                raise
            return self._read_disk()
        return tuple(
            Held(one["service"], one["generation"], self._digest(one["service"], one["generation"]))
            for one in sorted(services, key=lambda one: str(one["service"]))
        )

    async def apply(self, order: Order) -> None:
        """Writes the files, then says the word. Raises SurfaceError if the engine does not take them."""
        if isinstance(order, Delete):
            await self._call({"op": "remove", "service": order.service})
            self._remove_files(order.service)
            return
        held = {one.service: one for one in await self.read()}
        wanted = check_order(self._name, held.get(order.wanted.service), order)
        if wanted is None:
            return
        await self._refuse_deadly(wanted)
        self._write_files(wanted)
        await self._call({"op": "apply", "service": wanted.service})
        self._remove_old_settings(wanted.service)

    async def mark_good(self, service: str, generation: int) -> None:
        """Has the engine keep its plan as the last good one, if it is this generation."""
        await self._call({"op": "good", "service": service, "generation": generation})

    async def counts(self, since_ms: int) -> Counts:
        """Whole seconds after `since_ms`. Raises SurfaceError, retryable when the engine is not there."""
        answer = await self._call({"op": "counts", "since_ms": since_ms})
        try:
            observed = tuple(
                (from_json(str, row.pop("service")), _observation(self._name, row))
                for row in answer["counts"]
            )
            served = tuple(from_json(ServedCount, row) for row in answer.get("served", ()))
            return Counts(observed, served, from_json(int, answer["upto_ms"]))
        except (WireError, KeyError, AttributeError, TypeError) as error:
            raise SurfaceError(
                f"engine {self._name}: counts not understood: {error}", is_retryable=False
            ) from None

    async def hello(self) -> dict[str, Any]:
        """Who answers on the socket: engine, role, version, pid, listeners."""
        return await self._call({"op": "hello"})

    async def _call(self, word: dict[str, Any]) -> dict[str, Any]:
        return await call(self._socket, word, self._deadline_ms)

    def _service_folder(self, service: str) -> Path:
        return self._folder / service

    def _read_disk(self) -> tuple[Held, ...]:
        found = []
        for file in sorted(self._folder.glob("*/plan.json")):
            plan = _published(file)
            if plan is not None:
                found.append(Held(plan.plan.service, plan.plan.generation, digest(plan)))
        return tuple(found)

    def _digest(self, service: str, generation: int) -> str:
        """That of the candidate which the engine accepted; "" if the candidate is another one by now."""
        candidate = _published(self._service_folder(service) / "candidate.json")
        return digest(candidate) if candidate and candidate.plan.generation == generation else ""

    async def _refuse_deadly(self, wanted: Wanted) -> None:
        """Raises SurfaceError if the engine fell back to its good plan from this very generation.

        Offering the plan again that it died of would kill it again; a newer plan is welcome.
        """
        rejected = _published(self._service_folder(wanted.service) / "plan.json")
        if rejected is None or wanted.generation > rejected.plan.generation:
            return
        for one in (await self._call({"op": "status"}))["services"]:
            if one["service"] == wanted.service and one["source"] == FROM_GOOD:
                raise SurfaceError(
                    f"engine {self._name}, service {wanted.service}: fell back from generation "
                    f"{rejected.plan.generation} to the last good one, {one['generation']}; "
                    "waits for a newer plan",
                    is_retryable=False,
                )

    def _write_files(self, wanted: Wanted) -> None:
        folder = self._service_folder(wanted.service)
        settings_file = folder / f"settings-{wanted.published.settings_hash}.json"
        content = canonical(wanted.settings)
        assert hashlib.sha256(content).hexdigest() == wanted.published.settings_hash, "plan of other settings"
        if read_whole(settings_file) != content:
            write_whole(settings_file, content)
        write_whole(folder / "candidate.json", canonical(wanted.published))

    def _remove_old_settings(self, service: str) -> None:
        folder = self._service_folder(service)
        plans = [_published(folder / name) for name in ("candidate.json", "plan.json", "good.json")]
        kept = {f"settings-{plan.settings_hash}.json" for plan in plans if plan is not None}
        for file in folder.glob("settings-*.json"):
            if file.name not in kept:
                with suppress(OSError):
                    file.unlink()

    def _remove_files(self, service: str) -> None:
        folder = self._service_folder(service)
        for file in folder.glob("*.json"):
            with suppress(OSError):
                file.unlink()
        with suppress(OSError):
            folder.rmdir()


def _observation(engine: str, row: dict[str, Any]) -> Observation:
    return from_json(Observation, row | {"vantage": engine, "source": Source.ENGINE.value})


def _published(file: Path) -> PublishedPlan | None:
    """The plan in a file; None if there is none or it cannot be read as one."""
    try:
        content = read_whole(file)
        return None if content is None else from_json(PublishedPlan, json.loads(content))
    except (ValueError, RecursionError, SurfaceError):
        return None
