"""Where everything of one state directory lies; `up` and the operator's commands agree by this file.

<state>/journal/                 the journal
<state>/engines/<engine>/...     plans and settings (docs/engine-protocol.md)
<state>/feeds/<surface>/         the plan that a feed serves
<state>/keys/<vantage>.key       secrets made by `up`, mode 0600
<state>/run/                     specs, pid files, sockets, up.lock
<state>/log/<process>.log        what each process says
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from polycdn.errors import UnavailableError
from polycdn.surface.control import SOCKET_PATH_BYTES_MAX

LONGEST_SOCKET_NAME: Final = 72
"""A name of 63 characters, `engine-` and `.sock` with room: sockets lie elsewhere if that does not fit."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths under one state directory."""

    state: Path

    @property
    def journal(self) -> Path:
        return self.state / "journal"

    @property
    def run(self) -> Path:
        return self.state / "run"

    @property
    def sockets(self) -> Path:
        """`<state>/run`, or a folder of ours in /tmp when that path is too long for a Unix socket."""
        if len(os.fsencode(self.run)) + 1 + LONGEST_SOCKET_NAME <= SOCKET_PATH_BYTES_MAX:
            return self.run
        name = hashlib.sha256(os.fsencode(self.state.absolute())).hexdigest()[:16]
        return Path(f"/tmp/polycdn-{os.geteuid()}-{name}")

    @property
    def decider_socket(self) -> Path:
        return self.sockets / "decider.sock"

    @property
    def observations_socket(self) -> Path:
        return self.sockets / "observations.sock"

    @property
    def ready_file(self) -> Path:
        return self.run / "decider.ready.json"

    def engine_folder(self, engine: str) -> Path:
        return self.state / "engines" / engine

    def engine_socket(self, engine: str) -> Path:
        return self.sockets / f"engine-{engine}.sock"

    def spec_file(self, process: str) -> Path:
        return self.run / f"{process}.json"

    def pid_file(self, process: str) -> Path:
        return self.run / f"{process}.pid"

    def log_file(self, process: str) -> Path:
        return self.state / "log" / f"{process}.log"

    def key_file(self, vantage: str) -> Path:
        return self.state / "keys" / f"{vantage}.key"

    def admin_token_file(self, engine: str) -> Path:
        return self.state / "keys" / f"admin-{engine}.token"

    def feed_folder(self, surface: str) -> Path:
        return self.state / "feeds" / surface

    def make(self) -> None:
        """Makes the folders, readable by nobody else. Raises UnavailableError."""
        try:
            for folder in (self.state, self.run, self.state / "log", self.state / "keys"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.sockets.mkdir(mode=0o700, exist_ok=True)
            found = self.sockets.lstat()
        except OSError as error:
            raise UnavailableError(
                f"{self.state}: cannot be used as state directory: {error.strerror}"
            ) from None
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise UnavailableError(f"{self.sockets} is not a folder of ours; remove it")
