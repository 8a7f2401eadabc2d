"""What the tests of whole processes share: a config, an `up` on it, an upstream, and ways to look at them."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from polycdn.config.loaded import EngineRole, EngineSpec, Listen, Loaded, VantageSite
from polycdn.model.policy import Policy
from polycdn.model.topology import Endpoint, Provider, ProviderKind, Service, Vantage
from polycdn.run.process import Identity
from polycdn.run.up import Programs, Up, UpOptions
from polycdn.surface.control import ask

FAKE_ENGINE = (
    sys.executable,
    str(Path(__file__).parent.parent / "fakes" / "fake_engine.py"),
    "--engine-config",
)
FAKES = Programs(edge=FAKE_ENGINE, dns=FAKE_ENGINE)
DEADLINE_S = 60.0


def service(port: int = 9) -> Service:
    """`www`, carried by two providers, both reached on a loopback port."""
    endpoint = Endpoint("127.0.0.1", port, tls=False, addresses=("127.0.0.1",))
    providers = tuple(Provider(name, ProviderKind.CDN, endpoint) for name in ("a", "b"))
    return Service("www", "www.example.org", providers, vantages=(Vantage("v1"),))


def loaded(folder: Path, port: int = 9, **changes: Any) -> Loaded:
    """A config with one edge and no vantage of its own."""
    config = Loaded(
        services=((service(port), Policy(probe_interval_ms=1_000)),),
        engines=(EngineSpec("e1", EngineRole.EDGE, http=("127.0.0.1:0",)),),
        vantages=(VantageSite(Vantage("v1"), is_remote=True),),
        listen=Listen("127.0.0.1:0"),
        state_dir=str(folder / "state"),
    )
    return replace(config, **changes)


async def until(claim: Callable[[], Any | Awaitable[Any]], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """What the claim gives once it is true. Fails when it is not by then."""
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                found = claim()
                if isinstance(found, Awaitable):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {deadline_s} s: {what}") from None


@asynccontextmanager
async def running(
    config: Loaded, programs: Programs = FAKES, options: UpOptions | None = None
) -> AsyncIterator[Up]:
    """An `up` with its engines carrying a plan; it is told to stop when the block ends."""
    up = Up(config, options or UpOptions(), programs)
    up.layout.ready_file.unlink(missing_ok=True)
    task = asyncio.create_task(up.run())
    try:
        await until(lambda: task.done() or up.layout.ready_file.exists(), "the decider is ready")
        if task.done():
            task.result()
        for engine in up.engines:
            await until(
                lambda engine=engine: generation(up, engine.config["engine"]), "the engine has a plan"
            )
        yield up
    finally:
        up.stop()
        await task


async def status(up: Up, engine: str = "e1") -> dict[str, Any]:
    """The engine's status; {} when it does not answer."""
    from polycdn.errors import SurfaceError

    with suppress(SurfaceError):
        return await ask(up.layout.engine_socket(engine), {"op": "status"})
    return {}


async def generation(up: Up, engine: str = "e1") -> int:
    """The generation of `www` that the engine serves; 0 = none."""
    services = (await status(up, engine)).get("services", [])
    return next((one["generation"] for one in services if one["service"] == "www"), 0)


async def say(up: Up, **word: Any) -> dict[str, Any]:
    """The decider's answer to an operator's word."""
    return await ask(up.layout.decider_socket, word, 8_000)


async def listener(up: Up, engine: str = "e1") -> str:
    """Where the engine listens for HTTP now."""
    return (await ask(up.layout.engine_socket(engine), {"op": "hello"}))["listeners"]["http"][0]


async def get(address: str, host: str = "www.example.org") -> tuple[int, bytes]:
    """Status and body of one GET on a connection of its own."""
    name, _, port = address.rpartition(":")
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(name, int(port))
        try:
            writer.write(f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.transport.abort()
    return int(head.split()[1]), body


class Upstream(asyncio.Protocol):
    """A provider that answers every GET with 200; `connections` are those to close in the end."""

    def __init__(self, connections: list[asyncio.Transport]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._connections.append(transport)
        self._transport = transport
        self._asked = b""

    def data_received(self, asked: bytes) -> None:
        self._asked += asked
        while b"\r\n\r\n" in self._asked:
            _, _, self._asked = self._asked.partition(b"\r\n\r\n")
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nhi\n"
            )


@asynccontextmanager
async def upstream() -> AsyncIterator[int]:
    """The port of a provider that answers every GET with 200."""
    connections: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(connections), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    for connection in connections:
        connection.abort()
    await asyncio.sleep(0)


def identity(up: Up, name: str) -> Identity:
    """The process that a pid file names."""
    return Identity(**json.loads(up.layout.pid_file(name).read_bytes()))
