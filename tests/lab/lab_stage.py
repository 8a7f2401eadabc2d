"""A lab inside one process: the same servers as in the real one, on one event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from polycdn.lab.certs import Authority, issue
from polycdn.lab.checks import FeedCheck, ObjectCheck
from polycdn.lab.content import Content, probed_objects
from polycdn.lab.exchange import LAB_KEY
from polycdn.lab.fault import Schedule, Window
from polycdn.lab.fetch import Call, Check, Outcome, Site, client_context, fetch
from polycdn.lab.injector import write_faults
from polycdn.lab.places import split_listen
from polycdn.lab.process import run_cdn, run_origin
from polycdn.lab.spec import CdnSpec, OriginSpec, Process
from polycdn.model.topology import Endpoint
from polycdn.run.clock import Wall

HOSTNAME = "service.test"
SMALL = Content(patch_bytes=600_000, segment_bytes=5_000, chat_events=8, chat_interval_ms=5)
FOREVER_MS = 1 << 60


@dataclass
class Certified:
    """An authority with a good and an expired certificate for HOSTNAME."""

    authority: Authority
    directory: Path

    @property
    def ca_file(self):
        return self.authority.ca_file

    def good(self, *names):
        return issue(self.authority, self.directory, "-".join(("good", *names)), names or (HOSTNAME,))

    def expired(self):
        return issue(self.authority, self.directory, "expired", (HOSTNAME,), is_expired=True)


@dataclass
class Stage:
    """One CDN called `alpha` before one origin; the doors that tests use."""

    site: Site
    address: str
    faults_file: Path
    origin_log: Path
    fault_log: Path
    origin_port: int

    def inject(self, *windows: Window) -> None:
        write_faults(self.faults_file, Schedule(1, windows))

    async def get(self, path: str, check: Check | None = None, key: str = "", **fields: str) -> Outcome:
        named = {LAB_KEY: key} if key else {}
        call = Call("GET", path, fields | named, first_byte_ms=fields.pop("first_byte_ms", 800), rest_ms=800)
        return await fetch(self.site, self.address, call, check or check_for(path), Wall())


def check_for(path: str) -> Check:
    if path.startswith("/feed/"):
        return FeedCheck(int(path.removeprefix("/feed/")))
    return ObjectCheck({each.path: each.expect for each in probed_objects(SMALL)}[path])


@asynccontextmanager
async def running(run, spec, clock=None) -> AsyncIterator[str]:
    """One process of the lab as a task; yields where it listens."""
    wall = Wall()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run(spec, clock or wall, wall, listening.set_result))
    try:
        await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield await listening
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def staged(tmp_path: Path, certified: Certified, *windows: Window, content=SMALL):
    process = Process("origin-1", "wall", str(tmp_path / "ready"))
    origin_spec = OriginSpec(process, "127.0.0.1:0", str(tmp_path / "origin.served"), content)
    faults_file, fault_log = tmp_path / "faults.json", tmp_path / "alpha.faults"
    write_faults(faults_file, Schedule(1, windows))
    async with running(run_origin, origin_spec) as origin:
        address, port = split_listen(origin)
        cdn_spec = CdnSpec(
            Process("alpha", "wall", str(tmp_path / "ready")),
            "127.0.0.1:0",
            (Endpoint(HOSTNAME, port, False, (address,)),),
            certified.good(),
            certified.expired(),
            str(faults_file),
            str(fault_log),
        )
        async with running(run_cdn, cdn_spec) as cdn:
            address, cdn_port = split_listen(cdn)
            site = Site(HOSTNAME, cdn_port, client_context(certified.ca_file))
            yield Stage(site, address, faults_file, tmp_path / "origin.served", fault_log, port)


async def until(claim, within_s: float = 60):
    """Waits until `claim()` holds; fails when it does not in time."""
    async with asyncio.timeout(within_s):
        while not claim():
            await asyncio.sleep(0.01)


class Hand:
    """A clock whose hand is moved by the test."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.at_ms = now_ms

    def now_ms(self) -> int:
        return self.at_ms

    async def sleep_until(self, at_ms: int) -> None:
        while self.at_ms < at_ms:
            await asyncio.sleep(0.001)
