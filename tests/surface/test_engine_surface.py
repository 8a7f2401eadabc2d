"""The engine as a surface: files, words, deadlines, and an engine that is dead, busy or odd."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fake_engine import FakeEngine

from polycdn.errors import SurfaceError
from polycdn.model.observation import Reason, Source
from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.settings import Settings, Upstream
from polycdn.model.topology import Endpoint, ProviderKind
from polycdn.surface.base import Create, Update, Wanted, want
from polycdn.surface.control import SOCKET_PATH_BYTES_MAX, call
from polycdn.surface.engine import EngineSurface
from polycdn.surface.files import FILE_BYTES_MAX, read_whole, write_whole


@pytest.fixture
def folder():
    """Short, because a Unix socket's path is."""
    made = Path(tempfile.mkdtemp(prefix="pcdn-"))
    yield made
    shutil.rmtree(made)


def wanted(generation: int, host: str = "a.example") -> Wanted:
    plan = Plan("www", generation, 0, 5, (RegionPlan("anywhere", (("a", 10_000),), ("a",), 60),))
    upstream = Upstream("a", ProviderKind.CDN, Endpoint(host))
    return want(plan, Settings("www", ("www.example.org",), (upstream,)))


def surface_in(folder: Path, deadline_ms: int = 2_000) -> EngineSurface:
    return EngineSurface("e1", folder / "engines" / "e1", folder / "s", deadline_ms)


def with_engine(folder: Path, story: Callable[[FakeEngine, EngineSurface], Awaitable[None]]) -> None:
    async def run() -> None:
        fake = FakeEngine({"engine": "e1", "state_dir": str(folder), "socket": str(folder / "s")})
        await fake.start()
        await story(fake, surface_in(folder))
        await fake.stop()

    asyncio.run(run())


def test_settings_lie_under_their_hash_and_old_ones_go(folder: Path) -> None:
    async def story(fake: FakeEngine, surface: EngineSurface) -> None:
        for generation, host in ((1, "a.example"), (2, "b.example"), (3, "c.example")):
            await surface.apply(Update(wanted(generation, host), 0))
        names = {file.name for file in (folder / "engines" / "e1" / "www").iterdir()}
        current = wanted(3, "c.example").published.settings_hash
        assert names == {"candidate.json", "plan.json", f"settings-{current}.json"}

    with_engine(folder, story)


def test_settings_of_the_last_good_plan_stay(folder: Path) -> None:
    async def story(fake: FakeEngine, surface: EngineSurface) -> None:
        await surface.apply(Create(wanted(1, "a.example")))
        await surface.mark_good("www", 1)
        await surface.apply(Update(wanted(2, "b.example"), 1))
        kept = {
            json.loads(file.read_bytes())["upstreams"][0]["endpoint"]["host"]
            for file in (folder / "engines" / "e1" / "www").glob("settings-*.json")
        }
        assert kept == {"a.example", "b.example"}

    with_engine(folder, story)


def test_engine_that_is_not_there_is_read_from_its_disk_and_cannot_be_changed(folder: Path) -> None:
    async def story(fake: FakeEngine, surface: EngineSurface) -> None:
        await surface.apply(Create(wanted(4)))

    with_engine(folder, story)
    surface = surface_in(folder)
    assert [held.generation for held in asyncio.run(surface.read())] == [4]
    with pytest.raises(SurfaceError) as caught:
        asyncio.run(surface.apply(Update(wanted(5), 4)))
    assert caught.value.is_retryable


async def alone() -> None:
    """Returns when whoever answered has ended."""
    async with asyncio.timeout(60):
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)


def test_engine_that_hangs_is_given_up_after_the_deadline(folder: Path) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def story() -> None:
        async with await asyncio.start_unix_server(hang, folder / "s"):
            with pytest.raises(SurfaceError, match="no answer within 50 ms") as caught:
                await call(folder / "s", {"op": "hello"}, 50)
            assert caught.value.is_retryable
            await alone()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("answer", "is_retryable"),
    [
        (b"", True),
        (b"{}\n", False),
        (b"nonsense\n", False),
        (b'"ok"\n', False),
        (b"x" * (2 * 1024 * 1024) + b"\n", False),
        (b'{"ok": false, "error": "disk full", "retry": true}\n', True),
        (b'{"ok": false, "error": "older", "retry": false}\n', False),
        (b'{"ok": false}\n', False),
    ],
)
def test_every_odd_answer_is_an_error_that_says_whether_to_try_again(
    folder: Path, answer: bytes, is_retryable: bool
) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    async def story() -> None:
        async with await asyncio.start_unix_server(reply, folder / "s"):
            with pytest.raises(SurfaceError) as caught:
                await call(folder / "s", {"op": "hello"})
            assert caught.value.is_retryable is is_retryable
            await alone()

    asyncio.run(story())


def test_socket_deep_down_is_reached_all_the_same(folder: Path) -> None:
    deep = folder / ("d" * 120)
    deep.mkdir()
    assert len(str(deep / "s")) > SOCKET_PATH_BYTES_MAX

    async def story() -> None:
        fake = FakeEngine({"engine": "e1", "state_dir": str(folder), "socket": str(folder / "s")})
        await fake.start()
        (folder / "s").rename(deep / "s")
        assert (await call(deep / "s", {"op": "hello"}))["engine"] == "e1"
        await fake.stop()

    asyncio.run(story())


COUNT = {"at_ms": 1_000, "service": "www", "provider": "a", "region": "anywhere", "reason": "http_5xx"}
COUNT |= {"attempts": 9, "failures": 4, "first_byte_ms": 12}


def test_counts_become_observations_of_the_engine(folder: Path) -> None:
    async def story(fake: FakeEngine, surface: EngineSurface) -> None:
        fake.counts = [COUNT, COUNT | {"at_ms": 2_000, "reason": "ok", "failures": 0}]
        fake.served = [
            {"at_ms": 2_000, "service": "www", "region": "anywhere", "outcome": "ok", "requests": 7}
        ]
        counts = await surface.counts(0)
        (service, first), (_, second) = counts.observed
        assert (service, first.vantage, first.source) == ("www", "e1", Source.ENGINE)
        assert (first.reason, first.attempts, first.failures) == (Reason.HTTP_5XX, 9, 4)
        assert second.reason is Reason.OK
        assert counts.served[0].requests == 7
        assert counts.upto_ms == 2_000
        assert (await surface.counts(2_000)).observed == ()

    with_engine(folder, story)


@pytest.mark.parametrize(
    "change", [{"reason": "bad luck"}, {"attempts": "9"}, {"colour": "red"}, {"service": 5}]
)
def test_counts_that_are_not_understood_are_an_error(folder: Path, change: dict) -> None:
    async def story(fake: FakeEngine, surface: EngineSurface) -> None:
        fake.counts = [COUNT | change]
        with pytest.raises(SurfaceError, match="not understood"):
            await surface.counts(0)

    with_engine(folder, story)


def test_file_over_the_limit_is_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(SurfaceError, match="limit"):
        write_whole(tmp_path / "large", bytes(FILE_BYTES_MAX + 1))
    assert list(tmp_path.iterdir()) == []
    with (tmp_path / "large").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    with pytest.raises(SurfaceError, match="limit"):
        read_whole(tmp_path / "large")


def test_file_that_cannot_be_written_is_worth_another_try(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SurfaceError, match="cannot be written") as caught:
        write_whole(tmp_path / "file" / "plan.json", b"{}")
    assert caught.value.is_retryable
    with pytest.raises(SurfaceError, match="cannot be read"):
        read_whole(tmp_path / "file" / "plan.json")
