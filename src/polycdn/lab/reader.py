"""The separate reader: every figure of a rehearsal again, from the logs of clients, origins and faults alone.

It knows nothing of plans and verdicts, so that what is printed does not rest on the word of who decided.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from polycdn.model.observation import Reason
from polycdn.model.units import FULL_BP


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a client. `at_ms` is timeline; first byte, total and lateness are real time."""

    at_ms: int
    client: str
    kind: str
    key: str
    target: str
    reason: Reason
    first_byte_ms: int
    total_ms: int
    body_bytes: int
    late_ms: int

    @property
    def is_ok(self) -> bool:
        """Whether the client got what it asked for."""
        return self.reason is Reason.OK

    @property
    def was_sent(self) -> bool:
        """False for a request that the client could not send for its own bound on open requests."""
        return self.reason is not Reason.BLIND


@dataclass(frozen=True, slots=True)
class KindFigures:
    """What one client saw of one kind. `worst_ms` is the longest any attempt took, good or bad (real time).

    `longest_outage_s` is timeline: the longest span from the first to the last failure of a run of failures
    without a success between them.
    """

    client: str
    kind: str
    attempts: int
    failed: int
    failed_bp: int
    worst_ms: int
    longest_outage_s: int


@dataclass(frozen=True, slots=True)
class Applied:
    """How often a kind of fault was applied at one provider, and when first and last (timeline)."""

    provider: str
    kind: str
    times: int
    first_ms: int
    last_ms: int


def read_lines(paths: Iterable[Path]) -> tuple[Line, ...]:
    """All requests of these logs in order of their start; a torn last line is left out."""
    found = [_line(raw) for path in paths for raw in _objects(path.read_bytes())]
    return tuple(sorted(found, key=lambda line: (line.at_ms, line.key, line.kind)))


def kind_figures(lines: Sequence[Line]) -> tuple[KindFigures, ...]:
    """Figures of each (client, kind), sorted; what was not sent is no attempt."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        if line.was_sent:
            groups.setdefault((line.client, line.kind), []).append(line)
    return tuple(_figures(client, kind, group) for (client, kind), group in sorted(groups.items()))


def not_sent(lines: Sequence[Line]) -> int:
    """How many requests were due but not sent: above 0 the load was not what it says."""
    return sum(not line.was_sent for line in lines)


def late_ms_p99(lines: Sequence[Line]) -> int:
    """How late requests were sent, real time; above a second the machine was too small for the load."""
    late = sorted(line.late_ms for line in lines)
    return late[len(late) * 99 // 100] if late else 0


def evacuated_ms(
    lines: Sequence[Line],
    clients: Iterable[str],
    addresses: Iterable[str],
    from_ms: int,
    quiet_ms: int = 120_000,
) -> int | None:
    """Timeline from the fault at `from_ms` to the last request sent to the sick provider before it was left.

    `clients` are those that obey TTL. Left means that for `quiet_ms` none of them sent it anything: what
    comes later came back on purpose. None if the log ends before that much quiet was seen.
    """
    heeded, sick = frozenset(clients), frozenset(addresses)
    heard = [line for line in lines if line.client in heeded and line.at_ms >= from_ms and line.was_sent]
    last_ms = from_ms
    for at_ms in sorted(line.at_ms for line in heard if line.target in sick):
        if at_ms - last_ms >= quiet_ms:
            break
        last_ms = at_ms
    end_ms = max((line.at_ms for line in heard), default=from_ms)
    return last_ms - from_ms if end_ms - last_ms >= quiet_ms else None


def failures_over_time(
    lines: Sequence[Line], bucket_ms: int
) -> tuple[tuple[str, tuple[tuple[int, int, int], ...]], ...]:
    """(client, ((bucket's start, attempts, failed), ...)) on the timeline; empty buckets are left out."""
    attempts: Counter[tuple[str, int]] = Counter()
    failed: Counter[tuple[str, int]] = Counter()
    for line in lines:
        if line.was_sent:
            bucket = (line.client, line.at_ms // bucket_ms * bucket_ms)
            attempts[bucket] += 1
            failed[bucket] += not line.is_ok
    return tuple(
        (client, tuple((bucket[1], attempts[bucket], failed[bucket]) for bucket in buckets))
        for client, buckets in groupby(sorted(attempts), key=lambda bucket: bucket[0])
    )


def executed_twice(origin_logs: Iterable[Path]) -> tuple[tuple[str, int], ...]:
    """(POST key, executions) of each key that was executed more than once, over all origins."""
    executions = Counter(
        str(raw["key"]) for path in origin_logs for raw in _objects(path.read_bytes()) if raw["executed"]
    )
    return tuple(sorted((key, times) for key, times in executions.items() if times > 1))


def faults_applied(fault_logs: Iterable[Path]) -> tuple[Applied, ...]:
    """What was really injected, by provider and kind, sorted."""
    moments: dict[tuple[str, str], list[int]] = {}
    for path in fault_logs:
        for raw in _objects(path.read_bytes()):
            if "kind" in raw:
                moments.setdefault((raw["provider"], raw["kind"]), []).append(raw["at_ms"])
    return tuple(
        Applied(provider, kind, len(at), min(at), max(at)) for (provider, kind), at in sorted(moments.items())
    )


class Follower:
    """Reads logs while they grow; for a live view."""

    def __init__(self) -> None:
        self._offsets: dict[Path, int] = {}

    def fresh(self, paths: Iterable[Path]) -> tuple[Line, ...]:
        """The requests that were logged since the last call, file by file."""
        return tuple(line for path in paths for line in self._fresh(path))

    def _fresh(self, path: Path) -> Iterator[Line]:
        with path.open("rb") as log:
            log.seek(self._offsets.get(path, 0))
            raw = log.read()
        whole = raw[: raw.rfind(b"\n") + 1]
        self._offsets[path] = self._offsets.get(path, 0) + len(whole)
        return (_line(each) for each in _objects(whole))


def _figures(client: str, kind: str, lines: Sequence[Line]) -> KindFigures:
    failed = sum(not line.is_ok for line in lines)
    return KindFigures(
        client,
        kind,
        attempts=len(lines),
        failed=failed,
        failed_bp=(failed * FULL_BP + len(lines) // 2) // len(lines),
        worst_ms=max(line.total_ms for line in lines),
        longest_outage_s=_longest_outage_ms(lines) // 1000,
    )


def _longest_outage_ms(lines: Sequence[Line]) -> int:
    longest_ms = 0
    in_order = sorted(lines, key=lambda line: line.at_ms)
    for is_ok, run in groupby(in_order, key=lambda line: line.is_ok):
        if not is_ok:
            starts = [line.at_ms for line in run]
            longest_ms = max(longest_ms, starts[-1] - starts[0])
    return longest_ms


def _objects(raw: bytes) -> Iterator[dict[str, Any]]:
    """The whole lines of a log. One that is torn can only be the last, and has no end of line."""
    return (json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines())


def _line(raw: dict[str, Any]) -> Line:
    return Line(
        raw["at_ms"],
        raw["client"],
        raw["kind"],
        raw["key"],
        raw["target"],
        Reason(raw["reason"]),
        raw["first_byte_ms"],
        raw["total_ms"],
        raw["bytes"],
        raw["late_ms"],
    )
