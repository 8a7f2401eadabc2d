"""An `Incident` out of tables that were checked."""

from decimal import Decimal
from typing import Any

from polycdn.incidents.fields import moment_ms
from polycdn.incidents.incident import (
    FLAP_PERIOD_MS,
    MILLION_PPM,
    Effect,
    FaultKind,
    Incident,
    Kind,
    Phase,
    Source,
)


def incident_of(raw: dict[str, Any], phases: list[dict[str, Any]]) -> Incident:
    """The incident; where a file does not say when it was resolved or mitigated, its phases' end is meant."""
    built = tuple(phase_of(phase) for phase in phases)
    started_ms = _moment(raw, "started", 0)
    resolved_ms = _moment(raw, "resolved", started_ms + max(phase.end_ms for phase in built))
    return Incident(
        id=raw["id"],
        provider=raw["provider"],
        title=raw["title"],
        started_ms=started_ms,
        detected_ms=_moment(raw, "detected", started_ms),
        mitigated_ms=_moment(raw, "mitigated", resolved_ms),
        resolved_ms=resolved_ms,
        kinds=tuple(Kind(kind) for kind in raw["kinds"]),
        phases=built,
        effect=Effect(raw.get("effect", Effect.OPERATOR)),
        services_hit=tuple(raw.get("services_hit", ())),
        control_plane_available=raw.get("control_plane_available", True),
        lessons=tuple(raw.get("lessons", ())),
        sources=tuple(Source(each["title"], each["url"]) for each in raw.get("sources", ())),
        date=raw.get("date", ""),
        summary=raw.get("summary", ""),
        root_cause=raw.get("root_cause", ""),
        slow_recovery=raw.get("slow_recovery", ""),
        control_plane_note=raw.get("control_plane_note", ""),
        confidence=raw.get("confidence", ""),
    )


def phase_of(raw: dict[str, Any]) -> Phase:
    """One phase, its seconds turned into milliseconds and its share into parts per million."""
    fault = FaultKind(raw["fault"])
    scope = raw.get("scope", "global")
    return Phase(
        offset_ms=raw["offset_s"] * 1000,
        duration_ms=raw["duration_s"] * 1000,
        fault=fault,
        share_ppm=int(Decimal(str(raw["share"])) * MILLION_PPM),
        reach_bp=raw.get("reach_bp", 10_000),
        regions=tuple(raw.get("regions", ())),
        period_ms=raw.get("period_s", FLAP_PERIOD_MS // 1000) * 1000 if fault is FaultKind.FLAP else 0,
        estimated=raw.get("estimated", True),
        note=raw.get("note", ""),
        kinds=tuple(Kind(kind) for kind in raw.get("kinds", ())),
        scope=(scope,) if isinstance(scope, str) else tuple(scope),
        reach_estimated=raw.get("reach_estimated", True),
        reach_note=raw.get("reach_note", ""),
    )


def _moment(raw: dict[str, Any], key: str, otherwise_ms: int) -> int:
    at_ms = moment_ms(raw[key]) if key in raw else otherwise_ms
    assert at_ms is not None, f"{key} was checked"
    return at_ms
