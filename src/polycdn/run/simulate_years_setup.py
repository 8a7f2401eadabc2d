"""Ways to be carried that `simulate --years` compares, and the nodes that their providers share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from polycdn.errors import ConfigError, Fault
from polycdn.incidents import Kind
from polycdn.model.policy import Policy
from polycdn.model.topology import Provider, Service
from polycdn.world.provider import POLICY, cdn_service

KIND_OF_ROLE: Final = {"dns": Kind.DNS, "ca": Kind.CA, "cloud": Kind.CLOUD, "cdn": Kind.CDN}
"""Other nodes (networks, owners, what has no role) are taken to fail as often as a DNS operator does."""


@dataclass(frozen=True, slots=True)
class SharedNode:
    """What several providers fall with. `role` is the audit's, "" = not known; `origin` says who says so."""

    name: str
    members: tuple[str, ...]
    role: str = ""
    origin: str = ""
    ways: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Told apart from every provider."""
        return f"shared {self.name}"

    @property
    def kind(self) -> Kind:
        """The kind of company that fails as often."""
        return KIND_OF_ROLE.get(self.role, Kind.DNS)


@dataclass(frozen=True, slots=True)
class Setup:
    """A way to be carried: providers in order, and nodes that several of them share.

    `unseen` are providers of whom the audit knows nothing; `priced` those whose prices stand beside it, () =
    its own.
    """

    name: str
    service: Service
    policy: Policy
    shared: tuple[SharedNode, ...] = ()
    unseen: tuple[str, ...] = ()
    priced: tuple[Provider, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """All providers."""
        return frozenset(provider.name for provider in self.service.providers)

    def falling(self, node: str) -> frozenset[str]:
        """The providers that fail with a node: itself, or the members of a shared one."""
        members = next((each.members for each in self.shared if each.id == node), (node,))
        return frozenset(members)


def setups(
    own: tuple[Service, Policy] | None,
    shared: Sequence[tuple[str, ...]],
    audited: Sequence[SharedNode] = (),
    unseen: Sequence[str] = (),
) -> tuple[Setup, ...]:
    """One provider, two that share a node, two independent ones, and the operator's own service, if any.

    The first three cost what one or two of the operator's providers do. Providers of one company share it as
    a node; `shared` names further sets, `audited` is what an audit found, in which those in `unseen` did not
    occur. Raises ConfigError.
    """
    priced = own[0].providers if own else ()
    pair = priced[:2] if len(priced) > 1 else ()
    whole = cdn_service()
    two = replace(whole, providers=whole.providers[:2])
    found = [
        Setup("one provider", replace(whole, providers=whole.providers[:1]), POLICY, priced=priced[:1]),
        Setup("two that share a node", two, POLICY, (SharedNode("node", ("cdn-a", "cdn-b")),), priced=pair),
        Setup("two independent", two, POLICY, priced=pair),
    ]
    if own is None:
        return tuple(found)
    service, policy = own
    names = [provider.name for provider in service.providers]
    unknown = [name for group in shared for name in group if name not in names]
    if unknown:
        allowed = ", ".join(names)
        raise ConfigError(
            tuple(Fault("--shared", repr(name), allowed, "name providers of it") for name in unknown)
        )
    nodes = (
        *_by_company(service),
        *(SharedNode("+".join(group), group, origin="--shared") for group in shared),
    )
    told = [
        node for node in audited
        if not (node.role == "company" and any(set(node.members) == set(each.members) for each in nodes))
    ]  # fmt: skip
    return (
        *found,
        Setup(f"config: {service.name}", service, policy, _named_apart((*nodes, *told)), tuple(unseen)),
    )


def _named_apart(nodes: Sequence[SharedNode]) -> tuple[SharedNode, ...]:
    """The same with no name twice: one of the config may be called like one of the audit."""
    taken: set[str] = set()
    found = []
    for node in nodes:
        name = node.name if node.name not in taken else f"{node.name} ({node.origin} {len(taken)})"
        taken.add(name)
        found.append(replace(node, name=name))
    return tuple(found)


def _by_company(service: Service) -> tuple[SharedNode, ...]:
    groups: dict[str, list[str]] = {}
    for provider in service.providers:
        groups.setdefault(provider.company or provider.name, []).append(provider.name)
    return tuple(
        SharedNode(company, tuple(members), "company", "company in the config")
        for company, members in groups.items()
        if len(members) > 1
    )
