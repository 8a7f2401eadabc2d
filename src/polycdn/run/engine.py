"""Runs an engine in this process. The only file that loads the Rust half.

It imports nothing else before the engine runs: restarts wait for it, and what is imported stays in memory for
the engine's whole life. `python -m polycdn.run.engine dns FILE` does what `polycdn dns --engine-config FILE`
does.
"""

import sys

from polycdn import _native

TYPE_CHECKING = False
"""Type checkers take it for true; importing it from `typing` would double the time to start."""

if TYPE_CHECKING:
    from polycdn.errors import ConfigError, UnavailableError

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
        raise _unavailable(f"{role}: {error}") from None


def _read(config_file: str) -> bytes:
    try:
        with open(config_file, "rb") as file:  # noqa: PTH123 (pathlib costs more time than the rest of this file)
            config = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise _fault(config_file, error.strerror or str(error)) from None
    if len(config) > CONFIG_BYTES_MAX:
        raise _fault(config_file, f"more than {CONFIG_BYTES_MAX} bytes")
    return config


def _fault(config_file: str, found: str) -> "ConfigError":
    from polycdn.errors import ConfigError, Fault

    allowed = "JSON as in docs/engine-protocol.md, section Start"
    return ConfigError((Fault(config_file, found, allowed, "mend the file; nothing was started"),))


def _unavailable(message: str) -> "UnavailableError":
    from polycdn.errors import UnavailableError

    return UnavailableError(message)


def main(role: str, config_file: str) -> int:
    """Exit code, with the failures that are expected told in one line on standard error."""
    from polycdn.errors import PolycdnError

    try:
        return run_engine(role, config_file)
    except PolycdnError as error:
        print(f"polycdn: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
