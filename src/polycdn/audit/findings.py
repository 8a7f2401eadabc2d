"""All findings of an evidence, in order of the user-minutes that their remedies save. Pure."""
# ruff: noqa: E501

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from polycdn.audit.build import build_graph, services_of
from polycdn.audit.case import DEFAULT_BOUNDS, Bounds, Case
from polycdn.audit.check_certificates import ending, one_authority_allowed, stapling, untrusted
from polycdn.audit.check_names import (
    consoles,
    fixed_apex,
    long_delegations,
    long_ttls,
    one_carrier,
    one_operator,
    private_origins,
)
from polycdn.audit.check_pages import blocking
from polycdn.audit.check_shared import hidden_dependencies, same_authority, shared_nodes
from polycdn.audit.check_unseen import unseen
from polycdn.audit.cost import USERS, priced
from polycdn.audit.evidence import Evidence
from polycdn.audit.finding import Finding, Severity
from polycdn.audit.graph import Graph
from polycdn.audit.names import host_of
from polycdn.audit.table import Table, provider_table
from polycdn.audit.view import View

CHECKS: Final[tuple[Callable[[Case], Iterator[Finding]], ...]] = (
    one_operator, one_carrier, shared_nodes, same_authority, one_authority_allowed, long_ttls, long_delegations,
    fixed_apex, consoles, ending, untrusted, stapling, blocking, private_origins, hidden_dependencies, unseen,
)  # fmt: skip


@dataclass(frozen=True)
class Audit:
    """What an evidence says: the graph, and the findings in order."""

    evidence: Evidence
    graph: Graph
    services: tuple[str, ...]
    findings: tuple[Finding, ...]
    view: View
    users: int

    def worst_of(self, service: str) -> Severity | None:
        """The worst finding of a service (as its findings name it), None = none at all."""
        found = [each.severity for each in self.findings if each.service == service]
        return max(found, key=lambda each: each.rank, default=None)


def audit_of(
    evidence: Evidence, table: Table | None = None, bounds: Bounds = DEFAULT_BOUNDS, users: int = USERS
) -> Audit:
    """The audit of an evidence. Equal evidence gives equal audits, whenever and wherever it is read."""
    view = View(evidence, table or provider_table())
    graph = build_graph(view)
    services = services_of(evidence)
    found = set()
    for service in services:
        case = Case(view, graph, service, bounds)
        for check in CHECKS:
            found |= {priced(each, users) for each in check(case)}
    ordered = sorted(found, key=lambda each: (*each.order, each.title, each.what))
    return Audit(evidence, graph, tuple(map(host_of, services)), tuple(ordered), view, users)
