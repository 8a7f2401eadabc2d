"""The feed beyond what every surface does: browsers, waiting clients and their limit, files that are none."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.settings import Settings, Upstream
from polycdn.model.topology import Endpoint, ProviderKind
from polycdn.surface import feed as feed_module
from polycdn.surface.base import Create, Update, Wanted, want
from polycdn.surface.feed import FeedSurface


def wanted(generation: int) -> Wanted:
    plan = Plan("www", generation, 0, 5, (RegionPlan("anywhere", (("a", 10_000),), ("a",), 60),))
    return want(
        plan, Settings("www", ("www.example.org",), (Upstream("a", ProviderKind.CDN, Endpoint("a")),))
    )


async def ask(surface: FeedSurface, target: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one GET, straight through the application."""
    path, _, query = target.partition("?")
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await surface.app()(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(one.get("body", b"") for one in sent[1:])


def test_list_names_every_plan_with_its_etag(tmp_path: Path) -> None:
    async def story() -> None:
        surface = FeedSurface("feed", tmp_path)
        await surface.apply(Create(wanted(3)))
        _, headers, _ = await ask(surface, "/api/v1/plans/www")
        _, _, body = await ask(surface, "/api/v1/plans")
        assert headers["etag"].replace('"', '\\"') in body.decode()
        assert b'"generation":3' in body
        assert (await ask(surface, "/healthz"))[0] == 200

    asyncio.run(story())


@pytest.mark.parametrize("tags", ['"{0}"', 'W/"{0}"', '"other", "{0}"', "*"])
def test_client_that_has_the_plan_is_told_so(tmp_path: Path, tags: str) -> None:
    async def story() -> None:
        surface = FeedSurface("feed", tmp_path)
        await surface.apply(Create(wanted(3)))
        (held,) = await surface.read()
        status, headers, body = await ask(
            surface, "/api/v1/plans/www", if_none_match=tags.format(held.digest)
        )
        assert (status, body) == (304, b"")
        assert headers["etag"] == f'"{held.digest}"'
        assert (await ask(surface, "/api/v1/plans/www", if_none_match='"other"'))[0] == 200

    asyncio.run(story())


def test_page_of_any_site_may_read_it(tmp_path: Path) -> None:
    async def story() -> None:
        surface = FeedSurface("feed", tmp_path)
        await surface.apply(Create(wanted(3)))
        _, headers, _ = await ask(surface, "/api/v1/plans/www", origin="https://www.example.org")
        assert headers["access-control-allow-origin"] == "*"
        assert "polycdn-generation" in headers["access-control-expose-headers"]

    asyncio.run(story())


def test_waiting_client_is_answered_by_the_next_plan_and_by_the_end(tmp_path: Path) -> None:
    async def story() -> None:
        surface = FeedSurface("feed", tmp_path)
        await surface.apply(Create(wanted(3)))
        waiting = asyncio.create_task(ask(surface, "/api/v1/plans/www?wait=60&after=3"))
        await asyncio.sleep(0)
        await surface.apply(Update(wanted(4), 3))
        status, headers, _ = await waiting
        assert (status, headers["polycdn-generation"]) == (200, "4")
        waiting = asyncio.create_task(ask(surface, "/api/v1/plans/www?wait=60&after=4"))
        await asyncio.sleep(0)
        await surface.release_waiters()
        assert (await waiting)[0] == 304

    asyncio.run(story())


def test_too_many_waiting_clients_are_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "WAITERS_MAX", 1)

    async def story() -> None:
        surface = FeedSurface("feed", tmp_path)
        await surface.apply(Create(wanted(3)))
        waiting = asyncio.create_task(ask(surface, "/api/v1/plans/www?wait=60&after=3"))
        while surface._waiters == 0:
            await asyncio.sleep(0)
        status, headers, body = await ask(surface, "/api/v1/plans/www?wait=60&after=3")
        assert (status, headers["retry-after"]) == (503, "5")
        assert b"Too many" in body
        await surface.release_waiters()
        await waiting

    asyncio.run(story())


@pytest.mark.parametrize("target", ["?wait=-1", "?wait=x", "?after=1.5", "?wait=" + "9" * 30, "?wait=%D9%A1"])
def test_parameter_that_is_no_number_is_the_clients_mistake(tmp_path: Path, target: str) -> None:
    status, headers, body = asyncio.run(ask(FeedSurface("feed", tmp_path), f"/api/v1/plans/www{target}"))
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert b"whole number" in body


def test_file_that_is_no_plan_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "www.json").write_text("{}")
    (tmp_path / "odd.json").write_bytes(b"\xff")

    async def story() -> None:
        surface = FeedSurface("feed", tmp_path)
        assert await surface.read() == ()
        await surface.apply(Create(wanted(3)))

    asyncio.run(story())
    assert [held.generation for held in asyncio.run(FeedSurface("feed", tmp_path).read())] == [3]


def test_last_good_plan_lies_beside_the_one_in_force(tmp_path: Path) -> None:
    async def story() -> None:
        surface = FeedSurface("feed", tmp_path)
        await surface.apply(Create(wanted(3)))
        await surface.mark_good("www", 2)
        assert not (tmp_path / "good").exists()
        await surface.mark_good("www", 3)
        await surface.apply(Update(wanted(4), 3))

    asyncio.run(story())
    assert b'"generation":3' in (tmp_path / "good" / "www.json").read_bytes()
    assert b'"generation":4' in (tmp_path / "www.json").read_bytes()
