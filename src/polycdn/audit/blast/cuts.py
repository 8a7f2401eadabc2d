"""Sites by what takes them down, for asking about many sets of a few candidates quickly. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence

from polycdn.audit.blast.closure import Closure
from polycdn.audit.blast.survey import Member, Signature, Survey

Part = tuple[int, tuple[Member, ...]]
"""The index of a role, and a site's members in it."""


class Cuts:
    """Signatures merged into (candidates of whom each alone takes the site down, parts that only sets do)."""

    def __init__(
        self, survey: Survey, closure: Closure, candidates: Sequence[str], signatures: Iterable[Signature]
    ) -> None:
        self._survey = survey
        self._closure = closure
        self._bits = {name: 1 << index for index, name in enumerate(candidates)}
        self._alone: dict[str, int] = {}
        for name, bit in self._bits.items():
            for fallen in closure.fallen((name,)):
                self._alone[fallen] = self._alone.get(fallen, 0) | bit
        self._joint = closure.jointly_fallen()
        memory: dict[Part, tuple[int, bool]] = {}
        self._sites: Counter[tuple[int, tuple[Part, ...]]] = Counter()
        for signature in signatures:
            mask, parts = 0, []
            for part in enumerate(signature.members):
                if part not in memory:
                    memory[part] = self._judge(part)
                alone, is_joint = memory[part]
                mask |= alone
                if is_joint:
                    parts.append(part)
            self._sites[mask, tuple(parts)] += signature.sites

    def _judge(self, part: Part) -> tuple[int, bool]:
        """Who takes the role down alone, and whether sets may that none of their members would alone."""
        index, members = part
        names = self._survey.roles[index].names
        needed = [names[number] for number, critical, _ in members if critical and number]
        spare = [names[number] for number, critical, _ in members if not critical]
        mask = 0
        for name in needed:
            mask |= self._alone.get(name, 0)
        is_group = len(spare) > 1 and all(spare)
        if is_group:
            common = -1
            for name in spare:
                common &= self._alone.get(name, 0)
            mask |= common
        return mask, is_group or any(name in self._joint for name in needed)

    def unreachable(self, down: Iterable[str]) -> int:
        """Sites that are gone when these candidates are down at once."""
        asked = frozenset(down)
        wanted = sum(self._bits[name] for name in asked)
        fallen = self._closure.fallen(asked)
        memory: dict[Part, bool] = {}
        total = 0
        for (mask, parts), sites in self._sites.items():
            if mask & wanted or any(self._has_fallen(part, fallen, memory) for part in parts):
                total += sites
        return total

    def _has_fallen(self, part: Part, fallen: frozenset[str], memory: dict[Part, bool]) -> bool:
        if part not in memory:
            index, members = part
            names = self._survey.roles[index].names
            needed = any(critical and names[number] in fallen for number, critical, _ in members)
            spare = [names[number] for number, critical, _ in members if not critical]
            memory[part] = needed or (len(spare) > 1 and fallen.issuperset(spare))
        return memory[part]
