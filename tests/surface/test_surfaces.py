"""One contract for every surface: read, diff and apply alike; older plans refused; restarts survived."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fake_engine import FakeEngine

from polycdn.errors import SurfaceError
from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.settings import NameServer, Settings, Upstream, Zone
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Region, Service
from polycdn.surface.base import Create, Delete, Held, Surface, Update, Wanted, diff, want
from polycdn.surface.engine import EngineSurface
from polycdn.surface.feed import FeedSurface
from polycdn.surface.memory import MemorySurface
from polycdn.surface.settings import settings_for
from polycdn.surface.zonefile import ZoneFileSurface

ZONE = Zone("example.org", (NameServer("ns1.example.org", ("192.0.2.53",)),), "admin@example.org")


def settings(service: str) -> Settings:
    upstreams = (
        Upstream("a", ProviderKind.CDN, Endpoint("a.example"), ipv4=("192.0.2.1", "192.0.2.2")),
        Upstream("b", ProviderKind.CDN, Endpoint("b.example"), ipv4=("192.0.2.11",)),
    )
    return Settings(service, (f"{service}.example.org",), upstreams, regions=(Region(),))


def wanted(service: str = "www", generation: int = 1, a_bp: int = 10_000) -> Wanted:
    shares = tuple(share for share in (("a", a_bp), ("b", 10_000 - a_bp)) if share[1])
    region = RegionPlan("anywhere", shares, ("a", "b"), 60)
    return want(Plan(service, generation, generation - 1, 1_700_000_000_000, (region,)), settings(service))


Opened = Callable[[], AsyncIterator[Surface]]


@asynccontextmanager
async def memory(folder: Path, kept: dict) -> AsyncIterator[Surface]:
    yield kept.setdefault("memory", MemorySurface())


@asynccontextmanager
async def zonefile(folder: Path, kept: dict) -> AsyncIterator[Surface]:
    yield ZoneFileSurface("zone", folder / "example.org.zone", ZONE)


@asynccontextmanager
async def feed(folder: Path, kept: dict) -> AsyncIterator[Surface]:
    yield FeedSurface("feed", folder / "feed")


@asynccontextmanager
async def engine(folder: Path, kept: dict) -> AsyncIterator[Surface]:
    socket = folder / "engine.sock"
    fake = FakeEngine({"engine": "edge-1", "state_dir": str(folder), "socket": str(socket), "http": []})
    await fake.start()
    try:
        yield EngineSurface("edge-1", folder / "engines" / "edge-1", socket)
    finally:
        await fake.stop()


@pytest.fixture
def folder():
    """Short, because a Unix socket's path is."""
    made = Path(tempfile.mkdtemp(prefix="pcdn-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(params=[memory, zonefile, feed, engine], ids=lambda one: one.__name__)
def opened(request, folder):
    """Opens the surface; opened again, it is the surface after a restart."""
    kept: dict = {}
    return lambda: request.param(folder, kept)


def test_new_surface_holds_nothing(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as surface:
            assert await surface.read() == ()

    asyncio.run(story())


def test_applied_plan_is_read_back(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as surface:
            await surface.apply(Create(wanted(generation=3)))
            assert [(held.service, held.generation) for held in await surface.read()] == [("www", 3)]
            assert diff(surface.name, await surface.read(), (wanted(generation=3),)) == ()

    asyncio.run(story())


def test_applying_twice_changes_nothing(opened: Opened, folder: Path) -> None:
    async def story() -> None:
        async with opened() as surface:
            await surface.apply(Create(wanted()))
            before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
            await surface.apply(Create(wanted()))
            assert {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()} == before

    asyncio.run(story())


def test_older_generation_is_refused_and_changes_nothing(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as surface:
            await surface.apply(Create(wanted(generation=7)))
            with pytest.raises(SurfaceError, match="7") as caught:
                await surface.apply(Update(wanted(generation=6), 5))
            assert not caught.value.is_retryable
            assert [held.generation for held in await surface.read()] == [7]

    asyncio.run(story())


def test_same_generation_with_other_content_is_refused(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as surface:
            await surface.apply(Create(wanted(generation=7)))
            with pytest.raises(SurfaceError, match="other content"):
                await surface.apply(Update(wanted(generation=7, a_bp=5_000), 6))

    asyncio.run(story())


def test_plan_in_force_survives_a_restart(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as surface:
            await surface.apply(Create(wanted(generation=4)))
        async with opened() as surface:
            assert [held.generation for held in await surface.read()] == [4]
            await surface.apply(Update(wanted(generation=5, a_bp=2_000), 4))
            with pytest.raises(SurfaceError):
                await surface.apply(Update(wanted(generation=4), 3))

    asyncio.run(story())


def test_each_service_stands_alone(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as surface:
            await surface.apply(Create(wanted("www", 2)))
            await surface.apply(Create(wanted("api", 9)))
            await surface.apply(Delete("www"))
            assert [(held.service, held.generation) for held in await surface.read()] == [("api", 9)]

    asyncio.run(story())


def test_good_word_is_taken_for_the_plan_in_force(opened: Opened) -> None:
    async def story() -> None:
        async with opened() as surface:
            await surface.apply(Create(wanted(generation=2)))
            await surface.mark_good("www", 2)
            await surface.apply(Update(wanted(generation=3), 2))
            assert [held.generation for held in await surface.read()] == [3]

    asyncio.run(story())


EMPTY = RegionPlan("anywhere", (), (), 60)
SHORT = RegionPlan("anywhere", (("a", 9_999),), ("a",), 60)
NEGATIVE = RegionPlan("anywhere", (("a", 11_000), ("b", -1_000)), ("a", "b"), 60)
STRANGER = RegionPlan("anywhere", (("c", 10_000),), ("c",), 60)


@pytest.mark.parametrize("regions", [(), (EMPTY,), (SHORT,), (NEGATIVE,), (STRANGER,)])
def test_plan_that_could_leave_anyone_without_an_answer_is_refused(opened: Opened, regions: tuple) -> None:
    async def story() -> None:
        async with opened() as surface:
            await surface.apply(Create(wanted(generation=1)))
            unfit = want(Plan("www", 2, 1, 5, regions), settings("www"))
            with pytest.raises(SurfaceError, match="refused"):
                await surface.apply(Update(unfit, 1))
            assert [held.generation for held in await surface.read()] == [1]

    asyncio.run(story())


def test_diff_creates_updates_and_deletes() -> None:
    held = (Held("api", 4), Held("old", 1))
    orders = diff("memory", held, (wanted("api", 5), wanted("www", 1)))
    assert orders == (Update(wanted("api", 5), 4), Create(wanted("www", 1)), Delete("old"))


def test_settings_come_from_the_configured_service() -> None:
    provider = Provider(
        "a", ProviderKind.CDN, Endpoint("a.example", addresses=("192.0.2.1", "2001:db8::1")), cname="a.net"
    )
    service = Service("www", "www.example.org", (provider,), aliases=("example.org",))
    made = settings_for(service, ZONE)
    assert made.hostnames == ("www.example.org", "example.org")
    upstream = Upstream("a", ProviderKind.CDN, provider.endpoint, "a.net", ("192.0.2.1",), ("2001:db8::1",))
    assert made.upstreams == (upstream,)
    assert replace(made, zone=None) == settings_for(service)
