"""The keystone: one journal through the four real loops gives four equal lists of digests.

An outage is simulated, and its journal kept. The same observations are then posted, signed, to a live decider
and to one in a drill, and the live one's journal is replayed. Measurers, surfaces and clocks are fake;
`simulate`, `Decider`, `drill` and `replay` are those that run.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from polycdn import incidents
from polycdn.decide.step import step
from polycdn.journal.log import Journal
from polycdn.journal.memory import digests
from polycdn.journal.record import Entry
from polycdn.journal.scan import read
from polycdn.measure.report import ServiceReport, VantageReport
from polycdn.measure.sign import signed_headers
from polycdn.model.event import Configured, Event, Observed
from polycdn.model.state import Decision, State
from polycdn.model.wire import canonical
from polycdn.run.clock import Script
from polycdn.run.decider_spec import DeciderSpec, Steered, SurfaceLink, TrustedVantage
from polycdn.run.drill import drill
from polycdn.run.live import Decider
from polycdn.run.replay import Outcome, Replay, Turn, turns_of
from polycdn.run.simulate import default_services, simulate
from polycdn.run.simulation import Options, Plot
from polycdn.surface.settings import settings_for

INCIDENT = "2025-12-05-cloudflare"
KEY = b"the same for all vantages here"
SPEED = 10


class HandClock:
    """A wall that a test moves by hand; sleepers wake when it is moved far enough."""

    spec = "hand"

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._moved = asyncio.Event()

    def now_ms(self) -> int:
        return self._now_ms

    def at_wall(self, wall_ms: int) -> int:
        return wall_ms

    def move_to(self, at_ms: int) -> None:
        assert at_ms >= self._now_ms
        self._now_ms = at_ms
        self._moved.set()
        self._moved = asyncio.Event()

    async def sleep_until(self, at_ms: int) -> None:
        while self._now_ms < at_ms:
            await self._moved.wait()


def simulated(folder: Path) -> Path:
    """The journal of the simulation, every decision in it; calm rounds are rounds here too."""
    kept: list[Entry] = []

    def keeping(state: State, event: Event, now_ms: int) -> Decision:
        decision = step(state, event, now_ms)
        kept.extend((Entry(now_ms, "www", event), Entry(now_ms, "www", decision)))
        return replace(decision, report=replace(decision.report, is_calm=False))

    incident = incidents.load(INCIDENT)
    options = Options(users=1_000, probe_interval_ms=10_000, tail_s=900)
    service, policy, kind, hit = default_services(incident, options)[0]
    renamed = replace(service, name="www")
    simulate(Plot(incident, ((renamed, policy, kind, hit),)), options, keeping)
    journal = Journal.open(folder / "simulated")
    journal.append(kept)
    journal.close()
    return folder / "simulated"


def events_of(journal: Path) -> tuple[Configured, list[Observed]]:
    """What is configured, and every round of observations."""
    events = [record.entry.body for record in read(journal)]
    (configured,) = [event for event in events if isinstance(event, Configured)]
    return configured, [event for event in events if isinstance(event, Observed)]


def spec_of(folder: Path, configured: Configured) -> DeciderSpec:
    (folder / "key").write_bytes(KEY)
    return DeciderSpec(
        services=(Steered(configured.service, configured.policy),),
        journal_dir=str(folder / "journal"),
        socket=str(folder / "s"),
        surfaces=(SurfaceLink("memory", "memory", (settings_for(configured.service),)),),
        vantages=tuple(TrustedVantage(v.name, str(folder / "key")) for v in configured.service.vantages),
        ready_file=str(folder / "ready.json"),
    )


def reports_of(observed: Observed, at_ms: int) -> Iterator[VantageReport]:
    """What each vantage posts of one round; the last in the alphabet posts first."""
    for vantage in sorted({seen.vantage for seen in observed.observations}, reverse=True):
        own = tuple(seen for seen in observed.observations if seen.vantage == vantage)
        yield VantageReport(vantage, at_ms, 1, (ServiceReport("www", own),))


async def play(decider: Decider, clock: HandClock, rounds: Sequence[Observed], wall_ms) -> None:
    """Fake vantages: each round's reports shortly before it is due, then the clock moves to it."""
    for observed in rounds:
        done = decider.loop.rounds
        for report in reports_of(observed, observed.at_ms - 1):
            body = canonical(report)
            headers = dict(signed_headers(KEY, report.vantage, report.at_ms, body))
            assert decider.ingest.take(headers, body) == (202, "")
        clock.move_to(wall_ms(observed.at_ms))
        while decider.loop.rounds == done:
            await asyncio.sleep(0)


@asynccontextmanager
async def live(spec: DeciderSpec, clock: HandClock):
    decider = Decider(spec, clock)
    running = asyncio.create_task(decider.run())
    while not (running.done() or Path(spec.ready_file).exists()):
        await asyncio.sleep(0.01)
    yield decider
    decider.stop()
    await running


async def run_live(folder: Path, configured: Configured, rounds: Sequence[Observed]) -> None:
    clock = HandClock(configured.at_ms)
    async with live(spec_of(folder, configured), clock) as decider:
        await play(decider, clock, rounds, lambda at_ms: at_ms)


async def run_drill(folder: Path, configured: Configured, rounds: Sequence[Observed]) -> None:
    wall = HandClock(1_000_000)
    script = Script(configured.at_ms, wall.now_ms(), SPEED, wall)
    async with drill(spec_of(folder, configured), script) as decider:
        await play(decider, wall, rounds, script.wall_ms)


def run_replay(journal: Path) -> list[str]:
    outcomes: list[str] = []

    def keep(turn: Turn, outcome: Outcome) -> None:
        outcomes.append(outcome.digest)

    Replay(turns_of(read(journal)), keep).run()
    return outcomes


def digests_in(journal: Path) -> list[str]:
    return [digest for _, digest in digests([record.entry for record in read(journal)])]


def four_lists(folder: Path) -> dict[str, list[str]]:
    """The digests of every decision, by run."""
    journal = simulated(folder)
    configured, rounds = events_of(journal)
    for name, run in (("live", run_live), ("drill", run_drill)):
        (folder / name).mkdir()
        asyncio.run(run(folder / name, configured, rounds))
    return {
        "simulate": digests_in(journal),
        "live": digests_in(folder / "live" / "journal"),
        "drill": digests_in(folder / "drill" / "journal"),
        "replay": run_replay(folder / "live" / "journal"),
    }


def run_as_process(hash_seed: str) -> dict[str, list[str]]:
    ran = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=150,
    )
    return json.loads(ran.stdout)


@pytest.mark.lab
def test_one_journal_gives_four_equal_lists_of_digests_under_two_hash_seeds() -> None:
    first, second = run_as_process("1"), run_as_process("2")
    assert first["simulate"] == first["live"]
    assert first["simulate"] == first["drill"]
    assert first["simulate"] == first["replay"]
    assert first == second
    assert len(first["simulate"]) > 250
    assert len(set(first["simulate"])) > 250


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="pcdn-") as made:
        json.dump(four_lists(Path(made)), sys.stdout)
