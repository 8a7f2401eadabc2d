"""What share of the requests fails at one moment of an outage. Pure; offsets are milliseconds from its start.

Phases that overlap are combined as independent causes: a request is good if no phase takes it. Disjoint
scopes at the small shares that the files have differ from that by less than the shares are known.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from polycdn.incidents.incident import (
    FLAP_PERIOD_MS,
    MILLION_PPM,
    Effect,
    FaultKind,
    Incident,
    Kind,
    Phase,
    Until,
)
from polycdn.incidents.regions import TRAFFIC_BP, traffic_bp
from polycdn.model.units import FULL_BP


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time in which the effect of an outage does not change."""

    start_ms: int
    end_ms: int
    failed_ppm: int
    slow_ppm: int


def share_ppm_at(
    incident: Incident, offset_ms: int, kind: Kind | None = None, region: str | None = None
) -> int:
    """Share of the requests through the provider that fail at `offset_ms`, in parts per million.

    `region` None = the mean over all of the provider's traffic. `kind` None = the worst of the kinds;
    for a kind that the incident does not have the share is 0.
    """
    return _worst(incident, offset_ms, kind, region, is_slow=False)


def slow_ppm_at(
    incident: Incident, offset_ms: int, kind: Kind | None = None, region: str | None = None
) -> int:
    """Like `share_ppm_at`, of requests that are answered, but slowly."""
    return _worst(incident, offset_ms, kind, region, is_slow=True)


def is_faulty_at(
    incident: Incident, offset_ms: int, kind: Kind | None = None, region: str | None = None
) -> bool:
    """Whether a failing phase runs; the good half of a flap is no cure, so it counts as faulty."""
    return any(
        phase.fault is not FaultKind.SLOW
        and phase.offset_ms <= offset_ms < phase.end_ms
        and _mean_ppm(phase, region) > 0
        for each in _kinds(incident, kind)
        for phase in incident.phases
        if phase.hits(each)
    )


def until_ms(incident: Incident, until: Until | str) -> int:
    """Milliseconds from the start until the outage was mitigated, or resolved."""
    end_ms = incident.mitigated_ms if Until(until) is Until.MITIGATED else incident.resolved_ms
    return end_ms - incident.started_ms


def windows(
    incident: Incident,
    until: Until | str = Until.RESOLVED,
    kind: Kind | None = None,
    region: str | None = None,
) -> tuple[Window, ...]:
    """The whole time from the start to `until` as windows of constant effect, in order, without gaps.

    A new window begins where a phase begins or ends and where a flap turns, also if the shares stay the same.
    """
    end_ms = until_ms(incident, until)
    edges = sorted({0, end_ms, *(edge for edge in _edges(incident.phases) if 0 < edge < end_ms)})
    return tuple(
        Window(
            start,
            end,
            share_ppm_at(incident, start, kind, region),
            slow_ppm_at(incident, start, kind, region),
        )
        for start, end in pairwise(edges)
    )


def expected_failed_bp(
    incident: Incident,
    until: Until | str = Until.MITIGATED,
    kind: Kind | None = None,
    region: str | None = None,
) -> int:
    """Share of a client's requests that fail if it stays with the provider and asks evenly until `until`."""
    told = windows(incident, until, kind, region)
    failed = sum((window.end_ms - window.start_ms) * window.failed_ppm for window in told)
    whole = sum(window.end_ms - window.start_ms for window in told) * MILLION_PPM
    return (failed * FULL_BP + whole // 2) // whole if whole else 0


def in_scope(incident: Incident) -> Incident:
    """The outage as a customer sees it who is inside every scope that is not a place of users."""
    return replace(
        incident,
        phases=tuple(
            phase if phase.regions else replace(phase, reach_bp=FULL_BP) for phase in incident.phases
        ),
    )


def _worst(
    incident: Incident, offset_ms: int, kind: Kind | None, region: str | None, *, is_slow: bool
) -> int:
    return max(
        (_combined(incident, offset_ms, each, region, is_slow) for each in _kinds(incident, kind)), default=0
    )


def _kinds(incident: Incident, kind: Kind | None) -> tuple[Kind, ...]:
    if kind is None:
        return incident.kinds
    return (kind,) if kind in incident.kinds else ()


def _combined(incident: Incident, offset_ms: int, kind: Kind, region: str | None, is_slow: bool) -> int:
    good_ppm = MILLION_PPM
    for phase in incident.phases:
        runs = phase.offset_ms <= offset_ms < phase.end_ms and phase.hits(kind)
        if runs and (phase.fault is FaultKind.SLOW) is is_slow:
            good_ppm = good_ppm * (MILLION_PPM - _now_ppm(phase, offset_ms, region)) // MILLION_PPM
    return MILLION_PPM - good_ppm


def _now_ppm(phase: Phase, offset_ms: int, region: str | None) -> int:
    """The phase's share at one moment: a flap has twice its share in the first half of a period, then none.

    Twice the share is that of the requests in scope, so it is capped before the reach is applied.
    """
    if phase.fault is not FaultKind.FLAP:
        return _mean_ppm(phase, region)
    period_ms = phase.period_ms or FLAP_PERIOD_MS
    if (offset_ms - phase.offset_ms) % period_ms >= period_ms // 2:
        return 0
    return _mean_ppm(replace(phase, share_ppm=min(MILLION_PPM, 2 * phase.share_ppm)), region)


@lru_cache(maxsize=4096)
def _mean_ppm(phase: Phase, region: str | None) -> int:
    """Share of one region's requests that the phase takes, its flapping aside.

    A region that the vocabulary does not know is taken as average. Of the regions that are hit each has
    the share at which all of them together make up share x reach.
    """
    everywhere_ppm = phase.share_ppm * phase.reach_bp // FULL_BP
    if region is None or not phase.regions:
        return everywhere_ppm
    if region in phase.regions:
        weight_bp = traffic_bp(phase.regions)
        local_ppm = everywhere_ppm * FULL_BP // weight_bp if weight_bp else phase.share_ppm
        return min(MILLION_PPM, local_ppm)
    is_known = region in TRAFFIC_BP or not traffic_bp(phase.regions)
    return 0 if is_known else everywhere_ppm


def _edges(phases: tuple[Phase, ...]) -> Iterable[int]:
    for phase in phases:
        yield phase.offset_ms
        yield phase.end_ms
        if phase.fault is FaultKind.FLAP:
            period_ms = phase.period_ms or FLAP_PERIOD_MS
            for start in range(phase.offset_ms, phase.end_ms, period_ms):
                yield from (start, min(start + period_ms // 2, phase.end_ms))


def is_resolver_outage(incident: Incident) -> bool:
    """Whether users are hit through the resolver that they use, whatever the service does."""
    return incident.effect is Effect.RESOLVER
