"""Starlette applications on sockets, inside a process that has its own signals and its own loop."""

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette

from polycdn.errors import UnavailableError
from polycdn.surface.control import short_path

CONNECTIONS_MAX: Final = 8_192
STOP_S_MAX: Final = 2


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Site:
    """One application on sockets that are bound already."""

    def __init__(
        self, app: Starlette, sockets: Sequence[socket.socket], connections_max: int = CONNECTIONS_MAX
    ) -> None:
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=connections_max,
            timeout_graceful_shutdown=STOP_S_MAX,
        )
        self._server = _Server(config)
        self._sockets = list(sockets)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serves from now on."""
        self._task = asyncio.create_task(self._server.serve(sockets=self._sockets))

    async def stop(self) -> None:
        """Finishes what is under way, then closes the sockets."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        for one in self._sockets:
            one.close()


def bind_tcp(listen: str) -> socket.socket:
    """A listening socket on `127.0.0.1:8460` or `[::1]:8460`; port 0 = any. Raises UnavailableError."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, int(port)))
        bound.listen(1_024)
    except OSError as error:
        bound.close()
        raise UnavailableError(f"cannot listen on {listen}: {error.strerror}") from None
    return bound


def bind_unix(path: Path) -> socket.socket:
    """A listening Unix socket of mode 0600 in place of whatever lay there. Raises UnavailableError."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            with short_path(path) as name:
                bound.bind(name)
        finally:
            os.umask(before)
        bound.listen(1_024)
    except OSError as error:
        bound.close()
        raise UnavailableError(f"cannot listen on {path}: {error.strerror}") from None
    return bound


def address_of(bound: socket.socket) -> str:
    """`127.0.0.1:8460` as really bound."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
