"""What one pass over a table of sites leaves: kinds of edges, and of sites, with their counts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

Member = tuple[int, bool, bool]
"""(provider, critical, private): its number in `RoleCount.names`, 0 = not told apart."""


@dataclass(frozen=True, slots=True)
class Edges:
    """`sites` sites use `provider` for `role`; `private` = it is their own."""

    role: str
    provider: str
    critical: bool
    private: bool
    sites: int


@dataclass(frozen=True, slots=True)
class RoleCount:
    """One role. `names[n]` is provider n of the members of sites, names[0] = "" is everybody else.

    `sizes`: (edges of a provider, providers of that size), biggest first.
    """

    role: str
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]

    @property
    def edges(self) -> int:
        """How many edges there are."""
        return sum(size * count for size, count in self.sizes)

    @property
    def providers(self) -> int:
        """How many providers there are."""
        return sum(count for _, count in self.sizes)


@dataclass(frozen=True, slots=True)
class Signature:
    """`sites` sites have these members: one sorted tuple a role, in the order of `Survey.roles`.

    `is_top` = they rank among the top N that were asked for.
    """

    members: tuple[tuple[Member, ...], ...]
    is_top: bool
    sites: int


@dataclass(frozen=True, slots=True)
class Survey:
    """All that the metrics need of a table of sites. `edges` holds the biggest providers and all told apart.

    `tail_sites`: (provider, sites) of those not told apart that serve in several roles.
    """

    sites: int
    roles: tuple[RoleCount, ...]
    edges: tuple[Edges, ...]
    signatures: tuple[Signature, ...]
    tail_sites: tuple[tuple[str, int], ...] = ()


def by_members(signatures: Iterable[Signature], index: int) -> Counter[tuple[Member, ...]]:
    """Sites by their members in the role with that index."""
    found: Counter[tuple[Member, ...]] = Counter()
    for signature in signatures:
        found[signature.members[index]] += signature.sites
    return found
