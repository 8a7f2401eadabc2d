"""What `polycdn status --json` shows, from the loop and everything around it (docs/operate.md)."""

from collections.abc import Iterable
from typing import Any, Final

from polycdn.model.plan import Plan
from polycdn.model.state import Report, State
from polycdn.run.ingest import Sender
from polycdn.run.loop import Loop
from polycdn.run.publish import Outlet

STATUS_FORMAT: Final = "polycdn/status/1"

Json = dict[str, Any]


def services_json(loop: Loop) -> list[Json]:
    """One object per service, by name."""
    return [
        service_json(name, state, loop.reports.get(name, Report(state.now_ms)), loop.failures.get(name, ""))
        for name, state in sorted(loop.states.items())
        if state.service is not None
    ]


def service_json(name: str, state: State, report: Report, failure: str) -> Json:
    """One service: its plan, its verdicts, what the operator said, what the report notes."""
    assert state.service is not None
    return {
        "service": name,
        "hostname": state.service.hostname,
        "generation": state.generation,
        "good_generation": state.good_plan.generation if state.good_plan else 0,
        "is_calm": report.is_calm,
        "frozen_until_ms": state.frozen_until_ms,
        "failure": failure,
        "regions": regions_json(state.plan),
        "verdicts": [
            {
                "provider": verdict.provider,
                "region": verdict.region,
                "status": verdict.status.value,
                "since_ms": verdict.since_ms,
                "alarm_bp": verdict.alarm_bp,
                "blame": verdict.blame.value,
                "latency_ms": verdict.latency_ms,
                "left_out": list(verdict.left_out),
                "minority": list(verdict.minority),
                "why": verdict.why,
            }
            for verdict in report.verdicts or state.verdicts
        ],
        "forced": [
            {
                "provider": forced.provider,
                "region": forced.region,
                "stance": forced.stance.value,
                "until_ms": forced.until_ms,
                "by": forced.by,
                "why": forced.why,
            }
            for forced in state.forced
        ],
        "notes": [
            {"severity": note.severity.value, "code": note.code, "text": note.text} for note in report.notes
        ],
    }


def regions_json(plan: Plan | None) -> list[Json]:
    """Shares, order and TTL of every region of a plan."""
    return [
        {
            "region": region.region,
            "shares": [{"provider": name, "share_bp": share_bp} for name, share_bp in region.shares],
            "order": list(region.order),
            "ttl_s": region.ttl_s,
        }
        for region in (plan.regions if plan else ())
    ]


def surfaces_json(outlets: Iterable[Outlet]) -> list[Json]:
    """One object per surface and service: what it should hold, what it holds, and why if they differ."""
    return [
        {
            "surface": outlet.surface.name,
            "service": service,
            "wanted_generation": line.wanted.generation if line.wanted else 0,
            "held_generation": max(0, line.held),
            "good_generation": line.good_held,
            "error": line.why,
        }
        for outlet in outlets
        for service, line in sorted(outlet.lines.items())
    ]


def vantages_json(senders: dict[str, Sender]) -> list[Json]:
    """One object per vantage: when it was last heard and how well it keeps its schedule."""
    return [
        {
            "vantage": name,
            "heard_ms": sender.heard_ms,
            "lag_ms_p99": sender.last.lag_ms_p99 if sender.last else 0,
            "is_valid": sender.last.is_valid if sender.last else False,
            "skipped": sender.last.skipped if sender.last else 0,
            "dropped": sender.last.dropped if sender.last else 0,
            "refused": sender.refused,
            "refused_why": sender.refused_why,
        }
        for name, sender in sorted(senders.items())
    ]
