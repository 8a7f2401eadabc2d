"""Who depends on whom: nodes and edges, and the walks over them. Pure; `build.py` makes one of evidence.

An edge is critical when its source does not work without its target, redundant when another target can take
over; `reason` says which and why.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property


class NodeKind(StrEnum):
    """What a node is."""

    SERVICE = "service"
    HOST = "host"
    PROVIDER = "provider"
    COMPANY = "company"


class EdgeRole(StrEnum):
    """What the target is to the source."""

    HOST = "host"
    DNS = "dns"
    CDN = "cdn"
    CA = "ca"
    CLOUD = "cloud"
    NETWORK = "network"
    THIRD_PARTY = "third-party"
    IDENTITY = "identity"
    MAIL = "mail"
    STATUS = "status"
    CONSOLE = "console"
    COMPANY = "company"


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """`id` is "kind:name"; `label` is for people."""

    id: str
    kind: NodeKind
    label: str


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """`source` depends on `target` (ids) in a role; `evidence` says what was seen or where it is written."""

    source: str
    target: str
    role: EdgeRole
    is_critical: bool
    reason: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """All nodes and edges, sorted."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @cached_property
    def node(self) -> Mapping[str, Node]:
        """By id."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def out(self) -> Mapping[str, tuple[Edge, ...]]:
        """The edges that leave a node."""
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.source, []).append(edge)
        return {source: tuple(edges) for source, edges in found.items()}

    def label(self, node: str) -> str:
        """How a node is called."""
        known = self.node.get(node)
        return known.label if known else node

    def below(self, start: str) -> Mapping[str, tuple[Edge, ...]]:
        """All that a node does not work without, but itself, with a shortest way of critical edges there.

        A console is not in it: a service goes on while nobody can change it.
        """
        paths: dict[str, tuple[Edge, ...]] = {start: ()}
        queue = deque([start])
        while queue:
            here = queue.popleft()
            for edge in self.out.get(here, ()):
                if edge.is_critical and edge.role is not EdgeRole.CONSOLE and edge.target not in paths:
                    paths[edge.target] = (*paths[here], edge)
                    queue.append(edge.target)
        return {node: path for node, path in paths.items() if node != start}

    def alternatives(self, node: str) -> Mapping[EdgeRole, tuple[str, ...]]:
        """The targets that can take over from each other, by role: two or more."""
        found: dict[EdgeRole, list[str]] = {}
        for edge in self.out.get(node, ()):
            if not edge.is_critical and edge.reason.startswith(ONE_OF):
                found.setdefault(edge.role, []).append(edge.target)
        return {role: tuple(targets) for role, targets in found.items() if len(targets) > 1}

    def shared(self, targets: Iterable[str]) -> tuple[tuple[str, tuple[tuple[Edge, ...], ...]], ...]:
        """(node, the way to it from each target) for what no target works without, the nearest only.

        What is shared only because something nearer is shared is left out: the walks end where they meet
        something shared.
        """
        ends = tuple(targets)
        below = [{end: (), **self.below(end)} for end in ends]
        common = [node for node in below[0] if all(node in each for each in below[1:])] if below else []
        first_met = [self._first_met(end, frozenset(common)) for end in ends]
        nearest = set.intersection(*first_met) if first_met else set()
        return tuple((node, tuple(each[node] for each in below)) for node in sorted(nearest))

    def _first_met(self, start: str, wanted: frozenset[str]) -> set[str]:
        """The wanted nodes that a walk down critical edges meets without passing another of them."""
        seen, met, queue = {start}, set(), deque([start])
        while queue:
            here = queue.popleft()
            if here in wanted:
                met.add(here)
                continue
            for edge in self.out.get(here, ()):
                if edge.is_critical and edge.role is not EdgeRole.CONSOLE and edge.target not in seen:
                    seen.add(edge.target)
                    queue.append(edge.target)
        return met


NAMES_SHOWN = 4


def listed(names: Iterable[str]) -> str:
    """Names in words, of many only the first: "a and b"."""
    known = tuple(names)
    if len(known) > NAMES_SHOWN:
        return f"{', '.join(known[:NAMES_SHOWN])} and {len(known) - NAMES_SHOWN} more"
    return " and ".join(known)


ONE_OF = "one of "
"""How the reason of a redundant edge begins when others can take over."""


def graph_of(nodes: Iterable[Node], edges: Iterable[Edge]) -> Graph:
    """Nodes and edges, each once; of two edges with the same ends and role the critical one counts."""
    kept: dict[tuple[str, str, EdgeRole], Edge] = {}
    for edge in edges:
        if edge.source == edge.target:
            continue
        key = (edge.source, edge.target, edge.role)
        before = kept.get(key)
        if before is None or (edge.is_critical, edge) > (before.is_critical, before):
            kept[key] = edge
    named = {node.id: node for node in sorted(set(nodes))}
    return Graph(tuple(named[node] for node in sorted(named)), tuple(sorted(kept.values())))
