"""One word to a Unix socket and its answer, as docs/engine-protocol.md says: one JSON object a line."""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from polycdn.errors import SurfaceError

LINE_BYTES_MAX: Final = 1024 * 1024
SOCKET_PATH_BYTES_MAX: Final = 107
"""unix(7): sun_path has 108 bytes with its final zero."""

DEADLINE_MS: Final = 2_000

Json = Any


async def call(socket: Path, word: dict[str, Json], deadline_ms: int = DEADLINE_MS) -> dict[str, Json]:
    """The answer to one word, `ok` checked. Raises SurfaceError: retryable if nobody answers in time."""
    return _granted(await ask(socket, word, deadline_ms))


async def ask(socket: Path, word: dict[str, Json], deadline_ms: int = DEADLINE_MS) -> dict[str, Json]:
    """The answer to one word, whether `ok` or not. Raises SurfaceError as `call`."""
    try:
        async with asyncio.timeout(deadline_ms / 1000):
            line = await _exchange(socket, json.dumps(word).encode() + b"\n")
    except TimeoutError:
        raise SurfaceError(f"{socket}: no answer within {deadline_ms} ms", is_retryable=True) from None
    except (OSError, asyncio.IncompleteReadError) as error:
        raise SurfaceError(f"{socket}: nobody answers ({_reason(error)})", is_retryable=True) from None
    except (asyncio.LimitOverrunError, ValueError):
        raise SurfaceError(
            f"{socket}: answer longer than {LINE_BYTES_MAX} bytes", is_retryable=False
        ) from None
    return _checked(socket, line)


async def _exchange(socket: Path, line: bytes) -> bytes:
    with short_path(socket) as path:
        reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
    try:
        writer.write(line)
        await writer.drain()
        return await reader.readuntil(b"\n")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _checked(socket: Path, line: bytes) -> dict[str, Json]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise SurfaceError(f"{socket}: the answer has no `ok`: not one of ours", is_retryable=False)
    return answer


def _granted(answer: dict[str, Json]) -> dict[str, Json]:
    if not answer["ok"]:
        raise SurfaceError(str(answer.get("error", "refused")), is_retryable=answer.get("retry") is True)
    return answer


def _reason(error: OSError | asyncio.IncompleteReadError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "the connection was closed"


@contextmanager
def short_path(socket: Path) -> Iterator[str]:
    """A name for the socket that fits into sockaddr_un, whatever the length of its folder's path."""
    if len(os.fsencode(socket)) <= SOCKET_PATH_BYTES_MAX:
        yield str(socket)
        return
    folder_fd = os.open(socket.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder_fd}/{socket.name}"
    finally:
        os.close(folder_fd)
