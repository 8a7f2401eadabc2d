"""`polycdn up`: writes what its children need to know, starts or adopts them, and keeps them running.

| child | outlives `up` | when `up` is told to stop |
|---|---|---|
| decider | no | ends |
| vantages | no | end |
| engines (edge, dns) | yes | serve on; `--stop-engines` or `polycdn down` drains them |

Users must not feel that the operator restarts `up`, hence the default.
"""

import asyncio
import fcntl
import os
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from polycdn.config.loaded import EngineRole, EngineSpec, Loaded, VantageSite
from polycdn.errors import PolycdnError, SurfaceError, UnavailableError
from polycdn.model.wire import canonical
from polycdn.run.clock import Wall
from polycdn.run.layout import Layout
from polycdn.run.process import identity_of, read_pid, write_pid
from polycdn.run.running import UP, end_engines
from polycdn.run.supervise import EngineKeeper, Keeper, Program, tell, until_ready
from polycdn.run.wiring import LabOptions as LabOptions
from polycdn.run.wiring import UpOptions as UpOptions
from polycdn.run.wiring import decider_spec, engine_config, local_sites, vantage_spec
from polycdn.surface.files import write_whole

SERVED_MS_MAX: Final = 10_000
"""An engine that does not serve by then is looked at all the same: then it is an outage."""

SERVED_POLL_MS: Final = 50
READY_MS_MAX: Final = 15_000
KEY_BYTES: Final = 32
DECIDER: Final = "decider"


@dataclass(frozen=True, slots=True)
class Programs:
    """How children are started; `engine_version` None = an engine of any version is adopted."""

    edge: tuple[str, ...] = (sys.executable, "-m", "polycdn.run.engine", "edge")
    dns: tuple[str, ...] = (sys.executable, "-m", "polycdn.run.engine", "dns")
    decider: tuple[str, ...] = (sys.executable, "-m", "polycdn.run.live")
    vantage: tuple[str, ...] = (
        sys.executable,
        "-c",
        "import sys; from polycdn.cli.main import main; main(['vantage', '--spec', sys.argv[1]])",
    )
    engine_version: str | None = None


def installed_programs() -> Programs:
    """The programs of this installation; engines of another version are replaced."""
    return Programs(engine_version=version("polycdn"))


class Up:
    """One supervisor. `run` returns once `stop` was called and the children that should end have ended."""

    def __init__(
        self, loaded: Loaded, options: UpOptions, programs: Programs, state: Path | None = None
    ) -> None:
        root = state or Path(loaded.state_dir)
        self.layout = Layout(root / "shadow" if options.is_shadow else root)
        self._loaded = loaded
        self._options = options
        self._programs = programs
        self._wall = Wall()
        self._stopped = asyncio.Event()
        self._lock_fd = -1
        engines = () if options.is_shadow else loaded.engines
        self.engines = tuple(self._engine_keeper(spec) for spec in engines)
        self.decider = self._keeper(DECIDER, programs.decider)
        self.vantages = tuple(
            self._keeper(f"vantage-{site.vantage.name}", programs.vantage) for site in local_sites(loaded)
        )

    def stop(self) -> None:
        """Ends `run`."""
        self._stopped.set()

    async def run(self) -> int:
        """Exit code 0. Raises UnavailableError when another `up` runs here or the state cannot be written."""
        self.layout.make()
        self._lock()
        try:
            self._write_pid()
            self._write_specs()
            for keeper in (self.decider, *self.vantages):
                await keeper.end_leftover()
            self.layout.ready_file.unlink(missing_ok=True)
            await self._keep_all()
        except SurfaceError as error:
            raise UnavailableError(f"the state directory cannot be written: {error}") from None
        finally:
            self.layout.pid_file(UP).unlink(missing_ok=True)
            os.close(self._lock_fd)
        return 0

    async def _keep_all(self) -> None:
        await self._end_strangers()
        adopted = await asyncio.gather(*(engine.adopt_running() for engine in self.engines))
        lasting = [asyncio.create_task(engine.keep()) for engine in self.engines]
        mortal = [asyncio.create_task(self.decider.keep())]
        mortal += [asyncio.create_task(self._keep_vantage(vantage)) for vantage in self.vantages]
        telling = asyncio.create_task(self._tell_ready(sum(adopted)))
        ended = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait((ended, *lasting, *mortal), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, ended, *lasting, *mortal):
                task.cancel()
            results = await asyncio.gather(*lasting, *mortal, return_exceptions=True)
            await asyncio.gather(*(keeper.stop() for keeper in (*self.vantages, self.decider)))
            if self._options.stops_engines:
                await asyncio.gather(*(self._stop_engine(engine) for engine in self.engines))
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _keep_vantage(self, vantage: Keeper) -> None:
        """Lets a vantage look only once our engines serve: an edge that is still starting is not DOWN."""
        end_ms = self._wall.now_ms() + SERVED_MS_MAX
        while self._wall.now_ms() < end_ms and not await self._are_serving():
            await self._wall.sleep_until(self._wall.now_ms() + SERVED_POLL_MS)
        await vantage.keep()

    async def _are_serving(self) -> bool:
        return all([await engine.is_serving() for engine in self.engines])

    async def _end_strangers(self) -> None:
        """Drains engines that an earlier config named and this one does not."""
        named = {engine.program.name for engine in self.engines}
        ended = await end_engines(self.layout, lambda name: name not in named)
        if ended:
            tell(f"no longer in the config, and ended: {', '.join(ended)}")

    async def _stop_engine(self, engine: EngineKeeper) -> None:
        await engine.drain(engine.identity)
        await engine.stop()

    async def _tell_ready(self, adopted: int) -> None:
        tell(
            f"state in {self.layout.state}; {len(self.engines)} engines ({adopted} ran already), "
            f"{len(self.vantages)} vantages here, {len(self._loaded.services)} services"
        )
        if not await until_ready(self.layout.ready_file.exists, self._wall, READY_MS_MAX):
            tell(f"the decider is not ready after {READY_MS_MAX} ms; see {self.decider.program.log_file}")
            return
        for engine in self.engines:
            answer = await engine.hello()
            listeners = answer["listeners"] if answer else "does not answer"
            tell(f"{engine.program.name}: {listeners}")
        tell("ready")

    def _lock(self) -> None:
        file = self.layout.run / "up.lock"
        self._lock_fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_fd)
            other = read_pid(self.layout.pid_file(UP))
            number = f" (process {other.pid})" if other else ""
            raise UnavailableError(f"`polycdn up` runs already on {self.layout.state}{number}") from None

    def _write_pid(self) -> None:
        identity = identity_of(os.getpid())
        assert identity is not None, "this process runs"
        write_pid(self.layout.pid_file(UP), identity)

    def _keeper(self, name: str, argv: tuple[str, ...]) -> Keeper:
        return Keeper(self._program(name, argv, is_lasting=False), self._wall)

    def _program(self, name: str, argv: tuple[str, ...], *, is_lasting: bool) -> Program:
        argv = (*argv, str(self.layout.spec_file(name)))
        return Program(name, argv, self.layout.log_file(name), self.layout.pid_file(name), is_lasting)

    def _engine_keeper(self, spec: EngineSpec) -> EngineKeeper:
        argv = self._programs.edge if spec.role is EngineRole.EDGE else self._programs.dns
        name = f"engine-{spec.name}"
        return EngineKeeper(
            self._program(name, argv, is_lasting=self._options.lab is None),
            self._wall,
            engine_config(spec, self.layout),
            self.layout.spec_file(name),
            self._programs.engine_version,
        )

    def _write_specs(self) -> None:
        keys = {site.vantage.name: self._key_file(site) for site in self._loaded.vantages}
        spec = decider_spec(self._loaded, self.layout, self._options, keys)
        write_whole(self.layout.spec_file(DECIDER), canonical(spec))
        for engine in self._loaded.engines:
            if engine.admin and not engine.admin.token_file:
                _with_secret(self.layout.admin_token_file(engine.name))
        for site in local_sites(self._loaded):
            told = vantage_spec(self._loaded, site, self.layout, self._options, keys)
            write_whole(self.layout.spec_file(f"vantage-{site.vantage.name}"), canonical(told))

    def _key_file(self, site: VantageSite) -> str:
        return site.key_file or _with_secret(self.layout.key_file(site.vantage.name))


def _with_secret(file: Path) -> str:
    """The path of a file that holds a secret; one is made if there is none."""
    if not file.exists():
        write_whole(file, secrets.token_hex(KEY_BYTES).encode() + b"\n")
    return str(file)


def run_up(
    load: Callable[[], Loaded], options: UpOptions, programs: Programs, state: Path | None = None
) -> int:
    """Exit code, 0, once SIGTERM or SIGINT came. SIGHUP reads the config again; a bad one changes nothing."""
    loaded: Loaded | None = load()
    while loaded is not None:
        loaded = asyncio.run(_run_once(loaded, load, options, programs, state))
    return 0


async def _run_once(
    loaded: Loaded, load: Callable[[], Loaded], options: UpOptions, programs: Programs, state: Path | None
) -> Loaded | None:
    """The config to go on with, None to end."""
    up = Up(loaded, options, programs, state)
    news: list[Loaded] = []

    def reload() -> None:
        try:
            news[:] = [load()]
        except PolycdnError as error:
            tell(f"the config was read again, and is refused; the old one stays\n{error}")
            return
        tell("the config was read again")
        up.stop()

    def stop() -> None:
        news.clear()
        up.stop()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    await up.run()
    return news[0] if news else None
