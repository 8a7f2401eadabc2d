"""Files that an operator names: read whole, if they are not too large."""

from collections.abc import Callable
from pathlib import Path

from polycdn.errors import ConfigError, Fault

FaultOf = Callable[[str, str], Fault]
"""The fault of a file, from its place and what was found there."""


def read_bounded(path: Path, bytes_max: int, fault_of: FaultOf) -> bytes:
    """The content of a file. Raises ConfigError if it cannot be read or has more than `bytes_max` bytes."""
    try:
        size = path.stat().st_size
        if size > bytes_max:
            raise ConfigError((fault_of(str(path), f"{size} bytes"),))
        return path.read_bytes()
    except OSError as error:
        raise ConfigError((fault_of(str(path), error.strerror or str(error)),)) from None
