"""Upstreams of the lab on loopback, in this process, that fail as a schedule says."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from cases import FIRST, SECOND

from polycdn.lab.certs import issue, make_authority
from polycdn.lab.content import Content
from polycdn.lab.fault import Schedule
from polycdn.lab.injector import Injector, write_faults
from polycdn.lab.logs import LineLog
from polycdn.lab.origin import Origin
from polycdn.lab.server import Server, Tls, server_context
from polycdn.lab.spec import OriginSpec, Process
from polycdn.run.clock import Wall

HOSTNAME = "service.test"
NAMES = (FIRST, SECOND)


@dataclass(frozen=True)
class Upstreams:
    """The upstreams; `ports` in the order of `names`, `ca_file` None without TLS."""

    folder: Path
    names: tuple[str, ...]
    ports: tuple[int, ...]
    ca_file: str | None
    servers: tuple[Server, ...]
    logs: tuple[LineLog, ...]

    def inject(self, schedule: Schedule) -> None:
        """Puts the faults in force."""
        write_faults(self.folder / "faults.json", schedule)

    def served(self) -> list[dict]:
        """Every request that an upstream answered, as it was logged."""
        for log in self.logs:
            log.flush()
        lines = [(self.folder / f"{name}.served").read_text().splitlines() for name in self.names]
        return [json.loads(line) for of_one in lines for line in of_one]

    def faults(self) -> list[dict]:
        """Every request or connection that met a fault."""
        for log in self.logs:
            log.flush()
        return [json.loads(line) for line in (self.folder / "faults.log").read_text().splitlines()]


def executions(served: Iterable[dict]) -> Counter[str]:
    """How often each write was carried out, over all upstreams."""
    return Counter(line["key"] for line in served if line["executed"])


@contextlib.asynccontextmanager
async def upstreams(
    folder: Path, content: Content, *, is_tls: bool = False, names: tuple[str, ...] = NAMES
) -> AsyncIterator[Upstreams]:
    """All of them, serving until the end of the block. They share their memory of idempotency keys."""
    (folder / "keys").mkdir()
    tls, ca_file = _certified(folder) if is_tls else (None, None)
    wall = Wall()
    fault_log = LineLog(folder / "faults.log")
    logs = [fault_log]
    servers = []
    for name in names:
        log = LineLog(folder / f"{name}.served")
        process = Process(name, "wall", str(folder / f"{name}.ready"))
        spec = OriginSpec(process, "", "", content, keys_dir=str(folder / "keys"))
        injector = Injector(name, wall, str(folder / "faults.json"), fault_log)
        servers.append(Server("127.0.0.1:0", Origin(spec, wall, log).answer, injector, tls))
        logs.append(log)
    ports = tuple(int(server.listen.rpartition(":")[2]) for server in servers)
    tasks = [asyncio.create_task(server.run()) for server in servers]
    try:
        yield Upstreams(folder, names, ports, ca_file, tuple(servers), tuple(logs))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for log in logs:
            log.close()


def _certified(folder: Path) -> tuple[Tls, str]:
    names = (HOSTNAME, "127.0.0.1")
    authority = make_authority(folder, Wall().now_ms())
    good = issue(authority, folder, "good", names)
    expired = issue(authority, folder, "expired", names, is_expired=True)
    return Tls(server_context(good), server_context(expired)), authority.ca_file
