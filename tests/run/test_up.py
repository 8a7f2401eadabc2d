"""`up` with real processes, the engine a fake one: started, adopted, restarted, ended."""

import asyncio
import os
import shutil
import signal
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage import (
    FAKES,
    generation,
    get,
    identity,
    listener,
    loaded,
    running,
    say,
    service,
    status,
    until,
)

from polycdn.config.loaded import EngineRole, EngineSpec, VantageSite
from polycdn.errors import SurfaceError, UnavailableError
from polycdn.journal.scan import verify
from polycdn.model.plan import Note, Plan, RegionPlan, Severity
from polycdn.model.topology import Vantage
from polycdn.run.clock import Wall
from polycdn.run.layout import Layout
from polycdn.run.process import Identity, identity_of, last_line, read_pid, spawn, write_pid
from polycdn.run.running import down, overview
from polycdn.run.supervise import PAUSE_MS_MAX, SHORT_LIFE_MS, STEADY_MS, Deaths, EngineKeeper, Program
from polycdn.run.up import Programs, Up, UpOptions
from polycdn.surface.base import Create, Update, want
from polycdn.surface.engine import EngineSurface
from polycdn.surface.settings import settings_for


@pytest.fixture
def folder():
    """Short, because a Unix socket's path is; whatever runs there is ended."""
    made = Path(tempfile.mkdtemp(prefix="pcdn-"))
    yield made
    for state in (made / "state", made / "state" / "shadow"):
        asyncio.run(down(Layout(state)))
    shutil.rmtree(made)


@given(st.lists(st.integers(0, 2 * STEADY_MS), max_size=30))
def test_pauses_grow_with_deaths_in_a_row_and_a_steady_life_forgives_them(lives_ms: list[int]) -> None:
    deaths, last_ms = Deaths(), 0
    for lived_ms in lives_ms:
        pause_ms = deaths.after(lived_ms)
        assert 0 <= pause_ms <= PAUSE_MS_MAX
        assert pause_ms == 0 if lived_ms >= STEADY_MS else pause_ms >= last_ms or last_ms == 0
        last_ms = pause_ms


def test_first_restart_is_at_once_and_only_short_lives_are_laid_on_the_plan() -> None:
    deaths = Deaths()
    assert [deaths.after(SHORT_LIFE_MS) for _ in range(4)] == [0, 250, 500, 1_000]
    assert not deaths.are_many
    assert [deaths.after(10) for _ in range(3)][-1] > 0
    assert deaths.are_many


def test_sockets_lie_elsewhere_when_the_state_path_is_too_long(tmp_path: Path) -> None:
    layout = Layout(tmp_path / ("deep" * 30))
    try:
        layout.make()
        assert len(str(layout.engine_socket("e" * 63))) <= 107
        assert stat.S_IMODE(layout.sockets.stat().st_mode) == 0o700
        assert Layout(tmp_path / ("deep" * 30)).sockets == layout.sockets
    finally:
        shutil.rmtree(layout.sockets)


def test_pid_file_of_a_process_that_is_gone_names_nobody(tmp_path: Path) -> None:
    mine = identity_of(os.getpid())
    assert mine is not None
    write_pid(tmp_path / "mine.pid", mine)
    write_pid(tmp_path / "reused.pid", Identity(mine.pid, mine.start_ticks - 1))
    (tmp_path / "odd.pid").write_text("12")
    found = [read_pid(tmp_path / f"{name}.pid") for name in ("mine", "reused", "odd", "none")]
    assert found == [mine, None, None, None]


@pytest.mark.lab
def test_process_is_started_watched_and_ended(tmp_path: Path) -> None:
    async def story() -> None:
        process, started = spawn(
            ("/bin/sh", "-c", "echo hello; exec sleep 60"), tmp_path / "log", is_lasting=False
        )
        assert started.is_alive
        await until(lambda: last_line(tmp_path / "log") == "hello", "it said hello")
        await started.end(5)
        assert process.wait(5) == -signal.SIGTERM
        assert not started.is_alive

    asyncio.run(story())


def test_program_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot start"):
        spawn(("/nonexistent",), tmp_path / "log", is_lasting=False)


@pytest.mark.lab
def test_engine_outlives_up_and_the_next_up_adopts_it(folder: Path) -> None:
    async def story() -> None:
        async with running(loaded(folder)) as up:
            engine, decider = identity(up, "engine-e1"), identity(up, "decider")
            first = await generation(up)
        assert engine.is_alive
        assert not decider.is_alive
        async with running(loaded(folder)) as up:
            assert identity(up, "engine-e1") == engine
            await until(lambda: _is_above(up, first), "the next decider goes on")
        assert verify(folder / "state" / "journal").broken == ""

    asyncio.run(story())


async def _is_above(up: Up, before: int) -> bool:
    return await generation(up) > before


@pytest.mark.lab
@pytest.mark.timeout(60)
def test_an_engine_with_another_config_takes_over_from_the_one_that_runs(folder: Path) -> None:
    async def story() -> None:
        async with running(loaded(folder)) as up:
            before = identity(up, "engine-e1")
        spec = EngineSpec("e1", EngineRole.EDGE, http=("127.0.0.1:0", "127.0.0.1:0"))
        async with running(loaded(folder, engines=(spec,))) as up:
            assert identity(up, "engine-e1") != before
            await until(lambda: not before.is_alive, "the old one has ended")

    asyncio.run(story())


@pytest.mark.lab
@pytest.mark.timeout(60)
def test_clients_of_an_engine_notice_nothing_when_the_next_up_replaces_it(folder: Path) -> None:
    async def story() -> None:
        wrongs: list[str] = []
        answers = 0

        async def ask(address: str) -> None:
            nonlocal answers
            while True:
                try:
                    # Nobody carries the service here: a 503 of ours is the right answer.
                    status, _body = await get(address)
                    answers += 1
                    assert status == 503
                except (OSError, AssertionError, IndexError) as error:
                    wrongs.append(repr(error))

        async with running(loaded(folder), Programs()) as up:
            before, address = identity(up, "engine-e1"), await listener(up)
            asking = asyncio.create_task(ask(address))
            await until(lambda: answers > 10, "the first engine answers")
        spec = EngineSpec("e1", EngineRole.EDGE, http=("127.0.0.1:0",), workers=2)
        async with running(loaded(folder, engines=(spec,)), Programs()) as up:
            await until(lambda: not before.is_alive, "the old one has ended")
            assert await listener(up) == address
            already = answers
            await until(lambda: answers > already + 10, "the second engine answers")
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert wrongs == []

    asyncio.run(story())


@pytest.mark.lab
def test_engine_that_left_the_config_is_drained(folder: Path) -> None:
    async def story() -> None:
        async with running(loaded(folder)) as up:
            before = identity(up, "engine-e1")
        async with running(loaded(folder, engines=())):
            await until(lambda: not before.is_alive, "it has ended")

    asyncio.run(story())


@pytest.mark.lab
def test_stop_engines_ends_them_too(folder: Path) -> None:
    async def story() -> Identity:
        async with running(loaded(folder), options=UpOptions(stops_engines=True)) as up:
            return identity(up, "engine-e1")

    assert not asyncio.run(story()).is_alive


@pytest.mark.lab
def test_vantage_that_dies_is_started_again(folder: Path) -> None:
    async def story() -> None:
        config = loaded(folder, vantages=(VantageSite(Vantage("v1")),))
        async with running(config) as up:
            before = await until(lambda: read_pid(up.layout.pid_file("vantage-v1")), "the vantage runs")
            before.send(signal.SIGKILL)
            await until(
                lambda: read_pid(up.layout.pid_file("vantage-v1")) not in (None, before), "another one runs"
            )
            key = up.layout.key_file("v1")
            assert stat.S_IMODE(key.stat().st_mode) == 0o600

            async def is_heard() -> bool:
                vantages = (await say(up, op="status"))["vantages"]
                return vantages[0]["heard_ms"] > 0

            await until(is_heard, "the decider hears it")

    asyncio.run(story())


@pytest.mark.lab
def test_second_up_on_the_same_state_is_turned_away(folder: Path) -> None:
    async def story() -> None:
        async with running(loaded(folder)):
            with pytest.raises(UnavailableError, match="runs already"):
                await Up(loaded(folder), UpOptions(), FAKES).run()

    asyncio.run(story())


@pytest.mark.lab
def test_shadow_starts_no_engine_and_runs_beside_the_real_one(folder: Path) -> None:
    async def story() -> None:
        async with (
            running(loaded(folder)) as up,
            running(loaded(folder), options=UpOptions(is_shadow=True)) as shadow,
        ):
            assert shadow.engines == ()
            before = await generation(up)
            shown = await overview(shadow.layout)
            assert [one["surface"] for one in shown["surfaces"]] == ["shadow"]
            assert (await say(shadow, op="force", provider="a", stance="down"))["ok"]
            assert await generation(up) == before
            assert (await say(up, op="status"))["services"][0]["forced"] == []

    asyncio.run(story())


@pytest.mark.lab
def test_down_ends_everything_and_says_what(folder: Path) -> None:
    async def story() -> None:
        async with running(loaded(folder)) as up:
            engine = identity(up, "engine-e1")
        assert await down(up.layout) == ("engine-e1",)
        assert not engine.is_alive
        assert await down(up.layout) == ()
        with pytest.raises(UnavailableError, match="nothing runs"):
            await overview(up.layout)

    asyncio.run(story())


def deadly(generation: int, *, is_deadly: bool) -> Plan:
    """A plan that the fake engine dies of, or not."""
    notes = (Note(Severity.INFO, "deadly", "dies of it"),) if is_deadly else ()
    region = RegionPlan("anywhere", (("a", 10_000),), ("a",), 60)
    return Plan("www", generation, generation - 1, 5, (region,), notes)


@pytest.mark.lab
def test_engine_that_dies_again_and_again_goes_back_to_the_last_good_plan_until_a_newer_one_comes(
    folder: Path,
) -> None:
    async def story() -> None:
        layout = Layout(folder / "state")
        layout.make()
        up = Up(loaded(folder), UpOptions(), FAKES)
        (keeper,) = up.engines
        assert not await keeper.adopt_running()
        keeping = asyncio.create_task(keeper.keep())
        surface = EngineSurface("e1", layout.engine_folder("e1"), layout.engine_socket("e1"), 3_000)
        settings = settings_for(service())
        await until(keeper.hello, "the engine answers")
        await surface.apply(Create(want(deadly(1, is_deadly=False), settings)))
        await surface.mark_good("www", 1)
        killer = want(deadly(2, is_deadly=True), settings)
        with pytest.raises(SurfaceError):
            await surface.apply(Update(killer, 1))

        async def serves_the_good_one() -> bool:
            services = (await status(up)).get("services", [])
            return [(one["generation"], one["source"]) for one in services] == [(1, "good")]

        await until(serves_the_good_one, "the engine serves its last good plan")
        with pytest.raises(SurfaceError, match="waits for a newer plan") as caught:
            await surface.apply(Update(killer, 1))
        assert not caught.value.is_retryable
        await surface.apply(Update(want(deadly(3, is_deadly=False), settings), 1))
        assert await generation(up) == 3
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await keeper.stop()

    asyncio.run(story())


def test_adoption_needs_the_same_config_and_version(folder: Path) -> None:
    def keeper(version: str | None = None, **changes: object) -> EngineKeeper:
        config = {"engine": "e1", "state_dir": str(folder), "socket": str(folder / "s"), "http": []} | changes
        program = Program("engine-e1", ("true",), folder / "log", folder / "pid", is_lasting=True)
        return EngineKeeper(program, Wall(), config, folder / "engine.json", version)

    running = {"engine": "e1", "version": "1"}
    keeper()._write_config(prefer_good=True)
    assert keeper()._is_wanted(running)
    assert keeper("1")._is_wanted(running)
    assert not keeper("2")._is_wanted(running)
    assert not keeper(http=["127.0.0.1:80"])._is_wanted(running)
    assert not keeper()._is_wanted(running | {"engine": "e2"})


def test_state_directory_that_is_a_file_is_unavailable(folder: Path) -> None:
    (folder / "state").write_text("in the way")
    with pytest.raises(UnavailableError, match="state directory"):
        asyncio.run(Up(replace(loaded(folder), engines=()), UpOptions(), FAKES).run())
    (folder / "state").unlink()
