"""One process of the lab: what it is told, when it is ready, how it ends."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from polycdn.errors import ConfigError, Fault, UnavailableError
from polycdn.lab.cdn import Cdn
from polycdn.lab.injector import Injector
from polycdn.lab.load import run_load
from polycdn.lab.logs import LineLog
from polycdn.lab.nameserver import run_nameserver
from polycdn.lab.origin import Origin
from polycdn.lab.server import Server, Tls, server_context
from polycdn.lab.spec import CdnSpec, LoadSpec, NameserverSpec, OriginSpec, Process, read_spec
from polycdn.model.units import Clock

ClockOf = Callable[[str], Clock]
Ready = Callable[[str], None]
READ_BYTES: Final = 4_096


def main(kind: str, spec_file: Path, clock_of: ClockOf, wall: Clock) -> int:
    """0, after SIGTERM, SIGINT or the end of the parent.

    Raises ConfigError on a bad spec, UnavailableError when the process cannot have what the spec names.
    """
    if kind not in KINDS:
        allowed = ", ".join(KINDS)
        raise ConfigError((Fault("lab process", repr(kind), allowed, "name one of these kinds"),))
    spec_type, run = KINDS[kind]
    spec = read_spec(spec_file, spec_type)
    process: Process = spec.process

    def ready(listen: str) -> None:
        _write_ready(Path(process.ready_file), listen)

    try:
        asyncio.run(_until_told(process, run(spec, clock_of(process.clock), wall, ready)))
    except OSError as error:
        raise UnavailableError(f"{kind} {process.name}: {error}") from error
    return 0


async def run_origin(spec: OriginSpec, clock: Clock, _: Clock, ready: Ready) -> None:
    """An origin until cancelled."""
    log, fault_log = LineLog(spec.request_log), _optional_log(spec.fault_log)
    origin = Origin(spec, clock, log)
    injector = Injector(spec.process.name, clock, spec.faults_file, fault_log)
    tls = Tls(server_context(spec.certificate)) if spec.certificate else None
    server = Server(spec.listen, origin.answer, injector, tls)
    try:
        server.follow()
        ready(server.listen)
        await server.run()
    finally:
        _close(log, fault_log)


async def run_cdn(spec: CdnSpec, clock: Clock, wall: Clock, ready: Ready) -> None:
    """An emulated CDN until cancelled."""
    fault_log = _optional_log(spec.fault_log)
    cdn = Cdn(spec, wall)
    injector = Injector(spec.process.name, clock, spec.faults_file, fault_log)
    expired = server_context(spec.expired_certificate) if spec.expired_certificate else None
    server = Server(spec.listen, cdn.answer, injector, Tls(server_context(spec.certificate), expired))
    try:
        server.follow()
        ready(server.listen)
        await server.run()
    finally:
        cdn.close()
        _close(fault_log)


KINDS: Final[dict[str, tuple[type[Any], Callable[..., Coroutine[Any, Any, None]]]]] = {
    "origin": (OriginSpec, run_origin),
    "cdn": (CdnSpec, run_cdn),
    "nameserver": (NameserverSpec, run_nameserver),
    "load": (LoadSpec, run_load),
}


async def _until_told(process: Process, work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` until it is done, or a signal or the end of standard input cancels it."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    if process.follow_stdin:
        await _follow_stdin(told)
    task = loop.create_task(work)
    waiting = loop.create_task(told.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class _Watch(asyncio.Protocol):
    """Tells when the pipe ends: its other end is held by the parent and by nobody else."""

    def __init__(self, told: asyncio.Event) -> None:
        self._told = told

    def connection_lost(self, _: Exception | None) -> None:
        self._told.set()


async def _follow_stdin(told: asyncio.Event) -> None:
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Watch(told), sys.stdin)


def _write_ready(path: Path, listen: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"pid": os.getpid(), "listen": listen}))
    fresh.replace(path)


def _optional_log(path: str | None) -> LineLog | None:
    return LineLog(path) if path else None


def _close(*logs: LineLog | None) -> None:
    for log in logs:
        if log is not None:
            log.close()
