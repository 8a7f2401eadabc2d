"""Keeps processes running: whatever dies is started again, at once the first time, with growing pauses after.

An engine that dies again and again with a plan is started with its last good plan instead.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from polycdn.errors import SurfaceError, UnavailableError
from polycdn.model.settings import PublishedPlan
from polycdn.model.units import Clock
from polycdn.model.wire import from_json
from polycdn.run.process import Identity, identity_of, last_line, read_pid, spawn, write_pid
from polycdn.surface.control import call
from polycdn.surface.files import read_whole, write_whole

PAUSE_MS_FIRST: Final = 250
PAUSE_MS_MAX: Final = 30_000
STEADY_MS: Final = 60_000
"""A process that lived this long has its earlier deaths forgiven."""

SHORT_LIFE_MS: Final = 5_000
DEADLY_DEATHS: Final = 3
"""So many short lives in a row are laid on the plan."""

RETIRING: Final = "retiring-"
"""Begins the names of processes whose sockets another took over."""

PATIENCE_S: Final = 10.0
DRAIN_PATIENCE_S: Final = 30.0


@dataclass(slots=True)
class Deaths:
    """How often a process died lately. Pure: it is told how long each life was."""

    in_a_row: int = 0
    short_lives: int = 0

    def after(self, lived_ms: int) -> int:
        """Milliseconds to wait before the next start, after a life of `lived_ms`."""
        self.in_a_row = 1 if lived_ms >= STEADY_MS else self.in_a_row + 1
        self.short_lives = self.short_lives + 1 if lived_ms < SHORT_LIFE_MS else 0
        if self.in_a_row == 1:
            return 0
        return min(PAUSE_MS_FIRST << min(self.in_a_row - 2, 16), PAUSE_MS_MAX)

    @property
    def are_many(self) -> bool:
        """Whether it died again and again, each time soon after its start."""
        return self.short_lives >= DEADLY_DEATHS


@dataclass(frozen=True, slots=True)
class Program:
    """A process to keep: `argv`, where its log and pid file are; one that is `is_lasting` outlives us."""

    name: str
    argv: tuple[str, ...]
    log_file: Path
    pid_file: Path
    is_lasting: bool = False


class Keeper:
    """Keeps one program running until `stop`."""

    def __init__(self, program: Program, clock: Clock) -> None:
        self.program = program
        self.identity: Identity | None = None
        self.restarts = 0
        self._clock = clock
        self._deaths = Deaths()
        self._process: subprocess.Popen[bytes] | None = None

    async def keep(self) -> None:
        """Starts the program, or watches the one that runs, and again whenever it ends; until cancelled."""
        while True:
            if self.identity is None:
                await self._start()
            since_ms = self._clock.now_ms()
            if self.identity is not None:
                await self.identity.ended()
            pause_ms = self._deaths.after(self._clock.now_ms() - since_ms)
            self._tell_death(pause_ms)
            self.identity = None
            self.restarts += 1
            await self.before_restart(self._deaths)
            await self._clock.sleep_until(self._clock.now_ms() + pause_ms)

    async def before_restart(self, deaths: Deaths) -> None:
        """For what has to change before the program is started again."""

    def adopt(self, identity: Identity) -> None:
        """Watches a process that runs already in place of starting one."""
        self.identity = identity
        self._note_pid(identity)

    async def stop(self, patience_s: float = PATIENCE_S) -> None:
        """Ends the process; call it after `keep` was cancelled."""
        if self.identity is not None:
            await self.identity.end(patience_s)
        self._reap()
        self.program.pid_file.unlink(missing_ok=True)

    async def end_leftover(self) -> None:
        """Ends one of the same name that an `up` before us left behind."""
        leftover = read_pid(self.program.pid_file)
        if leftover is not None:
            tell(f"{self.program.name}: ending process {leftover.pid}, left by an earlier run")
            await leftover.end(PATIENCE_S)

    async def _start(self) -> None:
        program = self.program
        try:
            started = spawn(program.argv, program.log_file, is_lasting=program.is_lasting)
        except UnavailableError as error:
            tell(f"{program.name}: {error}")
            return
        self._process, self.identity = started
        self._note_pid(self.identity)

    def _note_pid(self, identity: Identity) -> None:
        try:
            write_pid(self.program.pid_file, identity)
        except SurfaceError as error:  # a full disk must not keep anything from running
            tell(f"{self.program.name}: {error}")

    def _tell_death(self, pause_ms: int) -> None:
        code = self._reap()
        ended = "ended" if code is None else f"ended with {code}"
        said = last_line(self.program.log_file)
        tell(
            f"{self.program.name}: {ended}; started again in {pause_ms} ms"
            + (f"; it said: {said}" if said else "")
        )

    def _reap(self) -> int | None:
        """The exit code of a child of ours, negative if a signal killed it; None of an adopted process."""
        if self._process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=1)
        return None


class EngineKeeper(Keeper):
    """Keeps an engine: adopts the one that runs; goes back to the last good plan when the new one kills."""

    def __init__(
        self, program: Program, clock: Clock, config: dict[str, Any], config_file: Path, version: str | None
    ) -> None:
        super().__init__(program, clock)
        self.config = config
        self._config_file = config_file
        self._socket = Path(config["socket"])
        self._folder = Path(config["state_dir"]) / "engines" / config["engine"]
        self._version = version
        self._deadly: dict[str, int] = {}

    async def adopt_running(self) -> bool:
        """Watches the engine that answers on the socket if it is what the config asks for.

        False: start one. It takes the listening sockets over from one that is something else, which then
        finishes what it has and ends; if the new one cannot start, the old one serves on.
        """
        running = await self.hello()
        if running is None:
            await self.end_leftover()
            self._write_config(prefer_good=False)
            return False
        identity = identity_of(int(running["pid"]))
        is_started_by_us = identity is not None and identity == read_pid(self.program.pid_file)
        if identity is not None and is_started_by_us and self._is_wanted(running):
            self.adopt(identity)
            return True
        pid = running["pid"]
        tell(f"{self.program.name}: its config or version changed; a new process takes over from {pid}")
        if identity is not None:
            self._note_retiring(identity)
        self._write_config(prefer_good=False)
        return False

    def _note_retiring(self, identity: Identity) -> None:
        """So that `down` finds it, should it still be finishing what it has. Forgets those that are gone."""
        folder = self.program.pid_file.parent
        try:
            write_pid(folder / f"{RETIRING}{identity.pid}.pid", identity)
            for file in folder.glob(f"{RETIRING}*.pid"):
                if read_pid(file) is None:
                    file.unlink(missing_ok=True)
        except SurfaceError as error:
            tell(f"{self.program.name}: {error}")

    async def hello(self) -> dict[str, Any] | None:
        """What the engine on the socket says of itself; None if nobody answers."""
        try:
            return await call(self._socket, {"op": "hello"})
        except SurfaceError:
            return None

    async def is_serving(self) -> bool:
        """Whether it answers, and has a plan for some service."""
        try:
            return bool((await call(self._socket, {"op": "status"}))["services"])
        except SurfaceError:
            return False

    async def drain(self, identity: Identity | None) -> None:
        """Has the engine finish what is under way and end."""
        with suppress(SurfaceError, TimeoutError):
            await call(self._socket, {"op": "drain"})
            if identity is not None:
                async with asyncio.timeout(DRAIN_PATIENCE_S):
                    await identity.ended()
        if identity is not None:
            await identity.end(PATIENCE_S)

    async def before_restart(self, deaths: Deaths) -> None:
        """With the last good plan, when it died again and again with one, until a newer one has come."""
        in_force = self._generations()
        if deaths.are_many and self._has_good():
            self._deadly = in_force
            names = ", ".join(
                f"{service} generation {number}" for service, number in sorted(in_force.items())
            )
            tell(
                f"{self.program.name}: died {deaths.short_lives} times in a row with {names}; "
                "back to the last good plan"
            )
        is_still_deadly = any(in_force.get(service, 0) <= number for service, number in self._deadly.items())
        try:
            self._write_config(prefer_good=is_still_deadly)
        except SurfaceError as error:  # it starts with the config that is there
            tell(f"{self.program.name}: {error}")

    def _is_wanted(self, running: dict[str, Any]) -> bool:
        is_same = running.get("engine") == self.config["engine"] and self._version in (
            None,
            running.get("version"),
        )
        return is_same and self._written_config() == self.config

    def _written_config(self) -> dict[str, Any] | None:
        """The config that the running engine was started with, without `prefer_good`."""
        try:
            written = json.loads(read_whole(self._config_file) or b"null")
        except (SurfaceError, ValueError):
            return None
        return {key: value for key, value in written.items() if key != "prefer_good"} if written else None

    def _write_config(self, *, prefer_good: bool) -> None:
        write_whole(self._config_file, json.dumps(self.config | {"prefer_good": prefer_good}).encode())

    def _has_good(self) -> bool:
        return any(self._folder.glob("*/good.json"))

    def _generations(self) -> dict[str, int]:
        """Generation of every `plan.json`: what the engine tries to serve."""
        found = {}
        for file in self._folder.glob("*/plan.json"):
            with suppress(SurfaceError, ValueError):
                published = from_json(PublishedPlan, json.loads(read_whole(file) or b""))
                found[published.plan.service] = published.plan.generation
        return found


async def until_ready(claim: Callable[[], bool], clock: Clock, patience_ms: int) -> bool:
    """Whether the claim came true in time; asks twenty times a second."""
    end_ms = clock.now_ms() + patience_ms
    while not claim():
        if clock.now_ms() >= end_ms:
            return False
        await clock.sleep_until(clock.now_ms() + 50)
    return True


def tell(text: str) -> None:
    """One line for the operator's log."""
    print(f"polycdn up: {text}", file=sys.stderr, flush=True)
