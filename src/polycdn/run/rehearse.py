"""Rehearse an outage: its timeline against real processes, compressed, and an honest count of what users saw.

The service in the lab is steered by `polycdn up` as any other: what is rehearsed is what runs live. Only the
clock differs.
"""

import asyncio
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from polycdn import incidents
from polycdn.config.load import load
from polycdn.errors import SurfaceError, UnavailableError
from polycdn.lab.exchange import LAB_KEY
from polycdn.lab.reader import Follower, Line
from polycdn.lab.resolver import write_target
from polycdn.lab.rig import Lab, rig
from polycdn.model.units import FULL_BP
from polycdn.run.clock import Wall
from polycdn.run.layout import Layout
from polycdn.run.process import last_line
from polycdn.run.rehearsal import Rehearsal, Snapshot
from polycdn.run.rehearse_figures import Keeping, rehearsal_of
from polycdn.run.rehearse_kind import told_by
from polycdn.run.rehearse_setup import (
    CLIENTS,
    LEAD_WALL_MS,
    Setting,
    client_specs,
    operator_specs,
    rig_of,
    setting_of,
    target_file,
    write_config,
)
from polycdn.run.rehearse_watch import JournalTail, Watch
from polycdn.run.up import LabOptions, Programs, Up, UpOptions
from polycdn.surface.control import call

TURN_S: Final = 0.05
"""Real time between two looks at the journal; the `threshold` client learns of its failover that late."""

SHOW_TURNS: Final = 5
RECENT_MS: Final = 300_000
"""Timeline over which the live view says what fails just now."""

READY_S_MAX: Final = 60
ENGINES: Final = 2
LOAD_REST_S_MAX: Final = 45
"""The longest deadline of a request, and a margin."""

OnSnapshot = Callable[[Snapshot], None]


def run_rehearsal(
    incident: str,
    *,
    speed: int,
    until: str,
    seed: int,
    on_snapshot: OnSnapshot,
    work_dir: Path | None = None,
    load_percent: int = 100,
    lead_wall_ms: int = LEAD_WALL_MS,
) -> Rehearsal:
    """Everything that a rehearsal of this incident (an id or a file) showed.

    Takes (time until `until`) / speed, and about half a minute. `load_percent` is the part of the usual load
    that clients send, `lead_wall_ms` the real time in which all has to be ready. Raises ConfigError for an
    unknown incident, UnavailableError when the lab cannot be started. Without `work_dir` nothing is left on
    disk.
    """
    told = incidents.load(incident)

    def run_in(folder: Path) -> Rehearsal:
        setting = setting_of(told, speed, until, seed, folder, load_percent, lead_wall_ms)
        return replace(asyncio.run(_rehearse(setting, on_snapshot)), shows=told_by(told, setting.cast.kind))

    if work_dir is not None:
        work_dir.mkdir(parents=True, exist_ok=True)
        return run_in(work_dir.resolve())
    with tempfile.TemporaryDirectory(prefix="polycdn-") as folder:
        return run_in(Path(folder))


async def _rehearse(setting: Setting, on_snapshot: OnSnapshot) -> Rehearsal:
    async with rig(rig_of(setting), Wall()) as lab, _steered(setting, lab) as up:
        stage = Stage(setting, lab, up.layout, on_snapshot)
        stage.turn()
        await lab.start(*operator_specs(setting, lab))
        await lab.start(*client_specs(setting, lab))
        late_ms = (setting.clock.now_ms() - setting.start_ms) // setting.speed
        await stage.play()
        probe_lag_ms = await stage.probe_lag_ms()
    stage.follow()
    return rehearsal_of(setting, lab, stage.watch, Keeping(late_ms, probe_lag_ms))


@asynccontextmanager
async def _steered(setting: Setting, lab: Lab) -> AsyncIterator[Up]:
    """`polycdn up` for the service in the lab, deciding; nothing of it is left when the block is over."""
    loaded = load(str(write_config(setting, lab)), env={})
    wishes = LabOptions(LAB_KEY, setting.start_ms - setting.lead_wall_ms * setting.speed, setting.seed)
    options = UpOptions(setting.clock.spec, stops_engines=True, lab=wishes)
    up = Up(loaded, options, Programs())
    running = asyncio.create_task(up.run())
    try:
        await _until_decided(up, running)
        yield up
    finally:
        up.stop()
        await asyncio.shield(running)


async def _until_decided(up: Up, running: asyncio.Task[int]) -> None:
    """Returns once both engines carry a plan. Raises UnavailableError if that takes too long."""
    if await _told(up.layout, _is_carried, running.done) is not None:
        return
    if running.done():
        running.result()
    said = last_line(up.decider.program.log_file)
    raise UnavailableError(f"the service in the lab is not steered after {READY_S_MAX} s; it said: {said}")


async def _told(
    layout: Layout, claim: Callable[[dict[str, Any]], bool], is_over: Callable[[], bool] = lambda: False
) -> dict[str, Any] | None:
    """The decider's status once the claim holds of it; None when it is over, or after READY_S_MAX."""
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_S_MAX):
            while not is_over():
                with suppress(SurfaceError):
                    status = await call(layout.decider_socket, {"op": "status"})
                    if claim(status):
                        return status
                await asyncio.sleep(TURN_S)
    return None


def _is_carried(status: dict[str, Any]) -> bool:
    held = [surface["held_generation"] for surface in status["surfaces"]]
    return len(held) == ENGINES and all(held)


class Stage:
    """A running rehearsal: follows the journal and the request logs, and shows what they say."""

    def __init__(self, setting: Setting, lab: Lab, layout: Layout, on_snapshot: OnSnapshot) -> None:
        self.watch = Watch(setting.cast.providers)
        self._setting = setting
        self._lab = lab
        self._layout = layout
        self._on_snapshot = on_snapshot
        self._tail = JournalTail(layout.journal)
        self._follower = Follower()
        self._counts: dict[str, list[int]] = {client: [0, 0] for client in CLIENTS}
        self._recent: dict[str, deque[Line]] = {client: deque() for client in CLIENTS}
        self._target = ""

    async def play(self) -> None:
        """Returns when the timeline is at its end and all load has ended."""
        ended = asyncio.create_task(self._lab.wait(*CLIENTS))
        try:
            turns = 0
            while not ended.done():
                self.turn()
                if turns % SHOW_TURNS == 0:
                    self._on_snapshot(self._snapshot())
                turns += 1
                if self._setting.clock.now_ms() > self._last_ms():
                    raise UnavailableError("the load did not end in time; this machine is too slow for it")
                await asyncio.wait([ended], timeout=TURN_S)
        finally:
            ended.cancel()
        self._on_snapshot(self._snapshot())

    def turn(self) -> None:
        """Takes in what the journal has to say, and lets the `threshold` client's failover act on it."""
        self.follow()
        choice = self.watch.threshold.choice
        if choice != self._target:
            write_target(target_file(self._setting), self._lab.places.address(choice))
            self._target = choice

    def follow(self) -> None:
        """Takes in what the journal has to say."""
        for record in self._tail.fresh():
            self.watch.take(record.entry)

    async def probe_lag_ms(self) -> int:
        """The worst vantage's 99th percentile of how late its looks began, on the timeline.

        Waits for a decider that is just being started again. Raises UnavailableError if none comes.
        """
        status = await _told(self._layout, lambda _: True)
        if status is None:
            raise UnavailableError(f"no decider tells how late the looks began, in {READY_S_MAX} s")
        return max((vantage["lag_ms_p99"] for vantage in status["vantages"]), default=0)

    def _last_ms(self) -> int:
        return self._setting.end_ms + LOAD_REST_S_MAX * 1000 * self._setting.speed

    def _snapshot(self) -> Snapshot:
        now_ms = self._setting.clock.now_ms()
        for line in self._follower.fresh(self._lab.request_logs()):
            self._count(line)
        plan = self.watch.plans[-1] if self.watch.plans else None
        region = plan.regions[0] if plan else None
        return Snapshot(
            at_ms=now_ms - self._setting.start_ms,
            until_ms=self._setting.end_ms - self._setting.start_ms,
            generation=plan.generation if plan else 0,
            ttl_s=region.ttl_s if region else 0,
            verdicts=tuple(self._verdict(name) for name in self._setting.cast.providers),
            shares=region.shares if region else (),
            clients=tuple(self._client(client, now_ms) for client in CLIENTS),
            decisions=tuple(
                (at_ms - self._setting.start_ms, text) for at_ms, text in self.watch.sentences[-6:]
            ),
            phase=self._phase(now_ms),
        )

    def _verdict(self, name: str) -> tuple[str, str, int]:
        past = self.watch.statuses.get(name)
        return name, past[-1][1] if past else "unknown", self.watch.alarms_bp.get(name, 0)

    def _count(self, line: Line) -> None:
        if line.was_sent and line.client in self._counts:
            self._counts[line.client][0] += 1
            self._counts[line.client][1] += not line.is_ok
            self._recent[line.client].append(line)

    def _client(self, client: str, now_ms: int) -> tuple[str, int, int, int]:
        recent = self._recent[client]
        while recent and recent[0].at_ms < now_ms - RECENT_MS:
            recent.popleft()
        failed = sum(not line.is_ok for line in recent)
        attempts, failed_so_far = self._counts[client]
        return client, attempts, failed_so_far, failed * FULL_BP // len(recent) if recent else 0

    def _phase(self, now_ms: int) -> str:
        offset_ms = now_ms - self._setting.start_ms
        running = [
            f"{phase.fault.value} {phase.share_ppm / 10_000:.0f} %"
            for phase in self._setting.incident.phases
            if phase.offset_ms <= offset_ms < phase.end_ms
        ]
        if running:
            return "fault: " + ", ".join(running)
        return "before the outage" if offset_ms < 0 else "no fault"
