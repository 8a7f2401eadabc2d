"""What a rehearsal tells while it runs, and what it leaves behind."""

from dataclasses import dataclass

from polycdn.lab.reader import KindFigures


@dataclass(frozen=True, slots=True)
class ClientTotal:
    """All kinds of one client together."""

    client: str
    attempts: int
    failed: int
    failed_bp: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of a running rehearsal. `at_ms` counts from the start of the incident, and may be negative."""

    at_ms: int
    until_ms: int
    generation: int
    ttl_s: int
    verdicts: tuple[tuple[str, str, int], ...]
    """(provider, status, alarm_bp)"""
    shares: tuple[tuple[str, int], ...]
    clients: tuple[tuple[str, int, int, int], ...]
    """(client, attempts, failed, failed share of the last seconds in basis points)"""
    decisions: tuple[tuple[int, str], ...]
    phase: str = ""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The whole result. Times are timeline milliseconds from the start of the incident.

    `detect_ms`: from the first fault to the verdict DOWN on that provider; None if it never came.
    `evacuated_ms`: from the first fault to the last first byte sent to the sick provider by a client that
    obeys TTL; None if it was never left. `expected_single_bp` is computed from the timeline alone.
    `probe_lag_ms_p99` above the probe interval makes the run invalid; `load_late_ms_p99` is how late requests
    left, in real time. `kind` is that of the company that failed; `shows` says what was made to fail.
    """

    incident: str
    title: str
    speed: int
    seed: int
    until_ms: int
    clients: tuple[KindFigures, ...]
    totals: tuple[ClientTotal, ...]
    expected_single_bp: int
    detect_ms: int | None
    evacuated_ms: int | None
    plan_changes: int
    false_moves: int
    generation: int
    providers: tuple[str, ...]
    failures: tuple[tuple[str, tuple[tuple[int, int, int], ...]], ...]
    """(client, ((bucket start, attempts, failed), ...))"""
    shares: tuple[tuple[int, tuple[tuple[str, int], ...]], ...]
    verdicts: tuple[tuple[str, tuple[tuple[int, str], ...]], ...]
    decisions: tuple[tuple[int, str], ...]
    simulated_bp: tuple[tuple[str, int], ...]
    """(client, failed share in basis points) of the same span in the simulated world"""
    executed_twice: int
    probe_lag_ms_p99: int
    load_late_ms_p99: int
    is_valid: bool
    invalid_why: str = ""
    kind: str = "cdn"
    shows: str = ""

    def total(self, client: str) -> ClientTotal:
        """The total of one client. Raises KeyError if it took no part."""
        for total in self.totals:
            if total.client == client:
                return total
        raise KeyError(client)
