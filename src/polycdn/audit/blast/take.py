"""The pass over the sites: the same ibis expressions for every engine, a `Survey` as the result.

1. Count edges by (role, provider, critical, private).
2. Choose whom to tell apart: providers of the table of providers, those that serve in several roles, the
   biggest, and those asked for. All others only matter one by one, and step 1 has counted them.
3. Add up one number per edge by site (numbering.py), then count sites by their sums.
4. Sites with more than two edges in a role are read one by one.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from polycdn.audit.blast.engine import Engine
from polycdn.audit.blast.numbering import Field, fields_of
from polycdn.audit.blast.survey import Edges, Member, RoleCount, Signature, Survey, by_members
from polycdn.audit.blast.tables import check_counts, sites_table
from polycdn.errors import ConfigError, Fault

if TYPE_CHECKING:
    import ibis.expr.types as ir

EDGES_MAX: Final = 15
"""Edges of one site that a sum can hold; sites with more are read one by one."""
BIGGEST: Final = 16
SEVERAL_ROLES_MAX: Final = 500
ROLES_MAX: Final = 32
LISTED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What to look at: providers to tell apart, the top N sites (0 = none), how many providers to list."""

    apart: frozenset[str] = frozenset()
    top: int = 0
    listed: int = LISTED


def take(engine: Engine, paths: Sequence[Path], wish: Wish) -> Survey:
    """The survey of one table. Raises ConfigError for what is wrong with it."""
    sites = sites_table(engine, paths, is_ranked=wish.top > 0)
    counts = engine.keep("edge_counts", _counts(sites))
    bad = _is_bad(counts).ifelse(counts["edges"], 0).sum()
    totals = counts.aggregate(all=counts["edges"].sum().fill_null(0), bad=bad.fill_null(0))
    check_counts(engine.rows(totals), paths)
    sizes = _sizes(engine, counts)
    if len(sizes) > ROLES_MAX:
        found = f"{len(sizes)} roles"
        raise ConfigError((Fault(str(paths[0]), found, f"at most {ROLES_MAX}", "merge some of them"),))
    several, left_over = _several_roles(engine, counts)
    apart = wish.apart | set(_biggest(engine, counts, BIGGEST)) | several
    names = _names(engine, counts, apart, tuple(sizes))
    kinds = {role: 4 * len(found) for role, found in names.items()}
    fields = fields_of(kinds, EDGES_MAX)
    known = engine.small("known_providers", _known_columns(fields), _known_rows(names))
    told = _encoded(sites, known, fields, engine.site_key)
    sums = engine.keep("site_sums", _sums(told, fields, wish.top))
    signatures = _read(engine, sums, fields) + _odd(engine, sums, told, fields)
    _refuse_repeated(signatures, names, paths)
    return Survey(
        sites=sum(each.sites for each in signatures),
        roles=tuple(RoleCount(role, names[role], sizes[role]) for role in names),
        edges=_edges(engine, counts, apart | set(_biggest(engine, counts, wish.listed))),
        signatures=signatures,
        tail_sites=_tail_sites(engine, sites, counts, apart) if left_over else (),
    )


def _counts(sites: "ir.Table") -> "ir.Table":
    return sites.group_by("role", "provider", "critical", "private").aggregate(
        edges=sites.count(), unnamed=(sites["site"].isnull() | (sites["site"] == "")).cast("int64").sum()
    )


def _is_bad(counts: "ir.Table") -> "ir.BooleanValue":
    unnamed: ir.BooleanValue = counts["unnamed"] > 0
    for column in ("role", "provider", "critical", "private"):
        unnamed = unnamed | counts[column].isnull()
    return unnamed | (counts["role"] == "") | (counts["provider"] == "")


def _sizes(engine: Engine, counts: "ir.Table") -> dict[str, tuple[tuple[int, int], ...]]:
    by_provider = counts.group_by("role", "provider").aggregate(size=counts["edges"].sum())
    histogram = by_provider.group_by("role", "size").aggregate(providers=by_provider.count())
    found: dict[str, list[tuple[int, int]]] = {}
    for role, size, providers in sorted(engine.rows(histogram)):
        found.setdefault(role, []).append((int(size), int(providers)))
    return {role: tuple(reversed(sizes)) for role, sizes in found.items()}


def _several_roles(engine: Engine, counts: "ir.Table") -> tuple[set[str], bool]:
    """The biggest providers with several roles, and whether there are more of them."""
    by_provider = counts.group_by("provider").aggregate(
        roles=counts["role"].nunique(), size=counts["edges"].sum()
    )
    found = by_provider.filter(by_provider["roles"] > 1).order_by(
        by_provider["size"].desc(), by_provider["provider"]
    )
    rows = engine.rows(found.select("provider").limit(SEVERAL_ROLES_MAX + 1))
    return {name for (name,) in rows[:SEVERAL_ROLES_MAX]}, len(rows) > SEVERAL_ROLES_MAX


def _biggest(engine: Engine, counts: "ir.Table", limit: int) -> list[str]:
    by_provider = counts.group_by("provider").aggregate(size=counts["edges"].sum())
    ordered = by_provider.order_by(by_provider["size"].desc(), by_provider["provider"])
    return [name for (name,) in engine.rows(ordered.select("provider").limit(limit))]


def _edges(engine: Engine, counts: "ir.Table", names: Collection[str]) -> tuple[Edges, ...]:
    listed = engine.small("listed_providers", {"provider": "string"}, [(name,) for name in sorted(names)])
    wanted = counts.semi_join(listed, "provider")
    rows = engine.rows(wanted.select("role", "provider", "critical", "private", "edges"))
    return tuple(Edges(row[0], row[1], row[2], row[3], int(row[4])) for row in sorted(rows))


def _names(
    engine: Engine, counts: "ir.Table", apart: Collection[str], roles: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {role: set() for role in roles}
    for edges in _edges(engine, counts, apart):
        found[edges.role].add(edges.provider)
    return {role: ("", *sorted(names)) for role, names in found.items()}


def _known_columns(fields: Sequence[Field]) -> dict[str, str]:
    return {"provider": "string"} | {f"number_{index}": "int64" for index in range(len(fields))}


def _known_rows(names: dict[str, tuple[str, ...]]) -> list[tuple[Any, ...]]:
    by_role = [{name: number for number, name in enumerate(found)} for found in names.values()]
    everybody = sorted({name for found in names.values() for name in found if name})
    return [(name, *(numbers.get(name, 0) for numbers in by_role)) for name in everybody]


def _encoded(
    sites: "ir.Table",
    known: "ir.Table",
    fields: Sequence[Field],
    key: Callable[["ir.StringValue"], "ir.Value"],
) -> "ir.Table":
    """site (its key), rank, role_index, kind: the kind of each edge within its role."""
    import ibis

    joined = sites.mutate(site=key(sites["site"])).left_join(known, "provider")
    number = ibis.cases(
        *((joined["role"] == field.role, joined[f"number_{i}"]) for i, field in enumerate(fields)), else_=0
    )
    index = ibis.cases(*((joined["role"] == field.role, i) for i, field in enumerate(fields)), else_=0)
    claims = joined["critical"].cast("int64") * 2 + joined["private"].cast("int64")
    kind = number.fill_null(0).cast("int64") * 4 + claims + 1
    return joined.select("site", "rank", role_index=index.cast("int64"), kind=kind)


def _sums(told: "ir.Table", fields: Sequence[Field], top: int) -> "ir.Table":
    """Sites by their sums; those that cannot be told from their sums stand alone under their name."""
    import ibis

    words = range(fields[-1].word + 1)
    worth = {
        f"word_{word}": ibis.cases(
            *(
                (told["role_index"] == index, _worth(told["kind"], field))
                for index, field in enumerate(fields)
                if field.word == word
            ),
            else_=0,
        )
        for word in words
    }
    shown = told.mutate(**worth)
    totals = {f"word_{word}": shown[f"word_{word}"].sum() for word in words}
    rank = {"rank": shown["rank"].min()} if top else {}
    by_site = shown.group_by("site").aggregate(edges=shown.count(), **totals, **rank)
    is_odd = by_site["edges"] > EDGES_MAX
    for field in fields:
        is_odd = is_odd | (_edges_in(by_site[f"word_{field.word}"], field) > 2)
    is_top = (by_site["rank"] <= top).fill_null(False) if top else ibis.literal(False)
    keys = {f"word_{word}": is_odd.ifelse(0, by_site[f"word_{word}"].cast("int64")) for word in words}
    keyed = by_site.select(
        **keys, is_top=is_top, odd=is_odd.ifelse(by_site["site"], ibis.null(by_site["site"].type()))
    )
    columns = [*keys, "is_top", "odd"]
    return keyed.group_by(columns).aggregate(sites=keyed.count())


def _worth(kind: "ir.IntegerValue", field: Field) -> "ir.IntegerValue":
    """numbering.Field.worth as an expression."""
    number = kind * (2 * field.prime) + kind * kind % field.prime
    return ((number + (1 << field.number_bits)) * (1 << field.shift)).cast("int64")


def _edges_in(word: "ir.IntegerValue", field: Field) -> "ir.IntegerValue":
    """How many edges were added up in the field."""
    import ibis

    above = word >> ibis.literal(field.shift + field.number_bits, "int64")
    return above & ibis.literal((1 << field.count_bits) - 1, "int64")


def _read(engine: Engine, sums: "ir.Table", fields: Sequence[Field]) -> tuple[Signature, ...]:
    plain = sums.filter(sums["odd"].isnull())
    words = [f"word_{word}" for word in range(fields[-1].word + 1)]
    found = []
    memory: dict[tuple[int, int], tuple[Member, ...]] = {}
    for *values, is_top, sites in engine.rows(plain.select(*words, "is_top", "sites")):
        members = []
        for index, field in enumerate(fields):
            value = (values[field.word] >> field.shift) & ((1 << field.bits) - 1)
            if (index, value) not in memory:
                kinds = field.kinds_of(value)
                assert kinds is not None, "a site with three edges in a role was not set aside"
                memory[index, value] = tuple(_member(kind) for kind in kinds)
            members.append(memory[index, value])
        found.append(Signature(tuple(members), bool(is_top), int(sites)))
    return tuple(found)


def _odd(
    engine: Engine, sums: "ir.Table", told: "ir.Table", fields: Sequence[Field]
) -> tuple[Signature, ...]:
    """The sites that were set aside, from their edges."""
    odd = sums.filter(sums["odd"].notnull()).select(site="odd", is_top="is_top")
    rows = engine.rows(told.inner_join(odd, "site").select("site", "is_top", "role_index", "kind"))
    by_site: dict[Any, tuple[bool, list[tuple[int, int]]]] = {}
    for site, is_top, index, kind in rows:
        by_site.setdefault(site, (bool(is_top), []))[1].append((index, kind))
    found: dict[tuple[tuple[tuple[Member, ...], ...], bool], int] = {}
    for is_top, pairs in by_site.values():
        members = tuple(
            tuple(_member(kind) for at, kind in sorted(pairs) if at == index) for index in range(len(fields))
        )
        found[members, is_top] = found.get((members, is_top), 0) + 1
    return tuple(Signature(members, is_top, sites) for (members, is_top), sites in sorted(found.items()))


def _member(kind: int) -> Member:
    number, claims = divmod(kind - 1, 4)
    return number, bool(claims & 2), bool(claims & 1)


def _refuse_repeated(
    signatures: Sequence[Signature], names: dict[str, tuple[str, ...]], paths: Sequence[Path]
) -> None:
    """Raises ConfigError when a site has the same provider twice in a role."""
    roles = tuple(names)
    repeated: dict[tuple[str, str], int] = {}
    for index, role in enumerate(roles):
        for members, sites in by_members(signatures, index).items():
            numbers = [number for number, _, _ in members if number]
            for number in {each for each in numbers if numbers.count(each) > 1}:
                key = role, names[role][number]
                repeated[key] = repeated.get(key, 0) + sites
    if repeated:
        (role, name), count = max(repeated.items(), key=lambda item: (item[1], item[0]))
        found = f"{count:,} sites with several rows for {role} at {name}"
        allowed = "one row per site, role and provider"
        raise ConfigError((Fault(str(paths[0]), found, allowed, "keep one of each"),))


def _tail_sites(
    engine: Engine, sites: "ir.Table", counts: "ir.Table", apart: Collection[str]
) -> tuple[tuple[str, int], ...]:
    """Sites of small providers that serve in several roles, each site once."""
    known = engine.small("apart", {"provider": "string"}, [(name,) for name in sorted(apart)])
    by_provider = counts.group_by("provider").aggregate(roles=counts["role"].nunique())
    tail = by_provider.filter(by_provider["roles"] > 1).anti_join(known, "provider")
    theirs = sites.semi_join(tail, "provider")
    found = theirs.group_by("provider").aggregate(sites=theirs["site"].nunique())
    ordered = found.order_by(found["sites"].desc(), found["provider"]).limit(LISTED)
    return tuple((name, int(count)) for name, count in engine.rows(ordered))
