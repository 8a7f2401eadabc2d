"""Floods, small: the edge puts an end to each, and a well-behaved client does not notice."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from engine_process import open_files, poll
from providers import HOST, Edge, Provider, answer, edge, get, parse, settings, upstream

from polycdn.lab.flood import Prey, endless_head, many_requests, rapid_reset, slow_heads
from polycdn.model import settings as model
from polycdn.model.settings import Limits

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

MANY = 100


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider(answer()) as one:
        yield one


@pytest.fixture
def flooded(provider: Provider) -> Iterator[Edge]:
    with edge() as one:
        one.serve(settings(upstream("cdn", provider.port), limits=Limits(client_head_timeout_ms=800)))
        yield one


def is_served(one: Edge) -> bool:
    return parse(one.raw(get())).status == 200


def test_heads_that_never_end_are_closed_and_nobody_else_waits(flooded):
    async def flood():
        under_way = asyncio.create_task(slow_heads(Prey(flooded.port, HOST), MANY, interval_s=0.1))
        served = [await asyncio.to_thread(is_served, flooded) for _ in range(10)]
        return served, await under_way

    served, found = asyncio.run(flood())
    assert all(served)
    assert found.ended == MANY
    process = flooded.process.process
    assert process is not None
    poll(lambda: open_files(process.pid) < MANY, "connections stay open")


def test_a_client_that_takes_back_what_it_asks_for_is_sent_away(flooded):
    found = asyncio.run(rapid_reset(Prey(flooded.port, HOST), streams=200_000))
    assert found.ended == 1
    assert found.sent < 200_000
    assert is_served(flooded)


def test_a_head_that_is_continued_for_ever_is_cut_off(flooded):
    found = asyncio.run(endless_head(Prey(flooded.port, HOST), frames=5_000))
    assert found.ended == 1
    assert found.sent < 5_000
    assert is_served(flooded)


@pytest.mark.skipif(not hasattr(model, "Gate"), reason="this edge knows no limit of requests by prefix")
def test_one_address_over_its_limit_gets_429_and_another_is_served(provider):
    gate = model.Gate(model.ClientLimits(requests_per_prefix_rps=20))  # type: ignore[attr-defined]
    with edge() as one:
        one.serve(settings(upstream("cdn", provider.port), gate=gate))
        statuses: Counter[int] = asyncio.run(many_requests(Prey(one.port, HOST), 10 * MANY, 10))
        assert is_served(one)
    assert set(statuses) <= {200, 429, 0}
    assert statuses[429] > statuses[200] >= 20
