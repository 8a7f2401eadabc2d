"""All metrics of one provider, from the files, without surveying everybody else."""

from collections import Counter
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Final

from polycdn.audit.blast.closure import Closure
from polycdn.audit.blast.engine import Engine
from polycdn.audit.blast.look import Question
from polycdn.audit.blast.metrics import Radius
from polycdn.audit.blast.tables import leans_of, sites_table

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


def one_radius(engine: Engine, asked: Question, provider: str) -> Radius:
    """The same figures as in a whole look. Only the sites of edges that lead to the provider are read."""
    closure = Closure(leans_of(engine, asked.providers) if asked.providers else ())
    sites = sites_table(engine, asked.sites)
    fallen = closure.fallen((provider,))
    hits = _hits(engine, sites, _marks(closure, provider, fallen))
    kinds = engine.rows(hits.select("role", "provider", "critical").distinct())
    spare = Counter(role for role, name, critical in kinds if name in fallen and not critical)
    crowded = sorted(role for role, names in spare.items() if names > 1)
    (concentration, direct, own, impact, gone, several) = _reached(engine, hits, crowded)
    return Radius(
        provider,
        tuple(sorted({role for role, name, _ in kinds if name == provider})),
        direct,
        concentration,
        own,
        impact,
        gone + (_redundant_gone(engine, sites, hits, fallen, crowded) if several else 0),
    )


def _reached(engine: Engine, hits: "ir.Table", crowded: Sequence[str]) -> tuple[int, ...]:
    """Sites: all, with the provider, critically, critically by any path, gone, with several spare in a role.

    `crowded` = roles in which several providers fall that are somebody's redundant ones.
    """
    keys = engine.site_keys(hits["site"])
    needed = hits["critical"]
    claims = {
        "direct": _has(hits, USES),
        "own": needed & _has(hits, USES),
        "impact": needed & _has(hits, NEEDS),
        "gone": needed & _has(hits, FALLS),
    }
    is_spare = ~needed & _has(hits, FALLS)
    spare = {f"spare_{i}": is_spare & (hits["role"] == role) for i, role in enumerate(crowded)}
    held = hits.select(**keys, **claims, **spare)
    per_site = held.group_by([*keys]).aggregate(
        **{name: held[name].any() for name in claims},
        **{name: held[name].cast("int32").sum() for name in spare},
    )
    found = {name: per_site[name] for name in claims}
    if spare:
        found["several"] = reduce(or_, (per_site[name] > 1 for name in spare))
    sums = {name: each.cast("int64").sum().fill_null(0) for name, each in found.items()}
    (row,) = engine.rows(per_site.aggregate(sites=per_site.count(), **sums))
    return (*map(int, row), *(() if spare else (0,)))


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
    engine: Engine, sites: "ir.Table", hits: "ir.Table", fallen: frozenset[str], crowded: Sequence[str]
) -> int:
    """Sites that lose a role only because all of its redundant providers fall together."""
    spare = hits.filter(~hits["critical"] & ((hits["mark"] & FALLS) > 0) & hits["role"].isin(crowded))
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
