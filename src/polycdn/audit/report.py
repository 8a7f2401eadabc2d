"""An audit as one JSON object; audit.schema.json beside this file says what is in it."""

import json
from collections import Counter
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final

from polycdn.audit.build import hosts_of
from polycdn.audit.carriers import carriage, third_parties
from polycdn.audit.finding import Finding, Severity
from polycdn.audit.findings import Audit
from polycdn.audit.names import host_of
from polycdn.audit.view import Party

VERSION: Final = 1


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of `as_object`."""
    text = resources.files("polycdn.audit").joinpath("audit.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def as_object(audit: Audit, tool_version: str) -> dict[str, Any]:
    """The whole audit; equal audits give equal objects."""
    counts = Counter(str(each.severity) for each in audit.findings)
    started = datetime.fromtimestamp(audit.evidence.started_ms / 1000, UTC)
    return {
        "version": VERSION,
        "tool_version": tool_version,
        "evidence_started": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "users": audit.users,
        "counts": {str(severity): counts[str(severity)] for severity in Severity},
        "services": [_service(audit, name) for name in audit.services],
        "findings": [_finding(each) for each in audit.findings],
        "graph": {
            "nodes": [
                {"id": node.id, "kind": str(node.kind), "label": node.label} for node in audit.graph.nodes
            ],
            "edges": [
                {
                    "source": edge.source,
                    "target": edge.target,
                    "role": str(edge.role),
                    "critical": edge.is_critical,
                    "reason": edge.reason,
                    "evidence": list(edge.evidence),
                }
                for edge in audit.graph.edges
            ],
        },
    }


def _service(audit: Audit, name: str) -> dict[str, Any]:
    view = audit.view
    worst = audit.worst_of(name)
    return {
        "name": name,
        "worst": str(worst) if worst else None,
        "hosts": [_host(audit, host) for host in hosts_of(view.evidence, f"{name}.")],
    }


def _host(audit: Audit, host: str) -> dict[str, Any]:
    view = audit.view
    found = carriage(view, host)
    operators = view.operators(host)
    return {
        "name": host_of(host),
        "zone": host_of(view.zone_of(host) or "") or None,
        "addresses": list(view.addresses(host)),
        "dns": None if operators is None else [_party(each) for each in operators],
        "carriers": [{**_party(each), "redundant": False} for each in found.serial]
        + [{**_party(each), "redundant": True} for each in found.parallel],
        "detections": [
            {
                "provider": each.provider,
                "confidence": each.confidence_bp / 10_000,
                "clues": [
                    {
                        "method": str(clue.method),
                        "confidence": clue.confidence_bp / 10_000,
                        "evidence": clue.evidence,
                    }
                    for clue in each.clues
                ],
            }
            for each in view.detections(host)
        ],
        "cas": [
            {
                **_party(view.issuer(leaf)),
                "not_after": _moment(leaf.not_after_ms),
                "stapled": look.stapled,
                "trusted": look.verified,
            }
            for look, leaf in view.leaves(host)
        ],
        "hsts": next(
            (
                value
                for look in view.answers.get(host, ())
                if (value := look.header("strict-transport-security"))
            ),
            None,
        ),
        "third_parties": [host_of(each) for each in third_parties(view, host)],
    }


def _moment(at_ms: int) -> str | None:
    """RFC 3339; None for a moment that no calendar has."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def _party(party: Party) -> dict[str, Any]:
    return {
        "id": party.id,
        "name": party.name,
        "company": party.company,
        "known": party.is_known,
        "evidence": list(party.evidence),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "kind": str(finding.kind),
        "severity": str(finding.severity),
        "service": finding.service,
        "subject": finding.subject,
        "title": finding.title,
        "what": finding.what,
        "remedy": finding.remedy,
        "evidence": list(finding.evidence),
        "nodes": list(finding.nodes),
        "resembles": finding.incident or None,
        "user_minutes_a_year": finding.user_minutes,
        "estimate": finding.minutes_basis or None,
    }
