"""What each process of the lab is told: one JSON file, read once at its start (`model/wire.py` form)."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from polycdn.errors import ConfigError, Fault
from polycdn.lab.content import STANDARD, Content
from polycdn.model.settings import Certificate
from polycdn.model.topology import Endpoint
from polycdn.model.wire import WireError, canonical, from_json

SPEC_BYTES_MAX: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class Process:
    """What every process of the lab has.

    `clock` is the timeline (`wall`, or `script:START_MS,ZERO_MS,SPEED`). Once it serves, the process writes
    `ready_file`. With `follow_stdin` it ends when its standard input does: the parent is gone.
    """

    name: str
    clock: str
    ready_file: str
    follow_stdin: bool = False


@dataclass(frozen=True, slots=True)
class OriginSpec:
    """An origin. `certificate` None = plain HTTP. Origins that share `keys_dir` execute a key once in all."""

    process: Process
    listen: str
    request_log: str
    content: Content = STANDARD
    certificate: Certificate | None = None
    faults_file: str | None = None
    fault_log: str | None = None
    keys_dir: str | None = None


@dataclass(frozen=True, slots=True)
class CdnSpec:
    """An emulated CDN. The first healthy one of `origins` is asked."""

    process: Process
    listen: str
    origins: tuple[Endpoint, ...]
    certificate: Certificate
    expired_certificate: Certificate | None = None
    faults_file: str | None = None
    fault_log: str | None = None
    cache_bytes_max: int = 268_435_456


@dataclass(frozen=True, slots=True)
class Answer:
    """A name and what a nameserver of the lab says to it."""

    hostname: str
    addresses: tuple[str, ...]
    ttl_s: int = 60


@dataclass(frozen=True, slots=True)
class NameserverSpec:
    """An emulated DNS operator; UDP only."""

    process: Process
    listen: str
    answers: tuple[Answer, ...]
    faults_file: str | None = None
    fault_log: str | None = None


class Aim(StrEnum):
    """How a client of the lab learns whom to ask."""

    PINNED = "pinned"
    FILE = "file"
    DNS = "dns"


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests per 1 000 real seconds and kind."""

    chat_mrps: int = 2_000
    feed_get_mrps: int = 18_000
    feed_post_mrps: int = 3_000
    music_mrps: int = 6_000
    patch_mrps: int = 200


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One client population. It sends from `start_ms` until `stop_ms` of the timeline (0 = until SIGTERM).

    `address` is for PINNED, `target_file` for FILE (kept for `target_ttl_s` of timeline), `nameservers`
    (`address:port`) for DNS. `resolvers` independent caches stand for as many networks of users; resolver i
    asks with `subnets[i % len]`. Not more than `in_flight_max` requests are open at a time.
    """

    process: Process
    aim: Aim
    hostname: str
    port: int
    ca_file: str
    request_log: str
    content: Content = STANDARD
    rates: Rates = Rates()
    address: str | None = None
    target_file: str | None = None
    target_ttl_s: int = 60
    nameservers: tuple[str, ...] = ()
    resolvers: int = 8
    subnets: tuple[str, ...] = ()
    start_ms: int = 0
    stop_ms: int = 0
    seed: int = 1
    in_flight_max: int = 1_000


T = TypeVar("T")


def write_spec(path: Path, spec: object) -> None:
    """Writes a spec for `read_spec`."""
    path.write_bytes(canonical(spec))


def read_spec(path: Path, kind: type[T]) -> T:
    """The spec in a file; raises ConfigError when it is missing, too large or not of that kind."""
    try:
        if path.stat().st_size > SPEC_BYTES_MAX:
            raise WireError(f"larger than {SPEC_BYTES_MAX} bytes")
        return from_json(kind, json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        remedy = "see docs/lab.md for what a lab process is told"
        raise ConfigError((Fault(str(path), str(error), f"a {kind.__name__} as JSON", remedy),)) from None
