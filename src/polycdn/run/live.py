"""The decider process: hears vantages, engines and the operator; decides round by round; publishes.

`python -m polycdn.run.live FILE` runs one from its spec. `up` starts it so, and a rehearsal too: only the
clock differs.
"""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from polycdn.decide.explain import explain
from polycdn.decide.step import step
from polycdn.errors import ConfigError, Fault, PolycdnError, SurfaceError
from polycdn.journal.log import Journal
from polycdn.model.event import Configured, Resumed
from polycdn.model.state import Report, State
from polycdn.run.api import OperatorDesk, WordError
from polycdn.run.clock import Script, Wall, clock_from_spec
from polycdn.run.decider_spec import DeciderSpec, EngineLink, SurfaceLink, read_decider_spec
from polycdn.run.demand import meters_of
from polycdn.run.inbox import Inbox
from polycdn.run.ingest import Ingest, places_of
from polycdn.run.loop import Addressed, Loop, Step
from polycdn.run.publish import REREAD_MS, Outlet, Publisher
from polycdn.run.resume import Resumption, resume
from polycdn.run.serve import Site, address_of, bind_tcp, bind_unix
from polycdn.run.status import STATUS_FORMAT, services_json, surfaces_json, vantages_json
from polycdn.surface.base import Surface
from polycdn.surface.engine import EngineSurface
from polycdn.surface.feed import FeedSurface
from polycdn.surface.files import write_whole
from polycdn.surface.memory import MemorySurface
from polycdn.surface.zonefile import ZoneFileSurface

ROUND_MS_MAX: Final = 1_000
"""Of the wall clock: engines' counts come every second, so that rounds are no rarer than that."""

COUNTS_PAUSE_MS: Final = 1_000
COUNTS_BACK_MS: Final = 5_000
"""How far back the first question to an engine goes."""

KEY_BYTES_MAX: Final = 65_536
REPORTERS_MAX: Final = 512
"""Connections with reports at once: bounds the memory that their bodies can take."""


class Decider:
    """One decider, put together from its spec. `run` returns when `stop` was called."""

    def __init__(self, spec: DeciderSpec, clock: Wall | Script, decide: Step = step) -> None:
        self.spec = spec
        self._clock = clock
        self._decide = decide
        names = [steered.service.name for steered in spec.services]
        self.inbox = Inbox(names, clock, round_ms_of(spec, clock))
        services = tuple(steered.service for steered in spec.services)
        self.ingest = Ingest(_keys(spec), services, self.inbox, clock)
        self._places = {service.name: places_of(service) for service in services}
        self._engines = (
            ()
            if spec.is_shadow
            else tuple(
                EngineSurface(link.name, Path(link.folder), Path(link.socket)) for link in spec.engines
            )
        )
        self._meters = {} if spec.is_shadow else meters_of(spec)
        self._feeds: list[tuple[FeedSurface, SurfaceLink]] = []
        self.publisher = Publisher(self._outlets())
        self.loop: Loop | None = None
        self._desk = OperatorDesk(self.inbox, clock, self._states, self._show)
        self._sites: list[Site] = []
        self._journal: Journal | None = None
        self._told = ""

    def stop(self) -> None:
        """Ends `run` after the round that is under way."""
        self.inbox.stop()

    async def run(self) -> None:
        """Resumes, serves and decides until `stop`. Raises PolycdnError when it cannot start."""
        tasks: list[asyncio.Task[None]] = []
        try:
            where = self._bind()  # before anything is decided: who cannot listen must not publish
            resumption = resume(Path(self.spec.journal_dir), self._decide, self._clock.now_ms())
            self._journal = resumption.journal
            self.loop = self._loop_from(resumption)
            self.ingest.heard_before(_newest_by_vantage(self.loop.states))
            await self.loop.turn(await self._first_events(), self._clock.now_ms())
            self._tell(resumption)
            await self._open(where)
            work = (self.loop.run(), self._count_forever(), self._watch_forever())
            tasks = [asyncio.create_task(one) for one in work]
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            await self._close(tasks)

    def _loop_from(self, resumption: Resumption) -> Loop:
        return Loop(
            self.inbox,
            self._clock,
            resumption.journal,
            self.publisher,
            self._decide,
            self._steered_states(resumption),
            resumption.first_entries,
        )

    def _steered_states(self, resumption: Resumption) -> dict[str, State]:
        """Those of the services that are still configured; the others are steered no more."""
        names = {steered.service.name for steered in self.spec.services}
        return {name: state for name, state in resumption.states.items() if name in names}

    async def _first_events(self) -> list[Addressed]:
        """Per service: `Resumed` from the newest generation anywhere, then what is configured, if news."""
        held = [await outlet.read_held() for outlet in self.publisher.outlets]
        for outlet, found in zip(self.publisher.outlets, held, strict=True):
            await outlet.remove_strangers(found)
        now_ms = self._clock.now_ms()
        events = []
        for steered in self.spec.services:
            name = steered.service.name
            state = self._states().get(name, State())
            newest = max(
                [
                    state.generation,
                    *(one.generation for found in held for one in found if one.service == name),
                ]
            )
            if newest > 0:
                events.append(Addressed(name, Resumed(now_ms, newest)))
            if (state.service, state.policy) != (steered.service, steered.policy):
                events.append(Addressed(name, Configured(now_ms, steered.service, steered.policy)))
        return events

    def _bind(self) -> dict[str, Any]:
        """Listens, answers nobody yet; gives what `ready_file` tells. Raises UnavailableError."""
        where: dict[str, Any] = {"pid": os.getpid(), "observations": "", "feeds": {}}
        sockets = []
        if self.spec.observations_listen:
            sockets.append(bind_tcp(self.spec.observations_listen))
            where["observations"] = address_of(sockets[0])
        if self.spec.observations_socket:
            sockets.append(bind_unix(Path(self.spec.observations_socket)))
        if sockets:
            self._sites.append(Site(self.ingest.app(), sockets, REPORTERS_MAX))
        for feed, link in self._feeds:
            if link.listen:
                bound = bind_tcp(link.listen)
                where["feeds"][link.name] = address_of(bound)
                self._sites.append(Site(feed.app(), [bound]))
        return where

    async def _open(self, where: dict[str, Any]) -> None:
        """Answers everyone from now on."""
        await self._desk.start(Path(self.spec.socket))
        for site in self._sites:
            site.start()
        if self.spec.ready_file:
            try:
                write_whole(Path(self.spec.ready_file), json.dumps(where).encode())
            except SurfaceError as error:  # a full disk does not keep us from deciding
                _log(str(error))

    async def _close(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._desk.stop()
        for feed, _ in self._feeds:
            await feed.release_waiters()
        for site in self._sites:
            await site.stop()
        await self.publisher.close()
        if self._journal is not None:
            self._journal.close()

    def _outlets(self) -> tuple[Outlet, ...]:
        if self.spec.is_shadow:
            links: tuple[EngineLink | SurfaceLink, ...] = (*self.spec.engines, *self.spec.surfaces)
            every = {one.service: one for link in links for one in link.settings}
            return (Outlet(MemorySurface("shadow"), every, self._clock),)
        reread_ms = REREAD_MS * (self._clock.speed if isinstance(self._clock, Script) else 1)
        engines = [
            Outlet(engine, {one.service: one for one in link.settings}, self._clock, reread_ms)
            for engine, link in zip(self._engines, self.spec.engines, strict=True)
        ]
        others = [
            Outlet(self._surface(link), {one.service: one for one in link.settings}, self._clock)
            for link in self.spec.surfaces
        ]
        return (*engines, *others)

    def _surface(self, link: SurfaceLink) -> Surface:
        if link.kind == "zonefile":
            assert link.zone is not None, f"surface {link.name} has no zone"
            return ZoneFileSurface(link.name, Path(link.path), link.zone)
        if link.kind == "feed":
            feed = FeedSurface(link.name, Path(link.path))
            self._feeds.append((feed, link))
            return feed
        assert link.kind == "memory", f"surface {link.name} is of the unknown kind {link.kind}"
        return MemorySurface(link.name)

    async def _count_forever(self) -> None:
        """Asks every engine each second of the wall what it counted, and tells demand when it is news."""
        wall = Wall()
        upto_ms = dict.fromkeys(self._engines, wall.now_ms() - COUNTS_BACK_MS)
        while True:
            await wall.sleep_until(wall.now_ms() + COUNTS_PAUSE_MS)
            counted = await asyncio.gather(
                *(self._count(engine, upto_ms[engine]) for engine in self._engines)
            )
            upto_ms = dict(zip(self._engines, counted, strict=True))
            await self._tell_demand(wall.now_ms())

    async def _count(self, engine: EngineSurface, since_ms: int) -> int:
        """The whole seconds since then go to the inbox; gives the newest of them."""
        try:
            counts = await engine.counts(since_ms)
        except SurfaceError:
            return since_ms
        for service, seen in counts.observed:
            if (seen.provider, seen.region) in self._places.get(service, ()):
                self.inbox.observe(service, (replace(seen, at_ms=self._clock.at_wall(seen.at_ms)),))
        for meter in self._meters.values():
            meter.take(engine.name, counts.served, counts.upto_ms)
        return counts.upto_ms

    async def _tell_demand(self, wall_ms: int) -> None:
        for name, meter in self._meters.items():
            state = self._states().get(name, State())
            for event in meter.measured(state, wall_ms, self._clock.now_ms()):
                await asyncio.wait((self.inbox.put(name, event),))

    async def _watch_forever(self) -> None:
        """Tells what changed, and catches up with a surface that turns out to hold a newer plan than ours."""
        wall = Wall()
        while True:
            await wall.sleep_until(wall.now_ms() + COUNTS_PAUSE_MS)
            self._tell(None)
            for service, state in self._states().items():
                newest = self.publisher.newest_held(service)
                if newest > state.generation:
                    await asyncio.wait((self.inbox.put(service, Resumed(self._clock.now_ms(), newest)),))

    def _tell(self, resumption: Resumption | None) -> None:
        """Writes to stderr what the operator would want to find in a log, when it is news."""
        assert self.loop is not None
        if resumption is not None and resumption.journal.torn is not None:
            torn = resumption.journal.torn
            _log(f"journal repaired: {torn.file}: {torn.cut_bytes} bytes of a torn last line cut off")
        for entry in resumption.first_entries if resumption else ():
            _log(f"journal: {entry.body}")
        lines = [f"{name}: generation {state.generation}" for name, state in sorted(self._states().items())]
        lines += [f"{name}: decision failed: {why}" for name, why in sorted(self.loop.failures.items())]
        lines += [
            f"surface {outlet.surface.name}, {service}: {line.why}"
            for outlet in self.publisher.outlets
            for service, line in sorted(outlet.lines.items())
            if line.why
        ]
        lines += [
            f"vantage {name}: reports refused: {sender.refused_why}"
            for name, sender in sorted(self.ingest.senders.items())
            if sender.refused
        ]
        text = "; ".join([*lines, *([self.loop.journal_error] if self.loop.journal_error else [])])
        if text != self._told:
            self._told = text
            _log(text)

    def _states(self) -> dict[str, State]:
        return self.loop.states if self.loop is not None else {}

    def _show(self, word: dict[str, Any]) -> dict[str, Any]:
        """Answers `status` and `explain`. Raises WordError for a service that is not steered."""
        assert self.loop is not None
        if word["op"] == "explain":
            state = self._states().get(str(word.get("service")), State())
            if state.service is None:
                known = ", ".join(sorted(self._states())) or "none is configured"
                raise WordError("service", repr(word.get("service")), known)
            report = self.loop.reports.get(state.service.name, Report(state.now_ms))
            sentences = list(explain(state, report))
            return {"service": state.service.name, "generation": state.generation, "sentences": sentences}
        return {
            "format": STATUS_FORMAT,
            "pid": os.getpid(),
            "now_ms": self._clock.now_ms(),
            "clock": self._clock.spec,
            "is_shadow": self.spec.is_shadow,
            "rounds": self.loop.rounds,
            "journal": {"folder": self.spec.journal_dir, "error": self.loop.journal_error},
            "services": services_json(self.loop),
            "surfaces": surfaces_json(self.publisher.outlets),
            "vantages": vantages_json(self.ingest.senders),
        }


def round_ms_of(spec: DeciderSpec, clock: Wall | Script) -> int:
    """Time between two rounds on the clock."""
    if spec.round_ms:
        return spec.round_ms
    shortest_ms = min((steered.policy.probe_interval_ms for steered in spec.services), default=ROUND_MS_MAX)
    return min(shortest_ms, ROUND_MS_MAX) if isinstance(clock, Wall) else shortest_ms


def _newest_by_vantage(states: dict[str, State]) -> dict[str, int]:
    newest: dict[str, int] = {}
    for state in states.values():
        for stream in state.streams:
            newest[stream.vantage] = max(newest.get(stream.vantage, 0), stream.seen_ms)
    return newest


def _keys(spec: DeciderSpec) -> dict[str, bytes]:
    """The secret of every vantage. Raises ConfigError when one cannot be read."""
    keys = {}
    for vantage in spec.vantages:
        try:
            with Path(vantage.key_file).open("rb") as file:
                keys[vantage.name] = file.read(KEY_BYTES_MAX).strip()
        except OSError as error:
            place = f"key of vantage {vantage.name}: {vantage.key_file}"
            why = error.strerror or str(error)
            raise ConfigError((Fault(place, why, "a readable file", "name another key_file"),)) from None
    return keys


def _log(text: str) -> None:
    print(f"polycdn decider: {text}", file=sys.stderr, flush=True)


async def run_decider(spec: DeciderSpec, clock: Wall | Script | None = None) -> int:
    """Exit code, 0, once SIGTERM or SIGINT came."""
    decider = Decider(spec, clock or clock_from_spec(spec.clock))
    loop = asyncio.get_running_loop()
    with suppress(RuntimeError, ValueError):  # outside the main thread nobody sends us signals
        loop.add_signal_handler(signal.SIGTERM, decider.stop)
        loop.add_signal_handler(signal.SIGINT, decider.stop)
    await decider.run()
    return 0


def main(argv: list[str]) -> int:
    """Exit code of the decider process whose spec is the file in `argv`."""
    try:
        return asyncio.run(run_decider(read_decider_spec(argv[0])))
    except PolycdnError as error:
        print(f"polycdn decider: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
