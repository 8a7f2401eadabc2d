"""All metrics of one provider, from the files, without surveying everybody else."""

from typing import TYPE_CHECKING

from polycdn.audit.blast.closure import Closure
from polycdn.audit.blast.engine import Engine
from polycdn.audit.blast.look import Question
from polycdn.audit.blast.metrics import Radius
from polycdn.audit.blast.tables import leans_of, sites_table

if TYPE_CHECKING:
    import ibis.expr.types as ir


def one_radius(engine: Engine, asked: Question, provider: str) -> Radius:
    """The same figures as in a whole look. Only edges that lead to the provider are read."""
    closure = Closure(leans_of(engine, asked.providers) if asked.providers else ())
    sites = sites_table(engine, asked.sites)
    reach = closure.dependents(provider)
    critical = closure.dependents(provider, only_critical=True)
    fallen = closure.fallen((provider,))
    theirs = sites.filter(sites["provider"].isin(sorted(reach)))
    flags = theirs.select(
        site=engine.site_key(theirs["site"]),
        direct=theirs["provider"] == provider,
        direct_critical=(theirs["provider"] == provider) & theirs["critical"],
        critical=theirs["provider"].isin(sorted(critical)) & theirs["critical"],
        gone=theirs["provider"].isin(sorted(fallen)) & theirs["critical"],
    )
    columns = ("direct", "direct_critical", "critical", "gone")
    per_site = flags.group_by("site").aggregate(**{name: flags[name].any() for name in columns})
    sums = {name: per_site[name].cast("int64").sum().fill_null(0) for name in columns}
    ((concentration, direct, direct_critical, impact, gone),) = engine.rows(
        per_site.aggregate(sites=per_site.count(), **sums)
    )
    together = _redundant_gone(engine, sites, fallen) if len(fallen) > 1 else 0
    roles = engine.rows(theirs.filter(theirs["provider"] == provider).select("role").distinct())
    names = tuple(sorted(role for (role,) in roles))
    return Radius(
        provider,
        names,
        int(direct),
        int(concentration),
        int(direct_critical),
        int(impact),
        int(gone) + together,
    )


def _redundant_gone(engine: Engine, sites: "ir.Table", fallen: frozenset[str]) -> int:
    """Sites that lose a role only because all of its redundant providers fall together."""
    hit = sites["provider"].isin(sorted(fallen))
    spare = sites.filter(~sites["critical"] & hit)
    groups = spare.group_by("site", "role").aggregate(hit=spare.count())
    several = groups.filter(groups["hit"] > 1)
    names = several.select("site").distinct()
    theirs = sites.semi_join(names, "site")
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
