"""Demand as the edges count it: which figure is told, when, and what steering makes of it."""

import asyncio
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from fake_engine import FakeEngine
from stage import until

from polycdn.journal.scan import read
from polycdn.model.event import Measured
from polycdn.model.plan import Plan, RegionPlan
from polycdn.model.policy import Policy
from polycdn.model.state import Demand, State
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Region, Service
from polycdn.run.clock import Wall
from polycdn.run.decider_spec import DeciderSpec, EngineLink, Steered, SurfaceLink
from polycdn.run.demand import FORGET_MS, DemandMeter, meters_of
from polycdn.run.live import Decider
from polycdn.surface.engine import ServedCount
from polycdn.surface.settings import settings_for

EU, US = Region("eu"), Region("us", demand_rps=1_000, demand_mbps=5_000)
SERVICE = Service(
    "www",
    "www.example.org",
    (
        Provider("cdn", ProviderKind.CDN, Endpoint("cdn.example")),
        Provider("own", ProviderKind.EDGE, Endpoint("own.example")),
    ),
    regions=(EU, US),
)
POLICY = Policy(ttl_calm_s=60)
WINDOW_MS = 10_000
START_MS = 1_000_000


def state(own_bp: int) -> State:
    shares = tuple(pair for pair in (("cdn", 10_000 - own_bp), ("own", own_bp)) if pair[1])
    regions = tuple(RegionPlan(name, shares, ("cdn", "own"), 60) for name in ("eu", "us"))
    return State(SERVICE, POLICY, plan=Plan("www", 1, 0, START_MS, regions))


def meter(is_dns_steered: bool = False, edges: tuple[str, ...] = ("e1",)) -> DemandMeter:
    return DemandMeter(SERVICE, edges, is_dns_steered, WINDOW_MS)


def served(from_ms: int, to_ms: int, rps: int, region: str = "eu") -> list[ServedCount]:
    halves = [(outcome, rps // 2) for outcome in ("ok", "failed")]
    return [
        ServedCount(at_ms, "www", region, outcome, requests)
        for at_ms in range(from_ms, to_ms, 1_000)
        for outcome, requests in halves
    ]


def told(one: DemandMeter, at: State, wall_ms: int) -> dict[str, int]:
    return {event.region: event.demand_rps for event in one.measured(at, wall_ms, 7)}


def counting(one: DemandMeter, at: State, rps: int, from_ms: int, seconds: int, edge: str = "e1") -> dict:
    """What is told while an edge answers so many requests a second."""
    found = {}
    for now_ms in range(from_ms, from_ms + seconds * 1_000, 1_000):
        one.take(edge, served(now_ms, now_ms + 1_000, rps), now_ms + 1_000)
        found |= told(one, at, now_ms + 1_000)
    return found


def test_where_only_edges_carry_the_plan_every_request_is_counted_once():
    assert counting(meter(), state(0), 400, START_MS, 11) == {"eu": 400}


def test_of_a_share_of_the_users_all_are_reckoned():
    one = meter(is_dns_steered=True)
    assert counting(one, state(2_500), 100, START_MS, 60) == {}, "answers of before are still kept"
    assert counting(one, state(2_500), 100, START_MS + 60_000, 12) == {"eu": 400}


def test_too_small_a_share_tells_nothing():
    assert counting(meter(is_dns_steered=True), state(900), 100, START_MS, 120) == {}


def test_a_moved_share_is_waited_for():
    one = meter(is_dns_steered=True)
    counting(one, state(10_000), 400, START_MS, 75)
    assert counting(one, state(5_000), 300, START_MS + 75_000, 60) == {}
    assert counting(one, state(5_000), 200, START_MS + 135_000, 15) == {}, "400 for all is no news"


def test_noise_is_no_news_and_a_rise_is():
    one = meter()
    counting(one, state(0), 1_000, START_MS, 12)
    assert counting(one, state(0), 1_040, START_MS + 12_000, 30) == {}
    assert 1_900 < counting(one, state(0), 2_000, START_MS + 42_000, 12)["eu"] <= 2_000


def test_all_edges_are_added_up_and_one_that_is_silent_holds_the_figure_back():
    one = meter(edges=("e1", "e2"))
    one.take("e1", served(START_MS, START_MS + 12_000, 300), START_MS + 12_000)
    assert told(one, state(0), START_MS) == {}
    assert told(one, state(0), START_MS + 12_000) == {}
    one.take("e2", served(START_MS, START_MS + 12_000, 100), START_MS + 12_000)
    assert told(one, state(0), START_MS + 12_000) == {"eu": 400}


def test_traffic_follows_the_size_of_a_request_that_the_config_tells():
    one = meter()
    told(one, state(0), START_MS)
    rows = served(START_MS, START_MS + 10_000, 2_000, "us") + served(START_MS, START_MS + 10_000, 2_000)
    one.take("e1", rows, START_MS + 10_000)
    assert one.measured(state(0), START_MS + 10_000, 7) == (
        Measured(7, "eu", 2_000, 0),
        Measured(7, "us", 2_000, 10_000),
    )


def test_a_figure_that_nothing_renews_is_taken_back_after_an_hour():
    one = meter(is_dns_steered=True)
    counting(one, state(10_000), 400, START_MS, 75)
    end_ms = START_MS + 75_000
    assert told(one, state(0), end_ms + FORGET_MS - 1_000) == {}
    assert told(one, state(0), end_ms + FORGET_MS) == {"eu": 0}
    assert told(one, state(0), end_ms + 2 * FORGET_MS) == {}


def test_what_was_measured_before_a_restart_is_taken_back_too():
    before = replace(state(0), demand=(Demand("eu", 400, 0),))
    one = meter(is_dns_steered=True)
    assert told(one, before, START_MS) == {}
    assert told(one, before, START_MS + FORGET_MS) == {"eu": 0}


def test_the_nameserver_is_no_edge_and_makes_the_service_steered_by_dns():
    settings = (settings_for(SERVICE),)
    edge = EngineLink("e1", "", "", settings)
    spec = DeciderSpec((Steered(SERVICE, POLICY),), "", "", engines=(edge,))
    assert counting(meters_of(spec)["www"], state(0), 400, START_MS, 31) == {"eu": 400}
    nameserver = EngineLink("d1", "", "", settings, "dns")
    assert meters_of(replace(spec, engines=(nameserver,))) == {}
    for changes in (
        {"engines": (edge, nameserver)},
        {"surfaces": (SurfaceLink("z", "zonefile", settings),)},
    ):
        assert counting(meters_of(replace(spec, **changes))["www"], state(0), 400, START_MS, 31) == {}


class Busy(FakeEngine):
    """Answered 900 requests in every whole second so far."""

    def _counts(self, word: dict) -> dict:
        upto_ms = Wall().now_ms() // 1_000 * 1_000
        row = {"service": "www", "region": "anywhere", "outcome": "ok", "requests": 900}
        seconds = range(-(-word["since_ms"] // 1_000) * 1_000, upto_ms, 1_000)
        return {"counts": [], "served": [row | {"at_ms": at_ms} for at_ms in seconds], "upto_ms": upto_ms}


@pytest.fixture
def folder():
    """Short, because a Unix socket's path is."""
    made = Path(tempfile.mkdtemp(prefix="pcdn-"))
    yield made
    shutil.rmtree(made)


def test_what_the_edge_counts_is_journalled_and_fills_a_provider_to_its_capacity_and_no_further(folder):
    small = Provider("small", ProviderKind.CDN, Endpoint("s.example"), capacity_rps=300)
    large = Provider("large", ProviderKind.CDN, Endpoint("l.example"))
    service = Service("www", "www.example.org", (small, large))
    link = EngineLink("e1", str(folder / "engines" / "e1"), str(folder / "e1.sock"), (settings_for(service),))
    spec = DeciderSpec(
        (Steered(service, Policy(probe_interval_ms=1_000, move_max_bp=10_000, dwell_ms=0)),),
        str(folder / "journal"),
        str(folder / "decider.sock"),
        engines=(link,),
        round_ms=50,
        demand_window_ms=1_000,
    )

    async def story() -> dict[str, int]:
        engine = Busy({"engine": "e1", "state_dir": str(folder), "socket": link.socket})
        await engine.start()
        decider = Decider(spec, Wall())
        running = asyncio.create_task(decider.run())

        def known() -> State:
            return decider.loop.states.get("www", State()) if decider.loop else State()

        try:
            await until(lambda: known().demand == (Demand("anywhere", 900, 0),), "demand is known")
            await until(lambda: len(known().plan.regions[0].shares) == 2, "the rest goes to the next")
            return dict(known().plan.regions[0].shares)
        finally:
            decider.stop()
            await running
            await engine.stop()

    shares = asyncio.run(story())
    assert shares == {"small": 3_333, "large": 6_667}
    bodies = [record.entry.body for record in read(folder / "journal")]
    assert [body.demand_rps for body in bodies if isinstance(body, Measured)] == [900]
