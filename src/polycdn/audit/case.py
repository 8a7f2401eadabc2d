"""What every check looks at: one service, its hosts, the evidence's moment, and the limits. Pure."""
# ruff: noqa: E501

from dataclasses import dataclass
from functools import cached_property

from polycdn.audit.build import host_id, hosts_of, service_id
from polycdn.audit.carriers import Carriage, carriage
from polycdn.audit.finding import Finding, Kind, Severity
from polycdn.audit.graph import Edge, Graph
from polycdn.audit.names import host_of
from polycdn.audit.view import Party, View


@dataclass(frozen=True, slots=True)
class Bounds:
    """From where on something is a finding. TTLs in seconds, days of a certificate's rest."""

    ttl_s: int = 300
    ns_ttl_s: int = 86_400
    days_warn: int = 21
    days_alarm: int = 7


DEFAULT_BOUNDS = Bounds()


@dataclass(frozen=True)
class Case:
    """One service under audit."""

    view: View
    graph: Graph
    service: str
    bounds: Bounds = DEFAULT_BOUNDS

    @property
    def now_ms(self) -> int:
        """The moment of the evidence: an audit of a file says what the audit that wrote it said."""
        return self.view.evidence.started_ms

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """The service's own hosts."""
        return hosts_of(self.view.evidence, self.service)

    @cached_property
    def carriages(self) -> dict[str, Carriage]:
        """Who carries each of the hosts."""
        return {host: carriage(self.view, host) for host in self.hosts}

    @property
    def node(self) -> str:
        """The service's node."""
        return service_id(self.service)

    def operators(self) -> tuple[tuple[str, tuple[Party, ...]], ...]:
        """(zone, its operators) for each zone that the service's hosts lie in, those that were seen."""
        found: dict[str, tuple[Party, ...]] = {}
        for host in self.hosts:
            zone, operators = self.view.zone_of(host), self.view.operators(host)
            if zone and operators:
                found.setdefault(zone, operators)
        return tuple(found.items())

    def carriers(self) -> tuple[Party, ...]:
        """Everybody who carries traffic of one of the hosts, each once."""
        found = {
            party.id: party
            for carried in self.carriages.values()
            for party in (*carried.serial, *carried.parallel)
        }
        return tuple(found.values())

    def finding(self, kind: Kind, severity: Severity, subject: str, title: str, what: str, remedy: str,
                evidence: tuple[str, ...] = (), nodes: tuple[str, ...] = (), affected_bp: int = 10_000,
                role: str = "") -> Finding:  # fmt: skip
        """A finding about this service."""
        name = host_of(self.service)
        shown = host_of(subject)
        return Finding(kind, severity, name, shown, title, what, remedy, evidence, nodes, affected_bp, role)

    def unseen(self, subject: str, what: str, why: str) -> Finding:
        """Something about this service that could not be seen."""
        return self.finding(
            Kind.UNKNOWN, Severity.UNKNOWN, subject, f"not seen: {what}",
            f"{what} of {host_of(subject)} could not be looked at: {why}. It may be fine, and it may not.",
            REMEDY_OF_UNSEEN.get(why.partition(":")[0], "look at it by hand, or run the audit again"),
            (f"{host_of(subject)}: {what}: {why}",),
        )  # fmt: skip

    def share_bp(self, host: str) -> int:
        """The share of the service's requests that a host has: those of www and of redirects are all of them."""
        return 10_000 if host in self.hosts else 0


REMEDY_OF_UNSEEN = {
    "budget": "run again with a larger --budget",
    "deadline": "run again with a larger --deadline",
    "depth": "run again with a larger --depth",
    "not configured": "give the audit what it lacks (a table of networks: polycdn data import), and run it again",
}


STEPS_SHOWN = 8


def told(graph: Graph, path: tuple[Edge, ...]) -> str:
    """A way through the graph in words: "a -dns-> b -network-> c"."""
    if not path:
        return ""
    words = [f"-{edge.role}-> {graph.label(edge.target)}" for edge in path]
    if len(words) > STEPS_SHOWN:
        words[STEPS_SHOWN // 2 : -STEPS_SHOWN // 2] = [f"... {len(words) - STEPS_SHOWN} more ..."]
    return " ".join([graph.label(path[0].source), *words])


__all__ = ["Bounds", "Case", "host_id", "told"]
