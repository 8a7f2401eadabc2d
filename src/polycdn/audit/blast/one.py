"""All metrics of one provider, from the files, without surveying everybody else."""

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
    """The same figures as in a whole look. Only edges that lead to the provider are looked at twice."""
    closure = Closure(leans_of(engine, asked.providers) if asked.providers else ())
    sites = sites_table(engine, asked.sites)
    fallen = closure.fallen((provider,))
    hits = engine.keep("hits", _hits(engine, sites, _marks(closure, provider, fallen)))
    together = _redundant_gone(engine, sites, hits, fallen) if len(fallen) > 1 else 0
    roles = hits.filter((hits["mark"] & USES) > 0).select("role").distinct()
    # A mark moves up by four places on a critical edge, so that one number a site holds all claims.
    held = hits.select("site", mark=(hits["mark"] * hits["critical"].ifelse(17, 1)).cast("int16"))
    per_site = held.group_by("site").aggregate(mark=held["mark"].bit_or())
    sums = {
        name: (per_site["mark"] & mark > 0).cast("int64").sum().fill_null(0)
        for name, mark in (("direct", USES), ("own", USES << 4), ("impact", NEEDS << 4), ("gone", FALLS << 4))
    }
    ((concentration, direct, own, impact, gone),) = engine.rows(
        per_site.aggregate(sites=per_site.count(), **sums)
    )
    return Radius(
        provider,
        tuple(sorted(role for (role,) in engine.rows(roles))),
        int(direct),
        int(concentration),
        int(own),
        int(impact),
        int(gone) + together,
    )


def _marks(closure: Closure, provider: str, fallen: frozenset[str]) -> dict[str, int]:
    needing = closure.dependents(provider, only_critical=True)
    return {
        name: LEADS + USES * (name == provider) + NEEDS * (name in needing) + FALLS * (name in fallen)
        for name in sorted(closure.dependents(provider) | fallen)
    }


def _hits(engine: Engine, sites: "ir.Table", marks: dict[str, int]) -> "ir.Table":
    """site, role, critical, mark of the edges to the providers that have marks."""
    if len(marks) <= CASES_MAX:
        mark = sites["provider"].cases(*marks.items(), else_=0)
        marked = sites.filter(mark > 0).mutate(mark=mark.cast("int16"))
    else:
        known = engine.small("marks", {"provider": "string", "mark": "int64"}, list(marks.items()))
        marked = sites.inner_join(known, "provider")
        marked = marked.mutate(mark=marked["mark"].cast("int16"))
    return marked.select("site", "role", "critical", "mark")


def _redundant_gone(engine: Engine, sites: "ir.Table", hits: "ir.Table", fallen: frozenset[str]) -> int:
    """Sites that lose a role only because all of its redundant providers fall together."""
    spare = hits.filter(~hits["critical"] & ((hits["mark"] & FALLS) > 0))
    groups = spare.group_by("site", "role").aggregate(hit=spare.count())
    several = engine.keep("several", groups.filter(groups["hit"] > 1).select("site").distinct())
    ((found,),) = engine.rows(several.aggregate(sites=several.count()))
    if not found:
        return 0
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
