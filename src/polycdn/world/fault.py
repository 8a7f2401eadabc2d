"""What one outage does to one provider, at any moment and in any region."""

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Final

from polycdn.incidents import FaultKind, Incident, Kind, Until, Window, is_faulty_at, windows
from polycdn.model.observation import Reason

REASONS: Final = {
    FaultKind.HTTP_5XX: Reason.HTTP_5XX,
    FaultKind.CONNECT_REFUSED: Reason.REFUSED,
    FaultKind.TIMEOUT: Reason.TIMEOUT,
    FaultKind.DNS_SERVFAIL: Reason.DNS_SERVFAIL,
    FaultKind.DNS_EMPTY: Reason.DNS_EMPTY,
    FaultKind.TLS_FAILURE: Reason.TLS,
    FaultKind.FLAP: Reason.HTTP_5XX,
}


@dataclass(frozen=True, slots=True)
class Moment:
    """What users of the provider meet in one stretch of time. Shares are parts per million."""

    failed_ppm: int
    slow_ppm: int
    is_faulty: bool
    reason: Reason

    @property
    def is_late(self) -> bool:
        """Whether a failure costs the waiting time of a deadline before anything else can be tried."""
        return self.reason is Reason.TIMEOUT


CALM: Final = Moment(0, 0, False, Reason.OK)


class Injection:
    """An outage at one provider: which moment it is, and when the next one begins."""

    def __init__(self, incident: Incident, kind: Kind, provider: str, regions: tuple[str, ...]) -> None:
        self.incident = incident
        self.kind = kind
        self.provider = provider
        self._moments = {region: _moments(incident, kind, region) for region in regions}
        self._mean = _moments(incident, kind, None)
        edges = {start for starts, _ in [*self._moments.values(), self._mean] for start in starts}
        self.edges_ms = tuple(sorted(edges))

    def at(self, offset_ms: int, region: str | None = None) -> Moment:
        """What users of `region` meet; None, or a region that is not the service's, = the mean."""
        starts, moments = self._moments.get(region or "", self._mean)
        index = bisect_right(starts, offset_ms) - 1
        return moments[index] if index >= 0 else CALM

    def next_edge_ms(self, offset_ms: int, otherwise_ms: int) -> int:
        """The first moment after `offset_ms` at which the effect changes anywhere."""
        index = bisect_right(self.edges_ms, offset_ms)
        return self.edges_ms[index] if index < len(self.edges_ms) else otherwise_ms

    def is_anywhere(self, offset_ms: int) -> bool:
        """Whether a failing phase runs in any region."""
        return any(self.at(offset_ms, region).is_faulty for region in self._moments)

    def first_fault_ms(self) -> int | None:
        """When the first user fails, None if nobody ever does."""
        starts = [
            start
            for begins, moments in self._moments.values()
            for start, moment in zip(begins, moments, strict=True)
            if moment.failed_ppm
        ]
        return min(starts, default=None)


def only(incident: Incident, fault: FaultKind) -> Incident:
    """The outage with no other phases than those of one fault."""
    return replace(incident, phases=tuple(phase for phase in incident.phases if phase.fault is fault))


def _moments(
    incident: Incident, kind: Kind, region: str | None
) -> tuple[tuple[int, ...], tuple[Moment, ...]]:
    """Starts and moments; the last one, from the all-clear on, is calm."""
    if kind not in incident.kinds or not incident.phases:
        return (0,), (CALM,)
    told = windows(incident, Until.RESOLVED, kind, region)
    moments = tuple(_moment(incident, kind, region, window) for window in told)
    return (*(window.start_ms for window in told), told[-1].end_ms), (*moments, CALM)


def _moment(incident: Incident, kind: Kind, region: str | None, window: Window) -> Moment:
    reasons = [
        REASONS[phase.fault]
        for phase in incident.phases
        if phase.fault in REASONS and phase.hits(kind) and phase.offset_ms <= window.start_ms < phase.end_ms
    ]
    faulty = is_faulty_at(incident, window.start_ms, kind, region)
    return Moment(window.failed_ppm, window.slow_ppm, faulty, reasons[0] if reasons else Reason.OK)
