"""The pass over the sites: the same ibis expressions for every engine, a `Survey` as the result.

1. Count edges by (role, provider, critical, private).
2. Choose whom to tell apart: providers of the table of providers, those that serve in several roles, the
   biggest, and those asked for. All others only matter one by one, and step 1 has counted them.
3. Add up one number per edge by site (numbering.py), then count sites by their sums.
4. Sites with more than two edges in a role are read one by one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from polycdn.audit.blast.engine import Engine
from polycdn.audit.blast.numbering import Field, fields_of
from polycdn.audit.blast.survey import Edges, Member, RoleCount, Signature, Survey, by_members
from polycdn.audit.blast.tables import check_counts, check_repeated, sites_table
from polycdn.errors import ConfigError, Fault

if TYPE_CHECKING:
    import ibis.expr.types as ir

EDGES_MAX: Final = 15
"""Edges of one site that a sum can hold; sites with more are read one by one."""
BIGGEST: Final = 16
SEVERAL_ROLES_MAX: Final = 500
APART_MAX: Final = 500_000
"""Providers told apart in a role; the numbers of more would not fit into a sum."""
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
    told = _Told(names, fields_of(_kinds(names, paths), EDGES_MAX))
    edges = sum(size * count for found in sizes.values() for size, count in found)
    sums = _sums(engine, sites, edges, told, wish.top)
    signatures = _read(engine, sums, told) + _odd(engine, sums, sites, told)
    _refuse_repeated(signatures, names, paths)
    return Survey(
        sites=sum(each.sites for each in signatures),
        roles=tuple(RoleCount(role, names[role], sizes[role]) for role in names),
        edges=_edges(engine, counts, apart | set(_biggest(engine, counts, wish.listed))),
        signatures=signatures,
        tail_sites=_tail_sites(engine, sites, counts, apart) if left_over else (),
    )


def _kinds(names: dict[str, tuple[str, ...]], paths: Sequence[Path]) -> dict[str, int]:
    """Kinds of edges by role. Raises ConfigError when there are too many for a sum."""
    for role, found in names.items():
        if len(found) > APART_MAX:
            what = f"{len(found):,} providers of role {role} with providers of their own"
            raise ConfigError((Fault(str(paths[0]), what, f"at most {APART_MAX:,}", "give fewer of them"),))
    return {role: 4 * len(found) for role, found in names.items()}


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


@dataclass(frozen=True, slots=True)
class _Told:
    """Where each provider that is told apart stands: by role, its names and its field in the sums."""

    names: dict[str, tuple[str, ...]]
    fields: tuple[Field, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The columns of the sums."""
        return tuple(f"word_{word}" for word in range(self.fields[-1].word + 1))

    def worth(self, field: Field, kind: int) -> tuple[int, ...]:
        """What an edge adds to each word."""
        return tuple(field.worth(kind) * (field.word == word) for word in range(len(self.words)))


def _encoded(engine: Engine, sites: "ir.Table", told: _Told) -> "ir.Table":
    """The site's keys, rank, role_index, kind of the edge within its role, what it adds to each word."""
    import ibis

    rows = [
        (field.role, name, claims, 4 * number + claims + 1, *told.worth(field, 4 * number + claims + 1))
        for field in told.fields
        for number, name in enumerate(told.names[field.role])
        if number
        for claims in range(4)
    ]
    types = {"role": "string", "provider": "string", "claims": "int64", "kind": "int64"}
    known = engine.small("known_providers", types | dict.fromkeys(told.words, "float64"), rows)
    keys = engine.site_keys(sites["site"])
    claims = sites["critical"].cast("int64") * 2 + sites["private"].cast("int64")
    shown = sites.select("role", "provider", "rank", claims=claims, **keys)
    joined = shown.left_join(known, ["role", "provider", "claims"])

    def everybody_else(word: int) -> "ir.Value":
        here = [field for field in told.fields if field.word == word]
        worths = {f.role: [ibis.literal(f.worth(claims + 1), "float64") for claims in range(4)] for f in here}
        by_claims = {
            role: joined["claims"].cases(*enumerate(row), else_=row[0]) for role, row in worths.items()
        }
        return joined["role"].cases(*by_claims.items(), else_=ibis.literal(0, "float64"))

    return joined.select(
        *keys,
        "rank",
        role_index=joined["role"].cases(*((f.role, i) for i, f in enumerate(told.fields)), else_=0),
        kind=ibis.coalesce(joined["kind"], joined["claims"] + 1),
        **{name: ibis.coalesce(joined[name], everybody_else(word)) for word, name in enumerate(told.words)},
    )


def _sums(engine: Engine, sites: "ir.Table", edges: int, told: _Told, top: int) -> "ir.Table":
    """Sites by their sums, part by part; those that their sums do not tell stand alone under their keys."""
    import ibis

    parts = [
        engine.keep(f"site_sums_{index}", _part_sums(_encoded(engine, part, told), told, top))
        for index, part in enumerate(engine.parts(sites, edges))
    ]
    if len(parts) == 1:
        return parts[0]
    every = ibis.union(*parts, distinct=False)
    columns = [name for name in every.columns if name != "sites"]
    return engine.keep("site_sums", every.group_by(columns).aggregate(sites=every["sites"].sum()))


def _part_sums(encoded: "ir.Table", told: _Told, top: int) -> "ir.Table":
    import ibis

    names = [name for name in encoded.columns if name.startswith("site")]
    totals = {word: encoded[word].sum() for word in told.words}
    rank = {"rank": encoded["rank"].min()} if top else {}
    by_site = encoded.group_by(names).aggregate(edges=encoded.count(), **totals, **rank)
    is_crowd = by_site["edges"] > EDGES_MAX
    whole = by_site.mutate(**{word: is_crowd.ifelse(0.0, by_site[word]).cast("int64") for word in told.words})
    is_odd = whole["edges"] > EDGES_MAX
    for field in told.fields:
        is_odd = is_odd | (_edges_in(whole[f"word_{field.word}"], field) > 2)
    is_top = (whole["rank"] <= top).fill_null(False) if top else ibis.literal(False)
    marked = whole.mutate(is_odd=is_odd, is_top=is_top)
    keyed = marked.select(
        "is_top",
        "is_odd",
        **{word: marked["is_odd"].ifelse(0, marked[word]) for word in told.words},
        **{
            f"odd_{name}": marked["is_odd"].ifelse(marked[name], ibis.null(marked[name].type()))
            for name in names
        },
    )
    return keyed.group_by([*keyed.columns]).aggregate(sites=keyed.count())


def _edges_in(word: "ir.IntegerValue", field: Field) -> "ir.IntegerValue":
    """How many edges were added up in the field."""
    import ibis

    above = word >> ibis.literal(field.shift + field.number_bits, "int64")
    return above & ibis.literal((1 << field.count_bits) - 1, "int64")


def _read(engine: Engine, sums: "ir.Table", told: _Told) -> tuple[Signature, ...]:
    plain = sums.filter(~sums["is_odd"])
    rows = engine.rows(plain.select(*told.words, "is_top", "sites"))
    if not rows:
        return ()
    *words, tops, sites = zip(*rows, strict=True)
    columns = []
    for field in told.fields:
        shift, mask = field.shift, (1 << field.bits) - 1
        values = [word >> shift & mask for word in words[field.word]]
        members = {value: _members(field, value) for value in set(values)}
        columns.append([members[value] for value in values])
    return tuple(map(Signature, zip(*columns, strict=True), tops, sites))


def _members(field: Field, value: int) -> tuple[Member, ...]:
    kinds = field.kinds_of(value)
    assert kinds is not None, "a site with three edges in a role was not set aside"
    return tuple(_member(kind) for kind in kinds)


def _odd(engine: Engine, sums: "ir.Table", sites: "ir.Table", told: _Told) -> tuple[Signature, ...]:
    """The sites that were set aside, from their edges."""
    encoded = _encoded(engine, sites, told)
    aside = sums.filter(sums["is_odd"])
    names = [name.removeprefix("odd_") for name in sums.columns if name.startswith("odd_")]
    odd = aside.select("is_top", **{name: aside[f"odd_{name}"] for name in names})
    rows = engine.rows(encoded.inner_join(odd, names).select("is_top", "role_index", "kind", *names))
    by_site: dict[Any, tuple[bool, list[tuple[int, int]]]] = {}
    for is_top, index, kind, *site in rows:
        by_site.setdefault(tuple(site), (bool(is_top), []))[1].append((index, kind))
    found: dict[tuple[tuple[tuple[Member, ...], ...], bool], int] = {}
    for is_top, pairs in by_site.values():
        members = tuple(
            tuple(_member(kind) for at, kind in sorted(pairs) if at == index)
            for index in range(len(told.fields))
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
    repeated: dict[tuple[str, str], int] = {}
    for index, role in enumerate(names):
        column = [signature.members[index] for signature in signatures]
        twice = {members: _twice(members) for members in set(column)}
        if not any(twice.values()):
            continue
        for members, sites in by_members(signatures, index).items():
            for number in twice[members]:
                key = role, names[role][number]
                repeated[key] = repeated.get(key, 0) + sites
    check_repeated(repeated, paths)


def _twice(members: tuple[Member, ...]) -> frozenset[int]:
    """Numbers of the providers that are there more than once."""
    numbers = [number for number, _, _ in members if number]
    return frozenset(number for number in numbers if numbers.count(number) > 1)


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
