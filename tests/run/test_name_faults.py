"""A name that does not resolve: from a real vantage process to the verdict of a decider."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.rcode
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from misbehaving import Misbehaving, answer
from nameserver import nameserver
from stage import until

from polycdn.model import wire
from polycdn.model.policy import Policy
from polycdn.model.state import Report, State
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Service, Vantage
from polycdn.model.verdict import Blame, Status
from polycdn.run.clock import Wall
from polycdn.run.decider_spec import DeciderSpec, Steered, TrustedVantage
from polycdn.run.live import Decider
from polycdn.run.vantage import VantageSpec, Watched

pytestmark = pytest.mark.lab

POLICY = Policy(probe_interval_ms=200, probe_deadline_ms=2_000)


@pytest.fixture
def folder():
    """Short, because a Unix socket's path is."""
    made = Path(tempfile.mkdtemp(prefix="pcdn-"))
    (made / "key").write_bytes(b"0123456789abcdef0123456789abcdef")
    yield made
    shutil.rmtree(made)


def service_at(port: int, nameservers: tuple[str, ...] = ()) -> Service:
    """`named` is known by a name that this machine always knows, `placed` by its address."""
    named = Provider("named", ProviderKind.CDN, Endpoint("localhost", port, tls=False))
    placed = Provider("placed", ProviderKind.CDN, Endpoint("www.test", port, False, ("127.0.0.1",)))
    providers = (placed,) if nameservers else (named, placed)
    return Service("www", "www.test", providers, vantages=(Vantage("v1"),), nameservers=nameservers)


@asynccontextmanager
async def watched(folder: Path, service: Service, resolver: str | None = None) -> AsyncIterator[Decider]:
    """A decider, and a vantage process that reports to it."""
    socket, key = str(folder / "o.sock"), str(folder / "key")
    vantage = VantageSpec("v1", (Watched(service, POLICY),), f"unix:{socket}", key, resolver=resolver)
    (folder / "vantage.json").write_bytes(wire.canonical(vantage))
    spec = DeciderSpec(
        (Steered(service, POLICY),),
        str(folder / "journal"),
        str(folder / "d.sock"),
        vantages=(TrustedVantage("v1", key),),
        observations_socket=socket,
        ready_file=str(folder / "ready.json"),
    )
    decider = Decider(spec, Wall())
    deciding = asyncio.create_task(decider.run())
    await until(lambda: deciding.done() or (folder / "ready.json").exists(), "the decider is ready")
    words = ("-m", "polycdn", "vantage", "--spec", str(folder / "vantage.json"))
    process = await asyncio.create_subprocess_exec(sys.executable, *words)
    try:
        yield decider
    finally:
        process.terminate()
        await process.wait()
        decider.stop()
        await deciding


def state(decider: Decider) -> State:
    return decider.loop.states["www"]


def verdict(decider: Decider, provider: str):
    return next((one for one in state(decider).verdicts if one.provider == provider), None)


def is_up(decider: Decider, provider: str) -> bool:
    found = verdict(decider, provider)
    return found is not None and found.status is Status.UP


def test_a_provider_whose_name_is_lost_is_left_and_dns_is_blamed(folder):
    async def story():
        async with (
            Misbehaving(answer()) as server,
            nameserver("127.0.0.1") as operator,
            watched(folder, service_at(server.port), operator.listen) as decider,
        ):
            await until(lambda: is_up(decider, "named") and len(operator.asked) >= 3, "all is good")
            assert set(operator.asked) == {"localhost"}
            operator.rcode = dns.rcode.SERVFAIL
            await until(lambda: verdict(decider, "named").status is Status.DOWN, "its fault is seen", 120)
            assert verdict(decider, "named").blame is Blame.DNS
            await until(
                lambda: dict(state(decider).plan.regions[0].shares) == {"placed": 10_000}, "it is left"
            )
            assert is_up(decider, "placed")

    asyncio.run(story())


def test_our_own_nameserver_is_asked_and_its_fault_is_noted_but_moves_nobody(folder):
    async def story():
        async with (
            Misbehaving(answer()) as server,
            nameserver("127.0.0.1") as ours,
            watched(folder, service_at(server.port, (ours.listen,))) as decider,
        ):

            def notes() -> list[str]:
                return [note.code for note in decider.loop.reports.get("www", Report(0)).notes]

            await until(lambda: is_up(decider, "placed") and len(ours.asked) >= 3, "all is good")
            assert set(ours.asked) == {"www.test"}
            assert "nameserver_failing" not in notes()
            generation = state(decider).generation
            ours.address = "203.0.113.6"
            await until(lambda: "nameserver_failing" in notes(), "a wrong answer is noted", 120)
            assert is_up(decider, "placed")
            shares = [dict(region.shares) for region in state(decider).plan.regions]
            assert shares == [{"placed": 10_000}]
            assert state(decider).generation <= generation + 2

    asyncio.run(story())
