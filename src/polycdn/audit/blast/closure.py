"""Which providers lean on which: closure and falls over the small graph of provider -> provider. Pure.

The closure rule: q depends on p when a path of edges leads from q to p, critically when every edge of a
path is critical. p is part of its own closure. Providers that are down take q with them when one of q's
critical edges leads to a fallen provider, or when all of the (at least two) redundant edges that q has for
one role do; again and again until nothing more falls. A lone edge that is not critical has its alternative
outside of the table and takes nobody down.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lean:
    """`provider` uses `depends_on` for `role`; critical = it cannot serve without."""

    provider: str
    role: str
    depends_on: str
    critical: bool


class Closure:
    """Answers about one table of provider -> provider edges; cycles are allowed."""

    def __init__(self, leans: Iterable[Lean] = ()) -> None:
        self.leans = tuple(sorted(set(leans), key=lambda e: (e.provider, e.role, e.depends_on, e.critical)))
        self.nodes = frozenset(name for lean in self.leans for name in (lean.provider, lean.depends_on))
        self._users: dict[str, list[Lean]] = defaultdict(list)
        self._groups: dict[tuple[str, str], set[str]] = defaultdict(set)
        for lean in self.leans:
            self._users[lean.depends_on].append(lean)
            if not lean.critical:
                self._groups[lean.provider, lean.role].add(lean.depends_on)

    def dependents(self, provider: str, *, only_critical: bool = False) -> frozenset[str]:
        """Providers from which a path (of critical edges) leads to `provider`, itself among them."""
        found, todo = {provider}, [provider]
        while todo:
            for lean in self._users.get(todo.pop(), ()):
                if (lean.critical or not only_critical) and lean.provider not in found:
                    found.add(lean.provider)
                    todo.append(lean.provider)
        return frozenset(found)

    def fallen(self, down: Iterable[str]) -> frozenset[str]:
        """Providers that cannot serve while those of `down` cannot, these among them."""
        found = set(down)
        todo = list(found)
        while todo:
            for lean in self._users.get(todo.pop(), ()):
                if lean.provider in found:
                    continue
                group = self._groups.get((lean.provider, lean.role), set())
                if lean.critical or (len(group) > 1 and group <= found):
                    found.add(lean.provider)
                    todo.append(lean.provider)
        return frozenset(found)

    def jointly_fallen(self) -> frozenset[str]:
        """Providers that a set may take down although none of its members would."""
        found = {provider for (provider, _), group in self._groups.items() if len(group) > 1}
        todo = list(found)
        while todo:
            for lean in self._users.get(todo.pop(), ()):
                if lean.provider not in found:
                    found.add(lean.provider)
                    todo.append(lean.provider)
        return frozenset(found)
