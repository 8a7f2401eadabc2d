"""Metrics of providers and roles, out of a survey. Pure; definitions and their sources: docs/blast.md."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from operator import and_, or_

from polycdn.audit.blast.closure import Closure
from polycdn.audit.blast.survey import Member, RoleCount, Signature, Survey, by_members

FULL_BP = 10_000


@dataclass(frozen=True, slots=True)
class Radius:
    """What hangs on one provider, in sites.

    `direct` use it themselves, `concentration` (= affected) also through other providers; `impact_direct` and
    `impact` count critical edges only; `unreachable` are gone when it is down, shared failures of redundant
    providers among them.
    """

    provider: str
    roles: tuple[str, ...]
    direct: int
    concentration: int
    impact_direct: int
    impact: int
    unreachable: int

    @property
    def amplification(self) -> float | None:
        """Concentration by direct concentration, None when nobody uses it directly."""
        return self.concentration / self.direct if self.direct else None


@dataclass(frozen=True, slots=True)
class RoleMetrics:
    """One role. Shares are of the sites that have the role; `top` = (k, sites critically on the top k)."""

    role: str
    sites: int
    edges: int
    providers: int
    hhi: float
    centralization: float
    third_party: int
    critical_third_party: int
    redundant: int
    top: tuple[tuple[int, int, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class _Reach:
    """Per (role, members): providers that these members hang on, in the five ways of `Radius`."""

    direct: frozenset[str]
    any: frozenset[str]
    critical_direct: frozenset[str]
    critical: frozenset[str]
    fallen: frozenset[str]

    @property
    def ways(self) -> tuple[frozenset[str], ...]:
        """All five, in the order of `Radius`."""
        return self.direct, self.any, self.critical_direct, self.critical, self.fallen


class Reaches:
    """The providers behind members, remembered."""

    def __init__(self, roles: tuple[RoleCount, ...], closure: Closure) -> None:
        self._roles = roles
        named = {name for role in roles for name in role.names if name} | closure.nodes
        self._any: dict[str, set[str]] = defaultdict(set)
        self._critical: dict[str, set[str]] = defaultdict(set)
        self._fallen: dict[str, set[str]] = defaultdict(set)
        for name in sorted(named):
            for index, found in (
                (self._any, closure.dependents(name)),
                (self._critical, closure.dependents(name, only_critical=True)),
                (self._fallen, closure.fallen((name,))),
            ):
                for dependent in found:
                    index[dependent].add(name)
        self._memory: dict[tuple[int, tuple[Member, ...]], _Reach] = {}

    def of(self, index: int, members: tuple[Member, ...]) -> _Reach:
        """What the members of the role with that index hang on."""
        key = index, members
        if key not in self._memory:
            self._memory[key] = self._reach(self._roles[index].names, members)
        return self._memory[key]

    def _reach(self, names: tuple[str, ...], members: tuple[Member, ...]) -> _Reach:
        told = [names[number] for number, _, _ in members if number]
        needed = [names[number] for number, critical, _ in members if number and critical]
        spare = [names[number] for number, critical, _ in members if not critical]
        fallen = {p for name in needed for p in self._fallen[name]}
        if len(spare) > 1 and all(spare):
            fallen |= set.intersection(*(self._fallen[name] for name in spare))
        return _Reach(
            frozenset(told),
            frozenset(p for name in told for p in self._any[name]),
            frozenset(needed),
            frozenset(p for name in needed for p in self._critical[name]),
            frozenset(fallen),
        )


def radii(survey: Survey, closure: Closure) -> tuple[Radius, ...]:
    """Every listed provider's radius, the widest first."""
    counts = _counted(survey, Reaches(survey.roles, closure))
    apart = {name for role in survey.roles for name in role.names if name} | closure.nodes
    roles: dict[str, set[str]] = defaultdict(set)
    for edges in survey.edges:
        roles[edges.provider].add(edges.role)
    found = [
        Radius(name, tuple(sorted(roles.get(name, ()))), *(counter[name] for counter in counts))
        for name in apart
        if counts[1][name]
    ]
    found += _alone(survey, apart)
    return tuple(sorted(found, key=lambda r: (-r.unreachable, -r.concentration, r.provider)))


def _counted(survey: Survey, reaches: "Reaches") -> tuple[Counter[str], ...]:
    """Sites by provider in each of the five ways.

    Counted by role, less what that counts twice; sets of (provider, way) are bits of integers, for speed.
    """
    bits: dict[tuple[str, int], int] = {}
    found: tuple[Counter[str], ...] = tuple(Counter() for _ in range(5))
    sites = [signature.sites for signature in survey.signatures]
    seen = [0] * len(sites)
    twice: Counter[int] = Counter()
    for index in range(len(survey.roles)):
        column = [signature.members[index] for signature in survey.signatures]
        masks = {members: _mask(reaches.of(index, members), bits) for members in set(column)}
        for members, count in by_members(survey.signatures, index).items():
            for way, names in enumerate(reaches.of(index, members).ways):
                for name in names:
                    found[way][name] += count
        row = [masks[members] for members in column]
        for mask, count in zip(map(and_, seen, row), sites, strict=True):
            if mask:
                twice[mask] += count
        seen = list(map(or_, seen, row))
    keys = list(bits)
    for mask, count in twice.items():
        while mask:
            lowest = mask & -mask
            name, way = keys[lowest.bit_length() - 1]
            found[way][name] -= count
            mask ^= lowest
    return found


def _mask(reach: _Reach, bits: dict[tuple[str, int], int]) -> int:
    ways = enumerate(reach.ways)
    return sum(bits.setdefault((name, way), 1 << len(bits)) for way, names in ways for name in names)


def _alone(survey: Survey, apart: set[str]) -> list[Radius]:
    """Providers on which nothing hangs but their own edges: counted edge by edge."""
    total: Counter[str] = Counter()
    critical: Counter[str] = Counter()
    roles: dict[str, set[str]] = defaultdict(set)
    for edges in survey.edges:
        if edges.provider not in apart:
            total[edges.provider] += edges.sites
            critical[edges.provider] += edges.sites * edges.critical
            roles[edges.provider].add(edges.role)
    once = dict(survey.tail_sites)
    return [
        Radius(name, tuple(sorted(roles[name])), sites, sites, least, least, least)
        for name, edges in total.items()
        if (sites := once.get(name, edges)) and (least := min(sites, critical[name])) >= 0
    ]


def role_metrics(survey: Survey, tops: Iterable[int] = (1, 3, 5, 10)) -> tuple[RoleMetrics, ...]:
    """One entry a role, in the order of their names."""
    return tuple(_role(survey, index, role, tuple(tops)) for index, role in enumerate(survey.roles))


def _role(survey: Survey, index: int, role: RoleCount, tops: tuple[int, ...]) -> RoleMetrics:
    sites = third = critical = redundant = 0
    on: Counter[str] = Counter()
    for members, count in by_members(survey.signatures, index).items():
        if not members:
            continue
        sites += count
        third += count * any(not private for _, _, private in members)
        critical += count * any(needed and not private for _, needed, private in members)
        redundant += count * (len(members) > 1 and not any(needed for _, needed, _ in members))
    for edges in survey.edges:
        if edges.role == role.role and edges.critical:
            on[edges.provider] += edges.sites
    squares = sum(size * size * count for size, count in role.sizes)
    hhi = squares / role.edges**2
    ranked = sorted(on, key=lambda name: (-on[name], name))
    return RoleMetrics(
        role.role, sites, role.edges, role.providers, hhi, hhi - 1 / role.edges, third, critical, redundant,
        tuple((k, sum(on[name] for name in ranked[:k]), tuple(ranked[:k])) for k in tops),
    )  # fmt: skip


def any_critical(survey: Survey) -> int:
    """Sites that hang critically on a third party in any role."""
    hanging = [False] * len(survey.signatures)
    for index in range(len(survey.roles)):
        column = [signature.members[index] for signature in survey.signatures]
        hangs = {each: any(needed and not private for _, needed, private in each) for each in set(column)}
        hanging = [was or hangs[members] for was, members in zip(hanging, column, strict=True)]
    return sum(each.sites for each, hangs_on in zip(survey.signatures, hanging, strict=True) if hangs_on)


def lorenz(role: RoleCount, points: int = 60) -> tuple[tuple[float, float], ...]:
    """(share of the providers, share of the edges that the smallest of them carry), from (0, 0) to (1, 1)."""
    curve, providers, edges = [(0.0, 0.0)], 0, 0
    all_providers, all_edges = role.providers, role.edges
    for size, count in reversed(role.sizes):
        providers, edges = providers + count, edges + size * count
        curve.append((providers / all_providers, edges / all_edges))
    stride = max(1, len(curve) // points)
    return (*curve[:-1:stride], curve[-1])


def condensed(survey: Survey, closure: Closure, candidates: Iterable[str]) -> tuple[Signature, ...]:
    """The signatures with everybody on whom no candidate has an effect made anonymous: far fewer."""
    wanted = set(candidates)
    hit = {name for each in wanted for name in closure.dependents(each)}
    shown: list[list[tuple[Member, ...]]] = []
    columns: list[list[int]] = []
    for index, role in enumerate(survey.roles):
        column = [signature.members[index] for signature in survey.signatures]
        plain = {members: _condensed(members, role.names, hit) for members in set(column)}
        shown.append(sorted(set(plain.values())))
        place = {members: number for number, members in enumerate(shown[-1])}
        numbers = {members: place[less] for members, less in plain.items()}
        columns.append([numbers[members] for members in column])
    found: Counter[tuple[int, ...]] = Counter()
    tops = [signature.is_top for signature in survey.signatures]
    for key, signature in zip(zip(tops, *columns, strict=True), survey.signatures, strict=True):
        found[key] += signature.sites
    return tuple(
        Signature(tuple(shown[index][number] for index, number in enumerate(numbers)), bool(is_top), sites)
        for (is_top, *numbers), sites in found.items()
    )


def _condensed(members: tuple[Member, ...], names: tuple[str, ...], hit: set[str]) -> tuple[Member, ...]:
    plain = [(number if names[number] in hit else 0, critical, False) for number, critical, _ in members]
    return tuple(sorted(plain)) if any(number for number, _, _ in plain) else ()
