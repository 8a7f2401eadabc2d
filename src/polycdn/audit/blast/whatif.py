"""What if: sets of providers down, pairs, the smallest set for a share, a second provider. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from polycdn.audit.blast.closure import Closure
from polycdn.audit.blast.cuts import Cuts
from polycdn.audit.blast.metrics import condensed
from polycdn.audit.blast.survey import Member, Signature, Survey

EXACT_SIZE: Final = 3
"""Up to so many providers every set of the first `TRIED` is tried; beyond, the next best one is added."""
TRIED: Final = 12


@dataclass(frozen=True, slots=True)
class Outcome:
    """`down` are out of service, `fallen` with them; sites by what becomes of them."""

    down: tuple[str, ...]
    fallen: tuple[str, ...]
    unreachable: int
    affected: int
    by_role: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Smallest:
    """The smallest set found. `is_proven` = no smaller one of the candidates does it."""

    share_bp: int
    providers: tuple[str, ...]
    unreachable: int
    is_proven: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """Of the sites that fall with `provider`: those among the top N that a second provider would save."""

    provider: str
    unreachable: int
    by_role: tuple[tuple[str, int], ...]
    all_roles: int


class WhatIf:
    """Questions about a few candidates, on signatures that tell only these apart."""

    def __init__(self, survey: Survey, closure: Closure, candidates: Collection[str]) -> None:
        self._survey = survey
        self._closure = closure
        self._signatures = condensed(survey, closure, candidates)
        self.candidates = tuple(sorted(candidates))
        self._cuts = Cuts(survey, closure, self.candidates, self._signatures)

    def down(self, providers: Collection[str]) -> Outcome:
        """What falls when these, all of them candidates, are down at once."""
        assert set(providers) <= set(self.candidates), "asked for a provider that is not told apart"
        fallen = self._closure.fallen(providers)
        touched = frozenset(name for each in providers for name in self._closure.dependents(each))
        unreachable = affected = 0
        by_role = dict.fromkeys((role.role for role in self._survey.roles), 0)
        falls = _Falls(self._survey, fallen)
        touches = _Touches(self._survey, touched)
        for signature in self._signatures:
            lost = [i for i, members in enumerate(signature.members) if members and falls.has(i, members)]
            for index in lost:
                by_role[self._survey.roles[index].role] += signature.sites
            unreachable += signature.sites * bool(lost)
            affected += signature.sites * any(
                touches.has(i, members) for i, members in enumerate(signature.members) if members
            )
        return Outcome(
            tuple(sorted(providers)), tuple(sorted(fallen)), unreachable, affected, tuple(by_role.items())
        )

    def unreachable(self, providers: Collection[str]) -> int:
        """Sites that are gone when these are down at once."""
        return self._cuts.unreachable(providers)

    def _lost(self, fallen: frozenset[str]) -> list[Signature]:
        falls = _Falls(self._survey, fallen)
        return [
            each
            for each in self._signatures
            if any(falls.has(i, members) for i, members in enumerate(each.members) if members)
        ]

    def pairs(self, providers: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """matrix[i][j] = sites that are gone when i and j are down; the diagonal is one alone."""
        count = len(providers)
        matrix = [[0] * count for _ in range(count)]
        for i in range(count):
            for j in range(i, count):
                matrix[i][j] = matrix[j][i] = self.unreachable({providers[i], providers[j]})
        return tuple(map(tuple, matrix))

    def smallest(self, share_bp: int) -> Smallest | None:
        """The fewest candidates that take down that share of all sites; None when all together do not."""
        needed = -(-self._survey.sites * share_bp // 10_000)
        alone = {name: self.unreachable((name,)) for name in self.candidates}
        order = sorted(self.candidates, key=lambda name: (-alone[name], name))
        if self.unreachable(order) < needed:
            return None
        chosen = self._greedy(order, needed)
        for size in range(1, min(EXACT_SIZE, len(chosen) - 1) + 1):
            best = max(combinations(order[:TRIED], size), key=lambda names: (self.unreachable(names), names))
            if self.unreachable(best) >= needed:
                chosen = list(best)
                break
        # One alone was tried with every candidate, so a pair that does it is the smallest.
        is_proven = len(chosen) <= 2 or (len(order) <= TRIED and len(chosen) <= EXACT_SIZE + 1)
        return Smallest(share_bp, tuple(sorted(chosen)), self.unreachable(chosen), is_proven)

    def _greedy(self, order: Sequence[str], needed: int) -> list[str]:
        chosen: list[str] = []
        while self.unreachable(chosen) < needed:
            rest = [name for name in order if name not in chosen]
            chosen.append(max(rest, key=lambda name: (self.unreachable([*chosen, name]), name)))
        return chosen

    def second_provider(self, providers: Sequence[str]) -> tuple[Saved, ...]:
        """What falls with each, and what a second, independent provider for the top sites would save."""
        return tuple(self._saved(name) for name in providers)

    def _saved(self, provider: str) -> Saved:
        fallen = self._closure.fallen((provider,))
        falls = _Falls(self._survey, fallen)
        lost = self._lost(fallen)
        roles = [role.role for role in self._survey.roles]
        saved = dict.fromkeys(roles, 0)
        every = 0
        for signature in lost:
            if not signature.is_top:
                continue
            every += signature.sites
            hit = [i for i, members in enumerate(signature.members) if members and falls.has(i, members)]
            if len(hit) == 1:
                saved[roles[hit[0]]] += signature.sites
        return Saved(provider, sum(each.sites for each in lost), tuple(saved.items()), every)


class _Remembered(ABC):
    def __init__(self, survey: Survey, names: frozenset[str]) -> None:
        self._names = [
            frozenset(number for number, name in enumerate(role.names) if number and name in names)
            for role in survey.roles
        ]
        self._memory: dict[tuple[int, tuple[Member, ...]], bool] = {}

    def has(self, index: int, members: tuple[Member, ...]) -> bool:
        key = index, members
        if key not in self._memory:
            self._memory[key] = self._judge(self._names[index], members)
        return self._memory[key]

    @abstractmethod
    def _judge(self, hit: frozenset[int], members: tuple[Member, ...]) -> bool:
        """What is remembered."""


class _Falls(_Remembered):
    """Whether a site loses the role."""

    def _judge(self, hit: frozenset[int], members: tuple[Member, ...]) -> bool:
        if any(critical and number in hit for number, critical, _ in members):
            return True
        spare = [number for number, critical, _ in members if not critical]
        return len(spare) > 1 and hit.issuperset(spare)


class _Touches(_Remembered):
    """Whether a site has any of them in the role."""

    def _judge(self, hit: frozenset[int], members: tuple[Member, ...]) -> bool:
        return any(number in hit for number, _, _ in members)
