"""What a decider process is told: one JSON file, written by `up` or a rehearsal, read by `live`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from polycdn.errors import ConfigError, Fault
from polycdn.model.policy import Policy
from polycdn.model.settings import Settings, Zone
from polycdn.model.topology import Service
from polycdn.model.wire import from_json

SPEC_FORMAT: Final = "polycdn/decider/1"
SPEC_BYTES_MAX: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Steered:
    """A service and its policy."""

    service: Service
    policy: Policy


@dataclass(frozen=True, slots=True)
class EngineLink:
    """An engine: its folder `<state>/engines/<name>`, its socket, and what it needs of each service.

    `role` is `edge` or `dns`.
    """

    name: str
    folder: str
    socket: str
    settings: tuple[Settings, ...]
    role: str = "edge"


@dataclass(frozen=True, slots=True)
class SurfaceLink:
    """A surface that is no engine: a memory, zonefile or feed. `path` is a zone file or a feed's folder."""

    name: str
    kind: str
    settings: tuple[Settings, ...]
    path: str = ""
    listen: str = ""
    zone: Zone | None = None


@dataclass(frozen=True, slots=True)
class TrustedVantage:
    """A vantage whose reports are taken when they are signed with the key in `key_file`."""

    name: str
    key_file: str


@dataclass(frozen=True, slots=True)
class DeciderSpec:
    """Everything a decider needs.

    Observations are heard on the address `observations_listen` and on the Unix socket `observations_socket`
    ("" = not there). `socket` is the operator's. Once all is bound, `ready_file` says where, as JSON:
    `{"pid", "observations", "feeds"}`. `round_ms` 0 = the shortest probe interval, on the wall at most 1 s.
    Demand is measured over `demand_window_ms` of real time.
    """

    services: tuple[Steered, ...]
    journal_dir: str
    socket: str
    engines: tuple[EngineLink, ...] = ()
    surfaces: tuple[SurfaceLink, ...] = ()
    vantages: tuple[TrustedVantage, ...] = ()
    observations_listen: str = ""
    observations_socket: str = ""
    ready_file: str = ""
    clock: str = "wall"
    is_shadow: bool = False
    round_ms: int = 0
    demand_window_ms: int = 30_000
    format: str = SPEC_FORMAT


def read_decider_spec(file: str) -> DeciderSpec:
    """The spec in a file. Raises ConfigError when it is missing, too large or not a spec."""
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(SPEC_BYTES_MAX + 1)
        if len(content) > SPEC_BYTES_MAX:
            raise _mistake(file, f"more than {SPEC_BYTES_MAX} bytes")
        spec = from_json(DeciderSpec, json.loads(content))
    except OSError as error:
        raise _mistake(file, error.strerror or str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _mistake(file, str(error)) from None
    if spec.format != SPEC_FORMAT:
        raise _mistake(file, f"format {spec.format!r}")
    return spec


def _mistake(file: str, found: str) -> ConfigError:
    return ConfigError(
        (Fault(file, found, f"a JSON object of the format {SPEC_FORMAT}", "let `up` write it"),)
    )
