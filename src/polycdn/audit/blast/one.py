"""All metrics of one provider, from the files, without surveying everybody else.

One pass adds up a number per site, in which every question about the site has a few bits of its own.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from polycdn.audit.blast.closure import Closure
from polycdn.audit.blast.engine import Engine
from polycdn.audit.blast.look import Question, radius_json, uncollected
from polycdn.audit.blast.metrics import Radius
from polycdn.audit.blast.numbering import WORD_BITS
from polycdn.audit.blast.tables import check_bad, check_repeated, leans_of, sites_table
from polycdn.errors import ConfigError, Fault

if TYPE_CHECKING:
    import ibis.expr.types as ir

USES: Final = 1
"""The edge leads to the provider itself; the other marks: critically, or it falls with it."""
NEEDS: Final = 2
FALLS: Final = 4
LEADS: Final = 8
"""The edge leads to it, maybe through others."""
CASES_MAX: Final = 64
"""Up to so many providers are compared one by one, which DuckDB does once a word of a Parquet dictionary."""
COUNT_BITS: Final = 4
"""Bits of a count. A site with more edges to these providers than they hold is a crowd, and counted apart."""
BAD, OWN, IMPACT, GONE = range(4)
"""What is counted of a site whatever the role: broken rows, critical edges of three kinds."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each count of a site stands: `places[i]` is the word of count i, and its first bit.

    Counts: the four above, then per role the edges to the provider itself, then per role the redundant ones
    that fall with it. Every edge adds `an_edge` to every word besides.
    """

    roles: tuple[str, ...]
    places: tuple[tuple[int, int], ...]
    bits: int
    an_edge: int

    @property
    def words(self) -> tuple[str, ...]:
        """The columns of the sums."""
        return tuple(f"word_{word}" for word in range(self.places[-1][0] + 1))

    @property
    def uses(self) -> range:
        """The counts of the edges to the provider itself, by role."""
        return range(GONE + 1, GONE + 1 + len(self.roles))

    @property
    def spares(self) -> range:
        """The counts of the redundant edges that fall with the provider, by role."""
        return range(self.uses.stop, self.uses.stop + len(self.roles))

    def read(self, words: Sequence[int]) -> tuple[int, ...]:
        """All counts, from the words of a site."""
        return tuple(words[word] >> first & (1 << self.bits) - 1 for word, first in self.places)


def packed(roles: Sequence[str]) -> Layout:
    """Few words, for sites of less than 2^COUNT_BITS edges: the uppermost bits of a word count them."""
    a_word = WORD_BITS // COUNT_BITS - 1
    places = tuple((i // a_word, i % a_word * COUNT_BITS) for i in range(GONE + 1 + 2 * len(roles)))
    return Layout(tuple(roles), places, COUNT_BITS, 1 << a_word * COUNT_BITS)


def unpacked(roles: Sequence[str]) -> Layout:
    """A word for each count: holds any crowd."""
    places = tuple((i, 0) for i in range(GONE + 1 + 2 * len(roles)))
    return Layout(tuple(roles), places, WORD_BITS, 0)


def look_only(engine: Engine, asked: Question, providers: Sequence[str]) -> dict[str, Any]:
    """The figures of these providers alone, as `blast --only --json` prints them. Raises ConfigError."""
    with uncollected():
        found = [one_radius(engine, asked, provider) for provider in providers]
    unknown = [each.provider for each in found if not each.concentration]
    if unknown:
        remedy = "write names as in the tables"
        raise ConfigError(
            tuple(Fault("--only", repr(name), "a provider of some site", remedy) for name in unknown)
        )
    return {"version": 1, "engine": engine.name, "providers": [radius_json(each) for each in found]}


def one_radius(engine: Engine, asked: Question, provider: str) -> Radius:
    """The same figures as in a whole look. Only the sites of edges that lead to the provider are read.

    Raises ConfigError for a broken row among these edges.
    """
    closure = Closure(leans_of(engine, asked.providers) if asked.providers else ())
    sites = sites_table(engine, asked.sites)
    fallen = closure.fallen((provider,))
    marks = _marks(closure, provider, fallen)
    roles = sorted(str(role) for (role,) in engine.rows(sites.select("role").distinct()) if role)
    hits, kinds = _hits(engine, sites, marks), frozenset(marks.values())
    found = _counted(engine, hits, kinds, packed(roles)) or _counted(engine, hits, kinds, unpacked(roles))
    assert found is not None, "a word for each count holds any crowd"
    check_bad(found.bad, asked.sites)
    check_repeated({(role, provider): count for role, count in found.repeated.items()}, asked.sites)
    several = _redundant_gone(engine, sites, hits, fallen, found.crowded) if found.crowded else 0
    return Radius(
        provider,
        tuple(sorted(found.used)),
        found.direct,
        found.sites,
        found.own,
        found.impact,
        found.gone + several,
    )


@dataclass(slots=True)
class _Found:
    """Sites by what was asked; roles in which the provider is used, in which several redundant ones fall with
    it, and sites that name it more than once by role.
    """

    sites: int = 0
    direct: int = 0
    own: int = 0
    impact: int = 0
    gone: int = 0
    bad: int = 0
    used: set[str] = field(default_factory=set)
    crowded: set[str] = field(default_factory=set)
    repeated: Counter[str] = field(default_factory=Counter)


def _counted(engine: Engine, hits: "ir.Table", kinds: Collection[int], layout: Layout) -> _Found | None:
    """None when a site has more edges than the layout holds."""
    found = _Found()
    for words, count in _words(engine, hits, kinds, layout):
        if min(words) < 0:
            return None
        counts = layout.read(words)
        used = {role for role, index in zip(layout.roles, layout.uses, strict=True) if counts[index]}
        found.sites += count
        found.direct += count * bool(used)
        found.own += count * bool(counts[OWN])
        found.impact += count * bool(counts[IMPACT])
        found.gone += count * bool(counts[GONE])
        found.bad += count * counts[BAD]
        found.used |= used
        for role, index in zip(layout.roles, layout.uses, strict=True):
            found.repeated[role] += count * (counts[index] > 1)
        found.crowded |= {
            r for r, index in zip(layout.roles, layout.spares, strict=True) if counts[index] > 1
        }
    return found


def _words(
    engine: Engine, hits: "ir.Table", marks: Collection[int], layout: Layout
) -> Iterator[tuple[tuple[int, ...], int]]:
    """The words of a site, and how many sites have them; a word below 0 stands for a crowd."""
    worths = {name: _worth(hits, marks, layout, word) for word, name in enumerate(layout.words)}
    keys = engine.site_keys(hits["site"], 1)
    held = hits.select(**keys, **worths)
    by_site = held.group_by([*keys]).aggregate(**{name: held[name].sum() for name in layout.words})
    if layout.an_edge:
        full = float(layout.an_edge << COUNT_BITS)
        by_site = by_site.select(
            **{name: (by_site[name] >= full).ifelse(-1.0, by_site[name]) for name in layout.words}
        )
    for *words, count in engine.rows(by_site.group_by([*layout.words]).aggregate(sites=by_site.count())):
        yield tuple(map(int, words)), int(count)


def _worth(hits: "ir.Table", marks: Collection[int], layout: Layout, word: int) -> "ir.Value":
    """What an edge adds to the word: a double, of which sums up to 2^53 are exact."""
    import ibis

    def number(count: int) -> int:
        where, first = layout.places[count]
        return 1 << first if where == word else 0

    def by_role(counts: Sequence[int]) -> "ir.NumericValue":
        numbers = zip(layout.roles, map(number, counts), strict=True)
        told = [(role, ibis.literal(value, "int64")) for role, value in numbers if value]
        nothing = ibis.literal(0, "int64")
        return hits["role"].cases(*told, else_=nothing) if told else nothing

    def marked(mark: int) -> "ir.NumericValue":
        needed = number(OWN) * bool(mark & USES) + number(IMPACT) * bool(mark & NEEDS)
        needed += number(GONE) * bool(mark & FALLS)
        spare = by_role(spares) if mark & FALLS else ibis.literal(0, "int64")
        worth = hits["critical"].ifelse(ibis.literal(needed, "int64"), spare)
        return worth + by_role(uses) if mark & USES else worth

    uses, spares = layout.uses, layout.spares
    worth = hits["mark"].cases(*((mark, marked(mark)) for mark in sorted(marks)), else_=0)
    is_bad = hits["critical"].isnull()
    for column in ("site", "role"):
        is_bad = is_bad | hits[column].isnull() | (hits[column] == "")
    worth = worth + is_bad.ifelse(number(BAD), 0) + ibis.literal(layout.an_edge, "int64")
    return worth.cast("float64")


def _has(hits: "ir.Table", mark: int) -> "ir.BooleanValue":
    has: ir.BooleanValue = (hits["mark"] & mark) > 0
    return has


def _marks(closure: Closure, provider: str, fallen: frozenset[str]) -> dict[str, int]:
    needing = closure.dependents(provider, only_critical=True)
    return {
        name: LEADS + USES * (name == provider) + NEEDS * (name in needing) + FALLS * (name in fallen)
        for name in sorted(closure.dependents(provider) | fallen)
    }


def _hits(engine: Engine, sites: "ir.Table", marks: dict[str, int]) -> "ir.Table":
    """The edges to the providers that have marks, with `mark`."""
    import ibis

    if len(marks) <= CASES_MAX:
        is_hit = sites["provider"].cases(*((name, 1) for name in marks), else_=0) > 0
        ((common, _),) = Counter(marks.values()).most_common(1)
        others = [(name, mark) for name, mark in marks.items() if mark != common]
        mark = sites["provider"].cases(*others, else_=common) if others else ibis.literal(common)
        return sites.filter(is_hit).mutate(mark=mark)
    known = engine.small("marks", {"provider": "string", "mark": "int64"}, list(marks.items()))
    return sites.inner_join(known, "provider")


def _redundant_gone(
    engine: Engine, sites: "ir.Table", hits: "ir.Table", fallen: frozenset[str], crowded: Collection[str]
) -> int:
    """Sites that lose a role only because all of its redundant providers fall together."""
    spare = hits.filter(~hits["critical"] & _has(hits, FALLS) & hits["role"].isin(sorted(crowded)))
    groups = spare.group_by("site", "role").aggregate(hit=spare.count())
    several = engine.keep("several", groups.filter(groups["hit"] > 1).select("site").distinct())
    theirs = sites.semi_join(several, "site")
    theirs = theirs.mutate(hit=theirs["provider"].isin(sorted(fallen)))
    by_role = theirs.group_by("site", "role").aggregate(
        gone=(theirs["critical"] & theirs["hit"]).any(),
        spare=(~theirs["critical"]).cast("int64").sum(),
        spare_hit=(~theirs["critical"] & theirs["hit"]).cast("int64").sum(),
    )
    by_site = by_role.group_by("site").aggregate(
        gone=by_role["gone"].any(),
        together=((by_role["spare"] > 1) & (by_role["spare"] == by_role["spare_hit"])).any(),
    )
    lost = by_site.filter(~by_site["gone"] & by_site["together"])
    ((count,),) = engine.rows(lost.aggregate(sites=lost.count()))
    return int(count)
