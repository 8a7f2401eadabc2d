"""Whatever is killed or filled up: the engine, a real one, serves on; what died comes back where it was."""

import asyncio
import json
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from stage import FAKES, generation, get, identity, listener, loaded, running, say, status, until, upstream

from polycdn.journal.scan import segments, verify
from polycdn.run.clock import Wall
from polycdn.run.process import identity_of, read_pid
from polycdn.run.running import overview
from polycdn.run.up import Programs, Up, UpOptions

pytestmark = [pytest.mark.lab, pytest.mark.alone]

BACK_MS_MAX = 2_000


class Visitor:
    """Asks the engine all the time, as users do, and counts what it got."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.good = 0
        self.bad: list[str] = []

    async def visit_forever(self) -> None:
        while True:
            try:
                code, _ = await get(self.address)
            except (OSError, TimeoutError, IndexError) as error:
                self.bad.append(repr(error))
            else:
                self.good += code == 200
                self.bad += [] if code == 200 else [str(code)]
            await asyncio.sleep(0.005)


@asynccontextmanager
async def visited(address: str) -> AsyncIterator[Visitor]:
    visitor = Visitor(address)
    visiting = asyncio.create_task(visitor.visit_forever())
    await until(lambda: visitor.good > 3, "the engine serves")
    yield visitor
    visiting.cancel()
    await asyncio.gather(visiting, return_exceptions=True)


def test_decider_killed_engine_serves_on_and_the_next_one_goes_on_with_the_next_generation(
    folder: Path,
) -> None:
    async def story() -> None:
        async with upstream() as port, running(loaded(folder, port), Programs()) as up:
            assert (await say(up, op="force", provider="a", stance="down", why="to be remembered"))["ok"]
            before = await until(lambda: _generation_from(up, 2), "the engine has the forced plan")
            async with visited(await listener(up)) as visitor:
                killed = identity(up, "decider")
                killed.send(signal.SIGKILL)
                seen = visitor.good
                await until(lambda: visitor.good > seen + 5, "the engine serves without a decider")
                await until(lambda: _generation_from(up, before + 1), "the next decider published")
            assert visitor.bad == []
            assert await generation(up) == before + 1
            assert identity(up, "decider") != killed
            await until(lambda: _decider_ready(up) != killed.pid, "the next decider answers")
            (service,) = (await say(up, op="status"))["services"]
            assert [forced["why"] for forced in service["forced"]] == ["to be remembered"]
        assert verify(up.layout.journal).broken == ""

    asyncio.run(story())


def _decider_ready(up: Up) -> int:
    """The pid of the decider that last told it is ready: it publishes first, and then it answers."""
    return json.loads(up.layout.ready_file.read_bytes())["pid"]


async def _generation_from(up: Up, least: int) -> int:
    found = await generation(up)
    return found if found >= least else 0


def test_engine_killed_is_back_with_its_last_plan_in_two_seconds(folder: Path) -> None:
    async def story() -> None:
        async with upstream() as port, running(loaded(folder, port), Programs()) as up:
            decider, killed = identity(up, "decider"), identity(up, "engine-e1")
            decider.send(signal.SIGSTOP)  # so that nobody can give the plan anew
            try:
                before, wall = await generation(up), Wall()
                killed.send(signal.SIGKILL)
                killed_ms = wall.now_ms()
                await until(lambda: not killed.is_alive, "it is dead")

                async def serves() -> bool:
                    return await generation(up) == before and (await get(await listener(up)))[0] == 200

                await until(serves, "the engine serves its last plan")
                assert wall.now_ms() - killed_ms <= BACK_MS_MAX
                assert [one["source"] for one in (await status(up))["services"]] == ["plan"]
            finally:
                decider.send(signal.SIGCONT)

    asyncio.run(story())


def test_everything_but_the_engine_killed_and_the_next_up_takes_it_over(folder: Path) -> None:
    """`up` itself dies of SIGKILL: decider ends with it, engine goes on."""

    async def story() -> None:
        program = (
            "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; import stage; "
            "from polycdn.run.up import run_up, UpOptions; "
            "run_up(lambda: stage.loaded(Path(sys.argv[1])), UpOptions(), stage.FAKES)"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(folder), str(Path(__file__).parent)
        )
        up = Up(loaded(folder), UpOptions(), FAKES)
        await until(lambda: generation(up), "the engine has a plan")
        engine, decider = identity(up, "engine-e1"), identity(up, "decider")
        before = await generation(up)
        assert identity_of(process.pid) is not None
        process.kill()
        await process.wait()
        await until(lambda: not decider.is_alive, "the decider ended with its parent")
        assert await generation(up) == before
        shown = await overview(up.layout)
        assert "no decider runs" in shown["problems"][0]
        async with running(loaded(folder)) as again:
            assert identity(again, "engine-e1") == engine
            await until(lambda: _generation_from(again, before + 1), "the next decider goes on")

    asyncio.run(story())


@asynccontextmanager
async def full_disk(up: Up) -> AsyncIterator[None]:
    """The decider cannot write a byte more to its journal, as on a full disk, until the block ends."""
    decider = identity(up, "decider")
    (segment,) = segments(up.layout.journal)
    soft, hard = resource.prlimit(decider.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(decider.pid, resource.RLIMIT_FSIZE, (segment.stat().st_size, hard))
    try:
        yield
    finally:
        resource.prlimit(decider.pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_a_clear_error_and_the_last_plan_serves_until_there_is_room_again(folder: Path) -> None:
    async def story() -> None:
        async with upstream() as port, running(loaded(folder, port), Programs()) as up:
            before = await generation(up)
            async with visited(await listener(up)) as visitor:
                async with full_disk(up):

                    async def error() -> str:
                        return (await say(up, op="status"))["journal"]["error"]

                    why = await until(error, "the decider tells of it")
                    assert "cannot be written: File too large" in why
                    assert "The last plan keeps serving" in why
                    answer = await say(up, op="force", provider="a", stance="down")
                    assert not answer["ok"]
                    assert "cannot be written" in answer["error"]
                    assert await generation(up) == before
                await until(lambda: _generation_from(up, before + 1), "the order takes effect")
                assert (await say(up, op="status"))["journal"]["error"] == ""
            assert visitor.bad == []
        assert verify(up.layout.journal).broken == ""

    asyncio.run(story())


def test_journal_that_cannot_be_written_from_the_start_does_not_keep_the_decider_from_starting(
    folder: Path,
) -> None:
    async def story() -> None:
        async with running(loaded(folder)) as up:
            before = await generation(up)
        journal = up.layout.journal
        journal.rename(journal.with_name("elsewhere"))
        journal.write_text("in the way")
        async with running(loaded(folder)) as up:
            shown = await overview(up.layout)
            assert "cannot be written" in shown["journal"]["error"]
            assert shown["problems"]
            assert [one["services"][0]["generation"] for one in shown["engines"]] == [before]
            journal.unlink()

            async def is_well() -> bool:
                return not (await say(up, op="status"))["journal"]["error"]

            await until(is_well, "the journal is written again")
        assert read_pid(up.layout.pid_file("decider")) is None

    asyncio.run(story())
