"""What the providers of a config stand on together, by the audit's graph. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from polycdn.audit.build import host_id, provider_id
from polycdn.audit.carriers import configured_parties
from polycdn.audit.case import told
from polycdn.audit.findings import Audit
from polycdn.audit.graph import Edge, EdgeRole
from polycdn.audit.names import canonical_name


@dataclass(frozen=True, slots=True)
class Ground:
    """A node without which none of `members` works; they are names of the config, in its order.

    `role` is what the node is to them: dns, ca, cloud, network, company, cdn; "" = they are the node itself.
    `ways` says how each of them depends on it, where there is a way to tell.
    """

    node: str
    label: str
    role: str
    members: tuple[str, ...]
    ways: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grounds:
    """All of them, and the providers of whom the evidence says nothing."""

    found: tuple[Ground, ...]
    unseen: tuple[str, ...]


def grounds_of(audit: Audit, hostname: str, providers: Sequence[str]) -> Grounds:
    """What two or more of a service's providers share, the nearest nodes only.

    `providers` are their names in the config that the evidence was collected for.
    """
    parties = dict(configured_parties(audit.view, canonical_name(hostname)))
    nodes = {name: provider_id(parties[name].id) for name in providers if name in parties}
    graph = audit.graph
    members: dict[str, set[str]] = {}
    paths: dict[tuple[str, str], tuple[Edge, ...]] = {}
    for one, other in combinations(nodes, 2):
        for shared, ways in graph.shared((nodes[one], nodes[other])):
            members.setdefault(shared, set()).update((one, other))
            paths.update(zip(((shared, one), (shared, other)), ways, strict=True))
    found = []
    for shared, names in sorted(members.items()):
        below = [paths[shared, name] for name in nodes if name in names]
        role = next((str(way[-1].role) for way in below if way), "")
        lines = tuple(dict.fromkeys(told(graph, way) for way in below if way))
        ordered = tuple(name for name in nodes if name in names)
        found.append(Ground(shared, graph.label(shared), role, ordered, lines))
    only = _only_operator(audit, hostname, tuple(providers))
    rest = [ground for ground in found if ground.node not in {each.node for each in only}]
    return Grounds((*rest, *only), tuple(name for name in providers if name not in nodes))


def _only_operator(audit: Audit, hostname: str, providers: tuple[str, ...]) -> list[Ground]:
    """The DNS operator that the service's own name hangs on, if there is one only: all fall with it."""
    graph = audit.graph
    return [
        Ground(edge.target, graph.label(edge.target), str(edge.role), providers, (told(graph, (edge,)),))
        for edge in graph.out.get(host_id(hostname), ())
        if edge.is_critical and edge.role is EdgeRole.DNS
    ]
