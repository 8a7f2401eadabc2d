"""The graph of evidence: services, hosts, those who carry, name and certify them, and what is below. Pure."""

from collections import deque
from collections.abc import Callable
from typing import Final

from polycdn.audit.carriers import (
    Carriage,
    carriage,
    configured_hosts,
    owner_of,
    third_parties,
)
from polycdn.audit.domains import is_same_site
from polycdn.audit.evidence import Evidence, Resource, Role, Target
from polycdn.audit.graph import NAMES_SHOWN, ONE_OF, Edge, EdgeRole, Graph, Node, NodeKind, graph_of, listed
from polycdn.audit.names import host_of
from polycdn.audit.table.provider import Table
from polycdn.audit.view import Party, View, host_of_url

MAIN_ROLES: Final = {"cdn": EdgeRole.CDN, "cloud": EdgeRole.CLOUD, "dns": EdgeRole.DNS}
TARGET_ROLES: Final = {
    Role.IDENTITY: EdgeRole.IDENTITY,
    Role.STATUS: EdgeRole.STATUS,
    Role.MAIL: EdgeRole.MAIL,
}


def services_of(evidence: Evidence) -> tuple[str, ...]:
    """The names that were asked for as services, in order."""
    found = [
        target.name
        for target in evidence.targets
        if target.depth == 0 and target.role is Role.SERVICE and not target.parent
    ]
    return tuple(dict.fromkeys(found))


def hosts_of(evidence: Evidence, service: str) -> tuple[str, ...]:
    """The service's own hosts: its name, its www, and where it redirects to."""
    found = [service]
    for name in found:
        for child in evidence.children(name):
            if child.depth == 0 and child.role is Role.SERVICE and child.name not in found:
                found.append(child.name)
    return tuple(found)


def build_graph(view: View) -> Graph:
    """The graph below all services of the evidence."""
    builder = _Builder(view)
    for service in services_of(view.evidence):
        builder.service(service)
    builder.run()
    return graph_of(builder.nodes, builder.edges)


def service_id(name: str) -> str:
    """The node of a service."""
    return f"service:{host_of(name)}"


def host_id(name: str) -> str:
    """The node of a host."""
    return f"host:{host_of(name)}"


def provider_id(party: str) -> str:
    """The node of a party."""
    return f"provider:{party}"


class _Builder:
    """Collects nodes and edges; every host and every party is expanded once."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.table: Table = view.table
        self.nodes: set[Node] = set()
        self.edges: list[Edge] = []
        self._hosts: set[str] = set()
        self._parties: set[tuple[str, tuple[str, ...]]] = set()
        self._rows: set[str] = set()
        self._todo: deque[Callable[[], None]] = deque()

    def run(self) -> None:
        """Expands what was met until nothing new is met: evidence may be a chain of any length."""
        while self._todo:
            self._todo.popleft()()

    def service(self, name: str) -> None:
        own = service_id(name)
        self.nodes.add(Node(own, NodeKind.SERVICE, host_of(name)))
        for host in hosts_of(self.view.evidence, name):
            why = "it is the name that was asked for" if host == name else "the service leads there"
            self._edge(own, self.host(host), EdgeRole.HOST, True, why)
            for target in self.view.evidence.children(host):
                self._other(own, target)
            for other in third_parties(self.view, host):
                self._loaded(own, host, other)
        for target in self.view.evidence.asked:
            if target.depth == 0 and not target.parent and target.role in TARGET_ROLES:
                self._edge(
                    own,
                    self.host(target.name),
                    TARGET_ROLES[target.role],
                    target.role is Role.IDENTITY,
                    target.why,
                )

    def _other(self, service: str, target: Target) -> None:
        """Mail hosts and logins."""
        if target.role in TARGET_ROLES:
            self._edge(service, self.host(target.name), TARGET_ROLES[target.role], False, target.why)

    def _loaded(self, service: str, host: str, other: str) -> None:
        """A host that the page loads from; one of the service's own domain is no third party."""
        loads = loads_from(self.view, host, other)
        worst = [each for each in loads if each.blocking and not each.fallback]
        why = (
            "blocks rendering and has no fallback" if worst else "does not block rendering, or has a fallback"
        )
        if not loads:
            why = "loaded by something that the page loads"
        role = EdgeRole.HOST if is_same_site(host, other) else EdgeRole.THIRD_PARTY
        evidence = tuple(f"{each.kind} {each.url}" for each in (worst or loads)[:3])
        self._edge(service, self.host(other), role, bool(worst), why, evidence)

    def host(self, name: str) -> str:
        """The node of a host, with all below it."""
        node = host_id(name)
        if name in self._hosts:
            return node
        self._hosts.add(name)
        self.nodes.add(Node(node, NodeKind.HOST, host_of(name)))
        self._todo.append(lambda: self._below_host(node, name))
        return node

    def _below_host(self, node: str, name: str) -> None:
        self._names(node, name)
        self._carriers(node, carriage(self.view, name))
        self._certificates(node, (*configured_hosts(self.view, name), name))

    def _names(self, node: str, name: str) -> None:
        """The operators of the zone that a name lies in."""
        operators = self.view.operators(name) or ()
        self._choice(node, operators, EdgeRole.DNS, "operator of the zone")

    def _carriers(self, node: str, found: Carriage) -> None:
        for party in found.serial:
            self._party_edge(node, party, self._role(party), True, "all traffic goes through it")
        self._choice(node, found.parallel, None, "carrier")

    def _choice(self, node: str, parties: tuple[Party, ...], role: EdgeRole | None, word: str) -> None:
        """Critical when there is one, redundant when there are several."""
        for party in parties:
            if len(parties) == 1:
                self._party_edge(node, party, role or self._role(party), True, f"the only {word}")
            else:
                others = listed(o.name for o in parties[: NAMES_SHOWN + 2] if o.id != party.id)
                why = f"{ONE_OF}{len(parties)}; {others} can take over"
                self._party_edge(node, party, role or EdgeRole.CDN, False, why)

    def _certificates(self, node: str, hosts: tuple[str, ...]) -> None:
        for host in hosts:
            for look, leaf in self.view.leaves(host):
                party = self.view.issuer(leaf)
                is_needed = bool(leaf.ocsp_urls) and look.stapled is False
                why = (
                    "its OCSP answer is not stapled, so that clients ask the CA"
                    if is_needed
                    else "needed to renew, not for each connection"
                )
                at = f"{host_of(host)} shows a certificate of {leaf.issuer_org or leaf.issuer_cn}"
                self._party_edge(node, party, EdgeRole.CA, is_needed, why, (at,))
                if is_needed:
                    self._ca_hosts(party, leaf.ocsp_urls)

    def _ca_hosts(self, party: Party, urls: tuple[str, ...]) -> None:
        for host in dict.fromkeys(filter(None, map(host_of_url, urls))):
            why = "the only place to ask whether a certificate is revoked"
            self._edge(provider_id(party.id), self.host(host), EdgeRole.HOST, True, why)

    def _role(self, party: Party) -> EdgeRole:
        """What a carrier is: by its row; by how it was met when it has none."""
        row = self.table.providers.get(party.id)
        if row is None:
            return (
                EdgeRole.CDN if party.evidence and party.evidence[0].startswith("CNAME") else EdgeRole.NETWORK
            )
        return next((MAIN_ROLES[role] for role in row.roles if role in MAIN_ROLES), EdgeRole.CDN)

    def _party_edge(
        self,
        source: str,
        party: Party,
        role: EdgeRole,
        is_critical: bool,
        why: str,
        evidence: tuple[str, ...] = (),
    ) -> None:
        self._edge(source, self.party(party), role, is_critical, why, (*evidence, *party.evidence))

    def party(self, party: Party) -> str:
        """The node of a party, with what was seen and what is known to be below it."""
        node = provider_id(party.id)
        key = (party.id, party.hosts)
        if key in self._parties:
            return node
        self._parties.add(key)
        self.nodes.add(Node(node, NodeKind.PROVIDER, party.name))
        self._todo.append(lambda: self._below_party(node, party))
        return node

    def _below_party(self, node: str, party: Party) -> None:
        self._seen_below(node, party)
        if party.is_known:
            self._known_below(node, party.id)

    def _seen_below(self, node: str, party: Party) -> None:
        """The DNS operators and the networks of the names by which a party was met."""
        names = [host for host in party.hosts if host.endswith(".")]
        operators: dict[str, Party] = {}
        networks: dict[str, Party] = {}
        for name in names:
            for operator in self.view.operators(name) or ():
                operators.setdefault(operator.id, operator)
            for address in self.view.addresses(name):
                owner = owner_of(self.view, address)
                if owner is not None:
                    networks.setdefault(owner.id, owner)
        below = tuple(each for key, each in sorted(operators.items()) if key != party.id)
        if len(below) == len(operators):
            self._choice(node, below, EdgeRole.DNS, "operator of its names")
        if party.id not in networks:
            parties = tuple(each for _, each in sorted(networks.items()))
            self._choice(node, parties, EdgeRole.NETWORK, "network of its addresses")

    def _known_below(self, node: str, provider: str) -> None:
        """What the table knows: owners, and other providers that it uses."""
        if provider in self._rows:
            return
        self._rows.add(provider)
        row = self.table.providers[provider]
        company = self.table.company_of(provider)
        label = self.table.companies[company].name if company in self.table.companies else company
        self.nodes.add(Node(f"company:{company}", NodeKind.COMPANY, label))
        owned = f"{row.name} belongs to {label}"
        self._edge(node, f"company:{company}", EdgeRole.COMPANY, True, owned, (row.source,))
        for use in row.uses:
            used = self.table.providers[use.provider]
            known = Party(use.provider, used.name, self.table.company_of(use.provider), (), (), is_known=True)
            role = EdgeRole(use.role)
            said = (f"provider table: {row.source} ({row.date})",)
            self._edge(node, self.party(known), role, use.is_critical, use.why, said)

    def _edge(
        self,
        source: str,
        target: str,
        role: EdgeRole,
        is_critical: bool,
        reason: str,
        evidence: tuple[str, ...] = (),
    ) -> None:
        self.edges.append(Edge(source, target, role, is_critical, reason, evidence))


def loads_from(view: View, host: str, other: str) -> tuple[Resource, ...]:
    """What the pages of a host load from another host, in the order of the evidence."""
    return tuple(
        resource
        for page in view.pages.get(host, ())
        for resource in page.resources
        if host_of_url(resource.url) == other
    )
