"""Findings about pairs that look redundant and share something, at any depth; and about what lies hidden below. Pure."""
# ruff: noqa: E501

from collections.abc import Iterator
from typing import Final

from polycdn.audit.build import provider_id
from polycdn.audit.case import Case, told
from polycdn.audit.finding import Finding, Kind, Severity
from polycdn.audit.graph import Edge, EdgeRole, NodeKind, listed
from polycdn.audit.names import host_of

KIND_OF: Final = {
    EdgeRole.DNS: Kind.SHARED_DNS,
    EdgeRole.CA: Kind.SHARED_CA,
    EdgeRole.CLOUD: Kind.SHARED_CLOUD,
    EdgeRole.NETWORK: Kind.SHARED_NETWORK,
    EdgeRole.COMPANY: Kind.SHARED_COMPANY,
}
WORDS: Final = {
    Kind.SHARED_DNS: "the DNS operator",
    Kind.SHARED_CA: "the CA",
    Kind.SHARED_CLOUD: "the cloud",
    Kind.SHARED_NETWORK: "the network",
    Kind.SHARED_COMPANY: "the owner",
    Kind.SHARED_CARRIER: "the carrier",
}
AFFECTED_BP: Final = {Kind.SHARED_CA: 300, Kind.SHARED_COMPANY: 5_000}
"""A CA that fails stops new certificates, not connections; companies of one owner fail together now and then."""


def shared_nodes(case: Case) -> Iterator[Finding]:
    """What all of some redundant providers stand on, wherever below the service they are."""
    starts = [case.node, *case.graph.below(case.node)]
    for start in starts:
        for role, ends in case.graph.alternatives(start).items():
            found = case.graph.shared(ends)
            for shared, paths in found:
                yield _finding(case, start, role, ends, shared, paths)


def _finding(
    case: Case,
    start: str,
    role: EdgeRole,
    ends: tuple[str, ...],
    shared: str,
    paths: tuple[tuple[Edge, ...], ...],
) -> Finding:
    graph = case.graph
    last = next((path[-1].role for path in paths if path), role)
    kind = KIND_OF.get(last, Kind.SHARED_CARRIER)
    names = listed(graph.label(end) for end in ends)
    depth = max(len(path) for path in paths)
    way = tuple(told(graph, path) for path in paths if path)
    where = (
        ""
        if graph.node[start].kind in (NodeKind.SERVICE, NodeKind.HOST)
        else f" (below {graph.label(start)})"
    )
    return case.finding(
        kind, Severity.HIGH if kind is not Kind.SHARED_CA else Severity.MEDIUM,
        f"{graph.label(start)}: {names}",
        f"{names} share {WORDS[kind]} {graph.label(shared)}{where}",
        f"{names} are meant to take over from each other, and none of them works without {graph.label(shared)}, "
        f"{depth} step{'s' if depth > 1 else ''} below: the pair is one basket.",
        f"replace one of them by somebody who does not depend on {graph.label(shared)}, or have one of them leave it",
        (*way, *(line for path in paths for edge in path[-1:] for line in edge.evidence[:1])),
        (shared, *ends), AFFECTED_BP.get(kind, 10_000), str(last),
    )  # fmt: skip


def hidden_dependencies(case: Case) -> Iterator[Finding]:
    """Providers of which the service's owner has no contract: two steps below or deeper, and nothing works without."""
    graph = case.graph
    below = graph.below(case.node)
    direct = {party.id for party in case.carriers()}
    direct |= {party.id for _, operators in case.operators() for party in operators}
    companies = {party.company for party in case.carriers() if party.is_known}
    companies |= {party.company for _, operators in case.operators() for party in operators if party.is_known}
    for node, path in below.items():
        if graph.node[node].kind is not NodeKind.PROVIDER or node.partition(":")[2] in direct:
            continue
        steps = [edge for edge in path if edge.source.startswith("provider:")]
        if not steps or path[-1].role in (EdgeRole.NETWORK, EdgeRole.CA) or _is_third_party(path):
            continue
        name = node.partition(":")[2]
        if name in case.view.table.providers and case.view.table.company_of(name) in companies:
            continue
        yield case.finding(
            Kind.HIDDEN, Severity.LOW, node.partition(":")[2], f"{graph.label(node)} is needed by {graph.label(steps[-1].source)}",
            f"The service does not work without {graph.label(node)}, with whom it may have no contract: "
            f"{told(graph, path)}.",
            f"ask {graph.label(steps[-1].source)} what happens when {graph.label(node)} fails, or choose a second "
            "provider that does without it",
            (told(graph, path), *path[-1].evidence[:1]), (node, steps[-1].source), role=str(path[-1].role),
        )  # fmt: skip


def _is_third_party(path: tuple[Edge, ...]) -> bool:
    return any(edge.role is EdgeRole.THIRD_PARTY for edge in path)


def same_authority(case: Case) -> Iterator[Finding]:
    """Carriers that can take over from each other, with certificates of one CA."""
    for host, found in case.carriages.items():
        if len(found.parallel) < 2:
            continue
        issuers: dict[str, set[str]] = {}
        names: dict[str, str] = {}
        for party in found.parallel:
            for look, leaf in case.view.leaves(found.host_of(party.id)):
                if look.address in party.hosts or not _is_address(party.hosts):
                    issuer = case.view.issuer(leaf)
                    names[issuer.id] = issuer.name
                    issuers.setdefault(party.id, set()).add(issuer.id)
        if len(issuers) < len(found.parallel):
            continue
        where = {found.host_of(carrier) for carrier in issuers}
        common = set.intersection(*issuers.values())
        account = _account(case, host)
        for shared in sorted(common):
            carriers = listed(party.name for party in found.parallel)
            seen = (
                f"CAA names the account {account}" if account else "the account cannot be seen from outside"
            )
            yield case.finding(
                Kind.SAME_CA, Severity.MEDIUM, host, f"{carriers} have certificates of {names[shared]}",
                f"The certificates of {carriers} for {host_of(host)} are all {names[shared]}'s ({seen}). When it "
                "revokes, or stops issuing, all of them end.",
                "let one of the providers use another CA, with an account of its own",
                tuple(f"{host_of(each)}: {names[shared]}" for each in sorted(where)),
                (f"provider:{shared}", *(provider_id(party.id) for party in found.parallel)), 500, "ca",
            )  # fmt: skip


def _is_address(hosts: tuple[str, ...]) -> bool:
    return bool(hosts) and not hosts[0].endswith(".")


def _account(case: Case, host: str) -> str:
    """The account that CAA records bind a name to (RFC 8657), "" = none."""
    zone = case.view.zone_of(host) or host
    for name in (host, zone):
        look = case.view.evidence.dns(name, "CAA")
        for value in look.values if look else ():
            if "accounturi=" in value:
                return value.partition("accounturi=")[2].strip('" ').split(";")[0]
    return ""
