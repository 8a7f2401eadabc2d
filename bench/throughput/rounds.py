"""Rounds of a row: each goes once round all servers, so that a ratio compares the same few seconds."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from throughput.checks import Origin, fault
from throughput.figures import Measure, cpu_figure, faults
from throughput.load import Client, missing
from throughput.peers import Target
from throughput.rows import STORM_CLIENTS, Kind, Row, Tool
from throughput.scene import Scene
from throughput.serving import Running, StartError, running

NO_HEADERS = "needs OpenSSL's headers (on Debian: apt-get install libssl-dev)"


@dataclass(frozen=True)
class Server:
    """A target that runs: the paths of its programs, its own origin, its memory right after the start."""

    target: Target
    paths: tuple[str, ...]
    origin: Origin
    running: Running
    idle_mib: float


@dataclass(frozen=True)
class Bench:
    """What a measure needs besides the server."""

    scene: Scene
    client: Client
    server_cpu: int


@dataclass
class Found:
    """What a run has found so far: row -> target -> a measure a round, or why there are none."""

    measures: dict[str, dict[str, list[Measure]]] = field(default_factory=dict)
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)

    def skip(self, row: str, target: str, why: str) -> None:
        """Notes and tells why a target has no measures in a row."""
        self.skipped.setdefault(row, {})[target] = why
        say(f"{row}: {target} is left out: {why}")


def say(text: str) -> None:
    """A line of progress."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def go_round(bench: Bench, row: Row, servers: Sequence[Server], rounds: int, found: Found) -> None:
    """All rounds of one row into `found`, every second one backwards; checked before and after."""
    able = _able(bench, row, servers, found)
    if not able:
        return
    measures: dict[str, list[Measure]] = {server.target.name: [] for server in able}
    for number in range(rounds):
        for server in able[:: -1 if number % 2 else 1]:
            measures[server.target.name].append(_measured(bench, row, server, number))
    for server in able:
        all_ = measures[server.target.name]
        if why := fault(row, server.running, server.origin):
            all_[-1] = replace(all_[-1], faults=(*all_[-1].faults, f"after the rounds: {why}"))
        figures = " ".join("-" if one.figure is None else f"{one.figure:.3g}" for one in all_)
        say(f"{row.name}: {server.target.name} {figures} {row.unit} {'; '.join(faults(all_))}".strip())
    found.measures[row.name] = measures


def _able(bench: Bench, row: Row, servers: Sequence[Server], found: Found) -> list[Server]:
    """The servers that can be measured in the row; the others are noted with the reason."""
    needs_headers = row.is_tls and not bench.scene.has_tls
    if why := missing(row.tool) or (NO_HEADERS if needs_headers and row.tool is Tool.PULL else None):
        found.skip(row.name, "all", why)
        return []
    able = []
    for server in servers:
        is_floor = not server.target.programs
        why = NO_HEADERS if needs_headers and is_floor else server.target.cannot.get(row.name)
        if why := why or fault(row, server.running, server.origin):
            found.skip(row.name, server.target.name, why)
        else:
            able.append(server)
    return able


def _measured(bench: Bench, row: Row, server: Server, number: int) -> Measure:
    try:
        if row.kind is Kind.COLD_START:
            return _cold_start(bench, server)
        if row.kind is Kind.MEMORY:
            return Measure(server.idle_mib, extra=server.running.resident_kib() / 1024)
        return _burst(bench, row, server, number)
    except (OSError, StartError) as error:
        return Measure(None, faults=(f"{type(error).__name__}: {error}",))


def _cold_start(bench: Bench, server: Server) -> Measure:
    """A fresh server on ports of its own."""
    site = bench.scene.site(server.target.name, server.origin.port)
    setup = server.target.setup(site, server.paths)
    with running(site, setup, bench.server_cpu, with_beside=False) as fresh:
        return Measure(round(fresh.start_ms, 2))


def _burst(bench: Bench, row: Row, server: Server, number: int) -> Measure:
    """Server CPU of one burst, and latencies as the client saw them."""
    path = f"{row.path}{number}" if row.kind is Kind.STORM else row.path
    asked_before, port = server.origin.asked(row.path), server.running.port(row.name, row.is_tls)
    burst = bench.client.burst(row, port, path, server.running.cpu_ns)
    asked = server.origin.asked(row.path) - asked_before
    found = (*burst.faults, *doubts(row.kind, burst.requests, asked))
    rate = round(burst.requests / burst.seconds, 1)
    if row.kind is Kind.STORM:
        return Measure(burst.worst_ms, rate, burst.p50_ms, burst.p99_ms, asked, found)
    figure = cpu_figure(row.unit, burst.cpu_ns, burst.requests, burst.body_bytes)
    return Measure(figure, rate, burst.p50_ms, burst.p99_ms, None, found)


def doubts(kind: Kind, requests: int, asked: int) -> tuple[str, ...]:
    """Sentences when so many requests at the origin do not fit so many answers to the client."""
    if kind is Kind.HIT and asked:
        return (f"not all were hits: the origin saw {asked} requests",)
    if kind is Kind.MISS and asked < requests:
        return (f"not all were misses: the origin saw {asked} of {requests} requests",)
    if kind is Kind.STORM and requests != STORM_CLIENTS:
        return (f"{requests} of {STORM_CLIENTS} clients were served",)
    return ()
