"""The rig: starts the processes of a lab, waits until they serve, and leaves none behind.

Each child holds the read end of a pipe from us as its standard input and ends when that ends, so that it
dies with us even if we are killed.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from asyncio.subprocess import Process as Child
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from polycdn.errors import UnavailableError
from polycdn.lab.certs import Authority, issue, make_authority
from polycdn.lab.content import STANDARD, Content
from polycdn.lab.fault import Schedule, Window
from polycdn.lab.injector import write_faults
from polycdn.lab.places import Places, choose_places, split_listen
from polycdn.lab.spec import CdnSpec, LoadSpec, NameserverSpec, OriginSpec, Process, write_spec
from polycdn.model.settings import Certificate
from polycdn.model.topology import Endpoint
from polycdn.model.units import Clock

READY_S_MAX: Final = 60
READY_POLL_S: Final = 0.02
TERM_S_MAX: Final = 5
PROCESS_MODULE: Final = "polycdn.run.lab_process"

AnySpec = OriginSpec | CdnSpec | NameserverSpec | LoadSpec
KIND_OF: Final = {OriginSpec: "origin", CdnSpec: "cdn", NameserverSpec: "nameserver", LoadSpec: "load"}


@dataclass(frozen=True, slots=True)
class RigSpec:
    """What to build. Everything is written under `work_dir`, which exists.

    `clock` is the timeline of all processes. `cdns`, `clouds` and `also` get an address of their own on the
    lab's one port; nobody listens at those of `also`: they are for an edge that somebody else starts. A cloud
    is an origin that users reach directly. `origins` are those that CDNs ask.
    """

    work_dir: str
    hostname: str
    clock: str = "wall"
    cdns: tuple[str, ...] = ("alpha", "beta", "gamma")
    clouds: tuple[str, ...] = ()
    origins: int = 2
    also: tuple[str, ...] = ("edge",)
    content: Content = STANDARD
    seed: int = 1
    windows: tuple[Window, ...] = ()
    cache_bytes_max: int = 268_435_456


@dataclass(frozen=True, slots=True)
class Running:
    """A child that serves. `listen` is `address:port`, "" for load."""

    name: str
    pid: int
    listen: str


class Lab:
    """A running lab: where everything is, and the doors to change it."""

    def __init__(self, spec: RigSpec, places: Places, authority: Authority) -> None:
        self.spec = spec
        self.places = places
        self.ca_file = authority.ca_file
        self.work_dir = Path(spec.work_dir)
        self.faults_file = self.work_dir / "faults.json"
        self._authority = authority
        self._children: dict[str, Child] = {}
        self._running: dict[str, Running] = {}

    def certificate(self, stem: str, *names: str) -> Certificate:
        """A good certificate of the lab's authority, for whatever else takes part."""
        return issue(self._authority, self.work_dir, stem, names)

    def endpoint(self, name: str) -> Endpoint:
        """Where a CDN, or one of `also`, is reached under the service's name."""
        address = self.places.address(name)
        return Endpoint(self.spec.hostname, self.places.port, True, (address,), self.ca_file)

    def origin(self, number: int) -> Endpoint:
        """Where an origin (from 1) is reached; plain HTTP."""
        address, port = split_listen(self._running[f"origin-{number}"].listen)
        return Endpoint(self.spec.hostname, port, False, (address,))

    def running(self, name: str) -> Running:
        """A child by its name; KeyError if there is none."""
        return self._running[name]

    def pids(self) -> tuple[int, ...]:
        """All children that were started and not yet stopped."""
        return tuple(child.pid for child in self._children.values())

    def file(self, name: str, suffix: str) -> str:
        """The path of a file of one process: `.requests`, `.faults`, `.err`."""
        return str(self.work_dir / f"{name}{suffix}")

    def request_logs(self) -> tuple[Path, ...]:
        """The request logs of all load so far."""
        return tuple(sorted(self.work_dir.glob("*.requests")))

    def origin_logs(self) -> tuple[Path, ...]:
        """The request logs of all origins."""
        return tuple(sorted(self.work_dir.glob("*.served")))

    def fault_logs(self) -> tuple[Path, ...]:
        """The fault logs of everybody that can be made to fail."""
        return tuple(sorted(self.work_dir.glob("*.faults")))

    def inject(self, windows: Sequence[Window]) -> None:
        """Puts these faults in place of all others; in force within 50 ms, everywhere."""
        write_faults(self.faults_file, Schedule(self.spec.seed, tuple(windows)))

    def process(self, name: str) -> Process:
        """The common part of a spec, for `start`."""
        return Process(name, self.spec.clock, self.file(name, ".ready"), follow_stdin=True)

    async def start(self, *specs: AnySpec) -> tuple[Running, ...]:
        """Starts processes side by side; returns when all serve. Raises UnavailableError if one does not."""
        for spec in specs:
            await self._spawn(spec)
        return tuple([await self._until_ready(spec.process) for spec in specs])

    async def stop(self, *names: str) -> None:
        """Ends children, in this order of words: SIGTERM to all, wait, SIGKILL to who is left."""
        children = [self._children.pop(name) for name in names if name in self._children]
        for child in children:
            if child.returncode is None:
                child.terminate()
        await asyncio.gather(*(_ended(child) for child in children))

    async def stop_all(self) -> None:
        """Ends all children, the youngest first, so that load ends before what it asks."""
        loads = [
            name for name in self._children if self._running.get(name, Running(name, 0, "")).listen == ""
        ]
        await self.stop(*loads)
        await self.stop(*tuple(self._children))

    async def wait(self, *names: str) -> None:
        """Returns when these children have ended by themselves."""
        await asyncio.gather(*(self._children[name].wait() for name in names))

    async def _spawn(self, spec: AnySpec) -> None:
        name = spec.process.name
        assert name not in self._children, f"a process called {name} runs already"
        spec_file = Path(self.file(name, ".json"))
        Path(spec.process.ready_file).unlink(missing_ok=True)
        write_spec(spec_file, spec)
        command = [sys.executable, "-m", PROCESS_MODULE, KIND_OF[type(spec)], str(spec_file)]
        with Path(self.file(name, ".err")).open("wb") as errors:
            self._children[name] = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=errors, stderr=errors, start_new_session=True
            )

    async def _until_ready(self, process: Process) -> Running:
        child, path = self._children[process.name], Path(process.ready_file)
        try:
            async with asyncio.timeout(READY_S_MAX):
                while not path.exists():
                    if child.returncode is not None:
                        raise UnavailableError(self._why(process.name, f"ended with {child.returncode}"))
                    await asyncio.sleep(READY_POLL_S)
        except TimeoutError:
            why = self._why(process.name, f"does not serve after {READY_S_MAX} s")
            raise UnavailableError(why) from None
        told = json.loads(path.read_bytes())
        running = Running(process.name, told["pid"], told["listen"])
        self._running[process.name] = running
        return running

    def _why(self, name: str, what: str) -> str:
        said = Path(self.file(name, ".err")).read_text(errors="replace")[-2000:].strip()
        return f"lab process {name} {what}: {said or 'it said nothing'}"


async def _ended(child: Child) -> None:
    """Waits for a child that was told to end, and kills it when it takes too long."""
    try:
        async with asyncio.timeout(TERM_S_MAX):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()


@asynccontextmanager
async def rig(spec: RigSpec, wall: Clock) -> AsyncIterator[Lab]:
    """A lab with its origins and CDNs serving; no process of it is left when the block is over."""
    work_dir = Path(spec.work_dir)
    authority = make_authority(work_dir, wall.now_ms())
    lab = Lab(spec, choose_places((*spec.cdns, *spec.clouds, *spec.also)), authority)
    lab.inject(spec.windows)
    try:
        await lab.start(*(_origin(lab, f"origin-{number}") for number in range(1, spec.origins + 1)))
        await lab.start(*(_cloud(lab, name) for name in spec.clouds))
        await lab.start(*(_cdn(lab, authority, name) for name in spec.cdns))
        yield lab
    finally:
        await asyncio.shield(lab.stop_all())


def _origin(lab: Lab, name: str) -> OriginSpec:
    keys_dir = lab.work_dir / "executed"
    keys_dir.mkdir(exist_ok=True)
    return OriginSpec(
        lab.process(name),
        "127.0.0.1:0",
        lab.file(name, ".served"),
        lab.spec.content,
        faults_file=str(lab.faults_file),
        fault_log=lab.file(name, ".faults"),
        keys_dir=str(keys_dir),
    )


def _cloud(lab: Lab, name: str) -> OriginSpec:
    certificate = lab.certificate(name, lab.spec.hostname)
    return replace(_origin(lab, name), listen=lab.places.listen(name), certificate=certificate)


def _cdn(lab: Lab, authority: Authority, name: str) -> CdnSpec:
    hostname = lab.spec.hostname
    expired = issue(authority, lab.work_dir, f"{name}-expired", (hostname,), is_expired=True)
    return CdnSpec(
        lab.process(name),
        lab.places.listen(name),
        tuple(lab.origin(number) for number in range(1, lab.spec.origins + 1)),
        lab.certificate(name, hostname),
        expired,
        str(lab.faults_file),
        lab.file(name, ".faults"),
        lab.spec.cache_bytes_max,
    )
