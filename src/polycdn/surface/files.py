"""Files that are there whole or not at all: temporary, fsync, rename, fsync of the folder."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from polycdn.errors import SurfaceError

FILE_BYTES_MAX: Final = 16 * 1024 * 1024
"""As in docs/engine-protocol.md; checked before a file is parsed and before one is written."""


def write_whole(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces `file`; readers see the old content or the new. Raises SurfaceError, retryable."""
    if len(content) > FILE_BYTES_MAX:
        raise SurfaceError(f"{file}: {len(content)} bytes, limit {FILE_BYTES_MAX}", is_retryable=False)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_temporary(temporary, content, mode)
        temporary.replace(file)
        _fsync_folder(file.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise SurfaceError(f"{file}: cannot be written: {error.strerror}", is_retryable=True) from None


def read_whole(file: Path) -> bytes | None:
    """The content, None if there is no such file. Raises SurfaceError when too large or unreadable."""
    try:
        with file.open("rb") as opened:
            content = opened.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SurfaceError(f"{file}: cannot be read: {error.strerror}", is_retryable=True) from None
    if len(content) > FILE_BYTES_MAX:
        raise SurfaceError(f"{file}: larger than the limit of {FILE_BYTES_MAX} bytes", is_retryable=False)
    return content


def _write_temporary(temporary: Path, content: bytes, mode: int) -> None:
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
