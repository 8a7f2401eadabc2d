"""The decider as a whole, in this process: reports in, plans out, restarts, an engine that comes and goes."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine

from polycdn.errors import JournalError, UnavailableError
from polycdn.journal.record import Published, Repaired, SetAside
from polycdn.journal.scan import read, segments, verify
from polycdn.measure.report import ServiceReport, VantageReport
from polycdn.measure.sign import signed_headers
from polycdn.model.event import Configured, Observed, Resumed
from polycdn.model.observation import Observation, Reason
from polycdn.model.policy import Policy
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Service, Vantage
from polycdn.model.wire import canonical
from polycdn.run.clock import Wall
from polycdn.run.decider_spec import DeciderSpec, EngineLink, Steered, SurfaceLink, TrustedVantage
from polycdn.run.live import Decider
from polycdn.surface.control import ask
from polycdn.surface.settings import settings_for

KEY = b"0123456789abcdef0123"
PROVIDERS = tuple(
    Provider(name, ProviderKind.CDN, Endpoint(f"{name}.example", addresses=(f"192.0.2.{number}",)))
    for number, name in enumerate(("a", "b"), start=1)
)
SERVICE = Service("www", "www.example.org", PROVIDERS, vantages=(Vantage("v1"), Vantage("v2"), Vantage("v3")))
POLICY = Policy(probe_interval_ms=1_000)


@pytest.fixture
def folder():
    """Short, because a Unix socket's path is."""
    made = Path(tempfile.mkdtemp(prefix="pcdn-"))
    yield made
    shutil.rmtree(made)


def spec_in(folder: Path, **changes: Any) -> DeciderSpec:
    (folder / "key").write_bytes(KEY)
    settings = (settings_for(SERVICE),)
    spec = DeciderSpec(
        services=(Steered(SERVICE, POLICY),),
        journal_dir=str(folder / "journal"),
        socket=str(folder / "decider.sock"),
        surfaces=(SurfaceLink("feed", "feed", settings, path=str(folder / "feed"), listen="127.0.0.1:0"),),
        vantages=tuple(TrustedVantage(vantage.name, str(folder / "key")) for vantage in SERVICE.vantages),
        observations_listen="127.0.0.1:0",
        ready_file=str(folder / "ready.json"),
        round_ms=50,
    )
    return replace(spec, **changes)


@asynccontextmanager
async def running(spec: DeciderSpec) -> AsyncIterator[Decider]:
    decider = Decider(spec, Wall())
    Path(spec.ready_file).unlink(missing_ok=True)
    task = asyncio.create_task(decider.run())
    try:
        await until(lambda: task.done() or Path(spec.ready_file).exists(), "the decider is ready")
        if task.done():
            task.result()
        yield decider
    finally:
        decider.stop()
        await task


async def until(claim: Callable[[], Any], what: str, deadline_s: float = 60.0) -> Any:
    """What the claim gives once it is true; fails when it is not by then."""
    try:
        async with asyncio.timeout(deadline_s):
            while not (found := claim()):
                await asyncio.sleep(0.01)
            return found
    except TimeoutError:
        pytest.fail(f"not within {deadline_s} s: {what}")


async def until_async(claim: Callable[[], Awaitable[Any]], what: str, deadline_s: float = 60.0) -> Any:
    async with asyncio.timeout(deadline_s):
        while not (found := await claim()):
            await asyncio.sleep(0.01)
        return found


def ready(spec: DeciderSpec) -> dict[str, Any]:
    return json.loads(Path(spec.ready_file).read_bytes())


async def http(
    address: str, method: str, path: str, headers: Any = (), body: bytes = b""
) -> tuple[int, dict, bytes]:
    """Status, headers and body of one request."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} {path} HTTP/1.1", "host: test", "connection: close", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), dict(field.split(": ", 1) for field in fields), rest


def report(vantage: str, at_ms: int, down: tuple[str, ...] = (), sequence: int = 1) -> VantageReport:
    looks = tuple(
        Observation(
            at_ms,
            provider.name,
            "anywhere",
            vantage,
            Reason.REFUSED if provider.name in down else Reason.OK,
            1,
            int(provider.name in down),
        )
        for provider in PROVIDERS
    )
    return VantageReport(vantage, at_ms, sequence, (ServiceReport("www", looks),))


async def post(spec: DeciderSpec, told: VantageReport, key: bytes = KEY) -> int:
    body = canonical(told)
    headers = signed_headers(key, told.vantage, told.at_ms, body)
    status, _, _ = await http(ready(spec)["observations"], "POST", "/observations", headers, body)
    return status


def shares(decider: Decider) -> dict[str, int]:
    plan = decider.loop.states["www"].plan
    return dict(plan.regions[0].shares)


async def look_until_moved(spec: DeciderSpec, decider: Decider, down: tuple[str, ...], to: str) -> None:
    """Vantages report until the plan gives everything to `to`."""
    wall = Wall()
    for sequence in range(1, 2_000):
        at_ms = wall.now_ms()
        for vantage in SERVICE.vantages:
            assert await post(spec, report(vantage.name, at_ms, down, sequence)) == 202
        await asyncio.sleep(0.02)
        if shares(decider).get(to) == 10_000:
            return
    pytest.fail(f"the plan never gave all to {to}: {shares(decider)}")


def test_outage_seen_by_vantages_moves_the_traffic_on_every_surface(folder: Path) -> None:
    async def story() -> None:
        spec = spec_in(folder)
        async with running(spec) as decider:
            assert shares(decider) == {"a": 10_000}
            await look_until_moved(spec, decider, ("a",), "b")
            feed = ready(spec)["feeds"]["feed"]
            await until(lambda: decider.publisher.newest_held("www") >= 2, "the feed holds the new plan")
            status, headers, body = await http(feed, "GET", "/api/v1/plans/www")
            assert status == 200
            assert json.loads(body)["plan"]["regions"][0]["shares"] == [["b", 10_000]]
            assert (await http(feed, "GET", "/api/v1/plans/www", [("if-none-match", headers["etag"])]))[
                0
            ] == 304
        assert verify(folder / "journal").broken == ""

    asyncio.run(story())


def test_feed_answers_a_waiting_client_when_the_plan_changes(folder: Path) -> None:
    async def story() -> None:
        spec = spec_in(folder)
        async with running(spec) as decider:
            feed, generation = ready(spec)["feeds"]["feed"], decider.loop.states["www"].generation
            path = f"/api/v1/plans/www?wait=5&after={generation}"
            waiting = asyncio.create_task(http(feed, "GET", path))
            await look_until_moved(spec, decider, ("a",), "b")
            status, _, body = await waiting
            assert (status, json.loads(body)["plan"]["generation"] > generation) == (200, True)
            assert (await http(feed, "GET", path.replace("wait=5", "wait=soon")))[0] == 400
            assert (await http(feed, "GET", "/api/v1/plans/other?wait=5"))[0] == 404
            generation = decider.loop.states["www"].generation
            status, headers, _ = await http(feed, "GET", f"/api/v1/plans/www?wait=1&after={generation + 9}")
            assert (status, headers["polycdn-generation"]) == (304, str(generation))

    asyncio.run(story())


def test_reports_that_are_not_to_be_believed_are_refused(folder: Path) -> None:
    async def story() -> None:
        spec, wall = spec_in(folder), Wall()
        async with running(spec):
            now_ms = wall.now_ms()
            good = report("v1", now_ms)
            assert await post(spec, good, key=b"another key of its own") == 401
            assert await post(spec, replace(good, vantage="v9")) == 401
            assert await post(spec, replace(good, at_ms=now_ms - 400_000)) == 401
            assert await post(spec, good) == 202
            assert await post(spec, good) == 409
            assert await post(spec, report("v1", now_ms - 1)) == 409
            for change in (
                {"region": "mars"},
                {"provider": "c"},
                {"vantage": "v2"},
                {"failures": 2},
                {"attempts": 10**9},
                {"at_ms": 5},
            ):
                now_ms += 1
                looks = (replace(good.services[0].observations[0], **change),)
                bad = replace(good, at_ms=now_ms, services=(ServiceReport("www", looks),))
                assert await post(spec, bad) == 400, change
            assert await post(spec, replace(good, at_ms=now_ms, format="polycdn/vantage-report/2")) == 400

    asyncio.run(story())


def test_report_that_is_too_large_is_refused_before_it_is_read_whole(folder: Path) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 1_000_000, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def story() -> None:
        decider = Decider(spec_in(folder), Wall())
        for name in (b"v1", b"v9"):
            headers = [(b"x-polycdn-vantage", name)]
            scope = {"type": "http", "method": "POST", "path": "/observations", "headers": headers}
            await decider.ingest.app()(scope, receive, send)

    asyncio.run(story())
    assert [message["status"] for message in sent if "status" in message] == [413, 401]


def test_next_decider_goes_on_with_the_next_generation_and_takes_no_plan_back(folder: Path) -> None:
    async def story() -> None:
        spec = spec_in(folder)
        async with running(spec) as decider:
            await look_until_moved(spec, decider, ("a",), "b")
        before = decider.loop.states["www"]
        async with running(spec) as decider:
            after = decider.loop.states["www"]
            assert after.generation == before.generation + 1
            assert after.plan.regions == before.plan.regions
            assert after.standings == before.standings
        kinds = [type(record.entry.body) for record in read(folder / "journal")]
        assert kinds.count(Configured) == 1
        assert kinds.count(Resumed) == 1

    asyncio.run(story())


def test_lost_journal_does_not_lock_the_decider_out(folder: Path) -> None:
    async def story() -> None:
        spec = spec_in(folder)
        async with running(spec) as decider:
            await look_until_moved(spec, decider, ("a",), "b")
            generation = decider.loop.states["www"].generation
        shutil.rmtree(folder / "journal")
        async with running(spec) as decider:
            assert decider.loop.states["www"].generation > generation
            await until(lambda: decider.publisher.newest_held("www") > generation, "the feed took it")

    asyncio.run(story())


def test_torn_journal_is_repaired_and_a_broken_one_is_set_aside(folder: Path) -> None:
    async def story() -> None:
        spec = spec_in(folder)
        async with running(spec) as decider:
            await look_until_moved(spec, decider, ("a",), "b")
            before = decider.loop.states["www"]
        segment = segments(folder / "journal")[-1]
        segment.write_bytes(segment.read_bytes() + b'{"at_ms":')
        async with running(spec) as decider:
            assert decider.loop.states["www"].plan.regions == before.plan.regions
        assert any(isinstance(record.entry.body, Repaired) for record in read(folder / "journal"))
        lines = segment.read_bytes().splitlines(keepends=True)
        lines[-2] = lines[-2].replace(b'"seq":', b'"sEq":')
        segment.write_bytes(b"".join(lines))
        async with running(spec) as decider:
            assert decider.loop.states["www"].plan.regions == before.plan.regions
        first = next(read(folder / "journal")).entry.body
        assert isinstance(first, SetAside)
        assert Path(first.kept_as).is_dir()
        assert f"{segment}:{len(lines) - 1}" == first.place
        assert verify(folder / "journal").broken == ""

    asyncio.run(story())


@asynccontextmanager
async def fake_engine(folder: Path) -> AsyncIterator[FakeEngine]:
    fake = FakeEngine({"engine": "edge-1", "state_dir": str(folder), "socket": str(folder / "edge-1.sock")})
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()


def with_engine(folder: Path) -> DeciderSpec:
    link = EngineLink(
        "edge-1", str(folder / "engines" / "edge-1"), str(folder / "edge-1.sock"), (settings_for(SERVICE),)
    )
    return spec_in(folder, engines=(link,))


def test_engine_that_is_away_does_not_hold_up_the_others_and_gets_its_plan_when_it_comes(
    folder: Path,
) -> None:
    async def story() -> None:
        spec = with_engine(folder)
        async with running(spec) as decider:
            await until(lambda: (folder / "feed" / "www.json").exists(), "the feed has its plan")
            assert decider.publisher.outlets[0].lines["www"].why
            async with fake_engine(folder) as fake:
                await until(lambda: "www" in fake.in_force, "the engine has its plan")
        bodies = [record.entry.body for record in read(folder / "journal")]
        assert Published("feed", 1) in bodies

    asyncio.run(story())


def test_engine_counts_become_observations_of_the_engine(folder: Path) -> None:
    async def story() -> None:
        spec = with_engine(folder)
        async with fake_engine(folder) as fake, running(spec):
            row = {"service": "www", "provider": "a", "region": "anywhere", "reason": "http_5xx"}
            fake.counts.append(
                row | {"at_ms": Wall().now_ms(), "attempts": 40, "failures": 40, "first_byte_ms": 7}
            )

            def found() -> list[Observation]:
                observed = [record.entry.body for record in read(folder / "journal")]
                return [
                    one
                    for body in observed
                    if isinstance(body, Observed)
                    for one in body.observations
                    if one.vantage == "edge-1"
                ]

            (one,) = await until(found, "the counts are in the journal")
            assert (one.source.value, one.reason, one.attempts, one.failures) == (
                "engine",
                Reason.HTTP_5XX,
                40,
                40,
            )

    asyncio.run(story())


def test_surface_that_turns_out_to_be_ahead_is_caught_up_with(folder: Path) -> None:
    async def story() -> None:
        spec = with_engine(folder)
        async with fake_engine(folder) as fake, running(spec):
            await until(lambda: "www" in fake.in_force, "the engine has its plan")
            published, source = fake.in_force["www"]
            ahead = replace(published, plan=replace(published.plan, generation=500))
            fake.in_force["www"] = (ahead, source)
            await until(
                lambda: fake.in_force["www"][0].plan.generation > 500,
                "the decider went past it",
                deadline_s=60,
            )

    asyncio.run(story())


def test_decider_that_cannot_listen_publishes_nothing(folder: Path) -> None:
    async def story() -> None:
        spec = spec_in(folder)
        async with running(spec) as decider:
            taken, generation = ready(spec)["observations"], decider.loop.states["www"].generation
            again = spec_in(folder, observations_listen=taken, journal_dir=str(folder / "other"))
            with pytest.raises(UnavailableError, match=f"cannot listen on {taken}"):
                await Decider(again, Wall()).run()
            assert decider.publisher.newest_held("www") == generation
        assert not (folder / "other").exists()

    asyncio.run(story())


def test_second_decider_on_the_same_journal_is_turned_away(folder: Path) -> None:
    async def story() -> None:
        async with running(spec_in(folder)):
            with pytest.raises(JournalError, match="another decider"):
                await Decider(spec_in(folder), Wall()).run()

    asyncio.run(story())


def test_shadow_run_touches_no_surface(folder: Path) -> None:
    async def story() -> None:
        spec = replace(with_engine(folder), is_shadow=True)
        async with fake_engine(folder) as fake, running(spec) as decider:
            await look_until_moved(spec, decider, ("a",), "b")
            assert fake.in_force == {}
            assert not (folder / "feed").exists()
            assert [outlet.surface.name for outlet in decider.publisher.outlets] == ["shadow"]

    asyncio.run(story())


def test_operators_words_take_effect_at_once_and_are_journalled(folder: Path) -> None:
    async def story() -> None:
        spec = spec_in(folder, round_ms=60_000)
        socket = Path(spec.socket)
        async with running(spec) as decider:
            assert socket.stat().st_mode & 0o777 == 0o600
            word = {
                "op": "force",
                "provider": "a",
                "stance": "down",
                "for_ms": 60_000,
                "by": "ann",
                "why": "test",
            }
            answer = await ask(socket, word)
            assert answer["ok"], answer
            assert shares(decider) == {"b": 10_000}
            status = await ask(socket, {"op": "status"})
            (service,) = status["services"]
            assert service["forced"][0]["by"] == "ann"
            assert (await ask(socket, {"op": "explain", "service": "www"}))["sentences"]
            assert (await ask(socket, {"op": "freeze"}))["ok"]
            assert (await ask(socket, {"op": "release", "provider": "a"}))["ok"]
            assert shares(decider) == {"b": 10_000}
            assert (await ask(socket, {"op": "thaw"}))["ok"]
            assert decider.loop.states["www"].forced == ()

    asyncio.run(story())


@pytest.mark.parametrize(
    "word",
    [
        {"op": "force", "provider": "a", "stance": "down", "for_ms": 72 * 3_600_000 + 1},
        {"op": "force", "provider": "a", "stance": "down", "for_ms": 0},
        {"op": "force", "provider": "a", "stance": "sideways"},
        {"op": "force", "provider": "c", "stance": "down"},
        {"op": "force", "provider": "a", "stance": "down", "region": "mars"},
        {"op": "force", "provider": "a", "stance": "down", "service": "ftp"},
        {"op": "force", "provider": "a", "stance": "down", "why": "x" * 501},
        {"op": "force", "provider": "a", "stance": "down", "why": "\ud800"},
        {"op": "explain", "service": "ftp"},
        {"op": "dance"},
        {},
    ],
)
def test_words_that_make_no_sense_are_the_operators_mistake_and_change_nothing(
    folder: Path, word: dict
) -> None:
    async def story() -> None:
        spec = spec_in(folder)
        async with running(spec) as decider:
            answer = await ask(Path(spec.socket), word)
            assert answer["ok"] is False
            assert answer["fault"]["allowed"]
            assert shares(decider) == {"a": 10_000}

    asyncio.run(story())
