"""Runs an engine in this process. The only file that loads the Rust half; it imports next to nothing else.

`python -m polycdn.run.engine dns FILE` does what `polycdn dns --engine-config FILE` does.
"""

import sys

from polycdn import _native
from polycdn.errors import ConfigError, Fault, PolycdnError, UnavailableError

CONFIG_BYTES_MAX = 1_048_576


def run_engine(role: str, config_file: str) -> int:
    """Exit code of the engine `edge` or `dns` after it was told to stop.

    `config_file` holds JSON as in docs/engine-protocol.md, section Start. Raises ConfigError if it is wrong,
    and UnavailableError if the system refuses something or the engine broke; its plans stay on disk.
    """
    config = _read(config_file)
    try:
        return _native.run_edge(config) if role == "edge" else _native.run_dns(config)
    except ValueError as error:
        raise _fault(config_file, str(error)) from None
    except (OSError, RuntimeError) as error:
        raise UnavailableError(f"{role}: {error}") from None


def _read(config_file: str) -> bytes:
    try:
        with open(config_file, "rb") as file:  # noqa: PTH123 (pathlib costs more time than the rest of this file)
            config = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise _fault(config_file, error.strerror or str(error)) from None
    if len(config) > CONFIG_BYTES_MAX:
        raise _fault(config_file, f"more than {CONFIG_BYTES_MAX} bytes")
    return config


def _fault(config_file: str, found: str) -> ConfigError:
    allowed = "JSON as in docs/engine-protocol.md, section Start"
    return ConfigError((Fault(config_file, found, allowed, "mend the file; nothing was started"),))


if __name__ == "__main__":
    try:
        sys.exit(run_engine(sys.argv[1], sys.argv[2]))
    except PolycdnError as error:
        print(f"polycdn: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
