"""One whole look at a table of sites, as `polycdn blast --json` prints it (docs/blast.md)."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from polycdn.audit.blast.closure import Closure
from polycdn.audit.blast.engine import Engine
from polycdn.audit.blast.metrics import Radius, RoleMetrics, any_critical, lorenz, radii, role_metrics
from polycdn.audit.blast.survey import Survey
from polycdn.audit.blast.tables import leans_of
from polycdn.audit.blast.take import Wish, take
from polycdn.audit.blast.whatif import Outcome, WhatIf
from polycdn.errors import ConfigError, Fault

CANDIDATES: Final = 20
PAIRED: Final = 10


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the tables, who is down, which share shall fall, the top N sites, the table before."""

    sites: tuple[Path, ...]
    providers: tuple[Path, ...] = ()
    down: tuple[str, ...] = ()
    share_bp: int = 5_000
    top: int = 0
    listed: int = 1_000
    before: tuple[Path, ...] = ()


def look(engine: Engine, asked: Question) -> dict[str, Any]:
    """Everything about the tables. Raises ConfigError for what is wrong with them or with the question."""
    with uncollected():
        return _look(engine, asked)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the search for cycles: the tuples have none, and it would visit all of them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _look(engine: Engine, asked: Question) -> dict[str, Any]:
    closure = Closure(leans_of(engine, asked.providers) if asked.providers else ())
    survey = take(engine, asked.sites, _wish(asked, closure))
    found = radii(survey, closure)
    _check_down(asked, found, closure)
    leading = [each.provider for each in found[:CANDIDATES]]
    told = {name for role in survey.roles for name in role.names if name} | closure.nodes
    what_if = WhatIf(survey, closure, told & {*leading, *asked.down})
    paired = [name for name in leading if name in what_if.candidates][:PAIRED]
    roles = role_metrics(survey)
    smallest = what_if.smallest(asked.share_bp)
    shown: dict[str, Any] = {
        "version": 1,
        "engine": engine.name,
        "sites": survey.sites,
        "edges": sum(role.edges for role in survey.roles),
        "any_critical_third_party": any_critical(survey),
        "closure_rule": "a path of edges; critical: every edge of it critical; see docs/blast.md",
        "roles": [role_json(role, lorenz(count)) for role, count in zip(roles, survey.roles, strict=True)],
        "providers": [radius_json(each, survey.sites) for each in found[: asked.listed]],
        "down": outcome_json(what_if.down(asked.down), survey) if asked.down else None,
        "pairs": {"providers": paired, "unreachable": what_if.pairs(paired)},
        "smallest_set": None
        if smallest is None
        else {
            "share_bp": smallest.share_bp,
            "providers": smallest.providers,
            "unreachable": smallest.unreachable,
            "is_proven": smallest.is_proven,
        },
        "second_provider": _second(what_if, paired, asked.top) if asked.top else None,
        "trends": None,
    }
    if asked.before:
        earlier = take(engine, asked.before, _wish(asked, closure))
        shown["trends"] = trends(role_metrics(earlier), roles, radii(earlier, closure), found)
    return shown


def _wish(asked: Question, closure: Closure) -> Wish:
    return Wish(closure.nodes | set(asked.down), asked.top, asked.listed)


def _check_down(asked: Question, found: Sequence[Radius], closure: Closure) -> None:
    known = {each.provider for each in found} | closure.nodes
    unknown = [name for name in asked.down if name not in known]
    if unknown:
        allowed = ", ".join(each.provider for each in found[:8]) + ", ..."
        remedy = "write names as in the tables"
        raise ConfigError(tuple(Fault("--down", repr(name), allowed, remedy) for name in unknown))


def role_json(role: RoleMetrics, curve: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """One role."""
    return {
        "role": role.role,
        "sites": role.sites,
        "edges": role.edges,
        "providers": role.providers,
        "hhi": round(role.hhi, 6),
        "centralization": round(role.centralization, 6),
        "third_party": role.third_party,
        "critical_third_party": role.critical_third_party,
        "redundant": role.redundant,
        "top": [{"k": k, "critical_sites": sites, "providers": names} for k, sites, names in role.top],
        "lorenz": [[round(x, 5), round(y, 5)] for x, y in curve],
    }


def radius_json(radius: Radius, sites: int | None = None) -> dict[str, Any]:
    """One provider; the share is of all sites of the table, None when these were not counted."""
    return {
        "provider": radius.provider,
        "roles": radius.roles,
        "concentration_direct": radius.direct,
        "concentration": radius.concentration,
        "impact_direct": radius.impact_direct,
        "impact": radius.impact,
        "amplification": None if radius.amplification is None else round(radius.amplification, 4),
        "unreachable": radius.unreachable,
        "unreachable_share": None if sites is None else round(radius.unreachable / sites, 6),
        "affected": radius.concentration,
    }


def outcome_json(outcome: Outcome, survey: Survey) -> dict[str, Any]:
    """What falls when some are down."""
    return {
        "down": outcome.down,
        "fallen": outcome.fallen,
        "unreachable": outcome.unreachable,
        "unreachable_share": round(outcome.unreachable / survey.sites, 6),
        "affected": outcome.affected,
        "by_role": dict(outcome.by_role),
    }


def _second(what_if: WhatIf, providers: Sequence[str], top: int) -> dict[str, Any]:
    return {
        "top": top,
        "providers": [
            {
                "provider": saved.provider,
                "unreachable": saved.unreachable,
                "saved_by_role": dict(saved.by_role),
                "saved_all_roles": saved.all_roles,
            }
            for saved in what_if.second_provider(providers)
        ],
    }


def trends(
    before: Sequence[RoleMetrics],
    after: Sequence[RoleMetrics],
    were: Sequence[Radius],
    are: Sequence[Radius],
) -> dict[str, Any]:
    """What changed between two tables: by role as differences of shares, by provider in sites."""
    old = {role.role: role for role in before}
    roles = [
        {
            "role": role.role,
            "hhi": round(role.hhi - old[role.role].hhi, 6),
            "centralization": round(role.centralization - old[role.role].centralization, 6),
            "third_party_share": _change(role, old[role.role], "third_party"),
            "critical_third_party_share": _change(role, old[role.role], "critical_third_party"),
            "redundant_share": _change(role, old[role.role], "redundant"),
        }
        for role in after
        if role.role in old
    ]
    was = {each.provider: each for each in were}
    now = {each.provider: each for each in are}
    moved = [
        {
            "provider": name,
            "concentration": (now[name].concentration if name in now else 0)
            - (was[name].concentration if name in was else 0),
            "impact": (now[name].impact if name in now else 0) - (was[name].impact if name in was else 0),
        }
        for name in {*was, *now}
    ]
    moved.sort(key=lambda each: (-abs(each["concentration"]), each["provider"]))  # type: ignore[arg-type]
    return {"roles": roles, "providers": moved[:50]}


def _change(role: RoleMetrics, old: RoleMetrics, name: str) -> float:
    now: int = getattr(role, name)
    was: int = getattr(old, name)
    return round(now / role.sites - was / old.sites, 6)
