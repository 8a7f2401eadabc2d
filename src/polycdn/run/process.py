"""Processes of the operating system: started, watched and ended by their identity, never by a number alone.

A pid is used again after its process is gone, so that a pid file keeps the start time beside it.
"""

import asyncio
import ctypes
import json
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from polycdn.errors import SurfaceError, UnavailableError
from polycdn.model.wire import WireError, canonical, from_json
from polycdn.surface.files import read_whole, write_whole

LOG_BYTES_MAX: Final = 16 * 1024 * 1024
START_TICKS_FIELD: Final = 19
"""proc(5): `starttime` is field 22; 19 counted from the state, which follows the name in parentheses."""
PR_SET_PDEATHSIG: Final = 1
LIBC: Final = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be taken for another: `start_ticks` is its start in clock ticks since boot."""

    pid: int
    start_ticks: int

    @property
    def is_alive(self) -> bool:
        """Whether that very process runs; one that ended and was not waited for does not."""
        return identity_of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if the process is still that one."""
        if self.is_alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def ended(self) -> None:
        """Returns once the process is gone."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.is_alive:
                await _readable(pidfd)
        finally:
            os.close(pidfd)

    async def end(self, patience_s: float, first: signal.Signals = signal.SIGTERM) -> None:
        """Asks it to end, and kills it if it has not by then."""
        self.send(first)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self.ended()
        if self.is_alive:
            self.send(signal.SIGKILL)
            await self.ended()


def identity_of(pid: int) -> Identity | None:
    """The process that has this pid now; None if there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] in ("Z", "X"):
        return None
    return Identity(pid, int(fields[START_TICKS_FIELD]))


def write_pid(file: Path, identity: Identity) -> None:
    """Keeps the identity for the next `up` and for `down`."""
    write_whole(file, canonical(identity))


def read_pid(file: Path) -> Identity | None:
    """The process that the file names, if it is alive."""
    try:
        content = read_whole(file)
        identity = None if content is None else from_json(Identity, json.loads(content))
    except (SurfaceError, WireError, ValueError):
        return None
    return identity if identity is not None and identity.is_alive else None


class Lasting(subprocess.Popen[bytes]):
    """A process that is meant to outlive us: letting go of it is no oversight."""

    def __del__(self) -> None:
        """Nothing, where Popen would warn that the process still runs."""


def spawn(
    argv: tuple[str, ...], log_file: Path, *, is_lasting: bool
) -> tuple[subprocess.Popen[bytes], Identity]:
    """Starts a process in a session of its own, so that Ctrl-C in our terminal is not meant for it.

    One that is not `is_lasting` gets SIGTERM when we die. Raises UnavailableError.
    """
    try:
        with _opened_log(log_file) as log:
            start = Lasting if is_lasting else subprocess.Popen[bytes]
            started = start(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=None if is_lasting else _die_with_parent,
            )
    except OSError as error:
        raise UnavailableError(f"cannot start {argv[0]}: {error.strerror}") from None
    identity = identity_of(started.pid)
    return started, identity or Identity(started.pid, 0)


def last_line(log_file: Path) -> str:
    """What the process said last, "" if nothing."""
    try:
        with log_file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4_096))
            lines = log.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _opened_log(log_file: Path) -> IO[bytes]:
    """The log at its end; one that has grown too large is kept as `.old`; nowhere if not writable."""
    with suppress(OSError):
        if log_file.stat().st_size > LOG_BYTES_MAX:
            log_file.replace(log_file.with_suffix(".old"))
    try:
        return log_file.open("ab")
    except OSError:  # a process without a log is better than none
        return Path(os.devnull).open("ab")


def _die_with_parent() -> None:
    """prctl(2): the kernel sends SIGTERM to this child when its parent dies, whatever it dies of."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    found = asyncio.Event()
    loop.add_reader(fd, found.set)
    try:
        await found.wait()
    finally:
        loop.remove_reader(fd)
