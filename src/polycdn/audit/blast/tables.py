"""The two tables that are read: which columns they must have, and what is wrong with those that have not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from polycdn.audit.blast.closure import Lean
from polycdn.audit.blast.engine import Engine
from polycdn.errors import ConfigError, Fault

if TYPE_CHECKING:
    import ibis.expr.types as ir

SITE_COLUMNS: Final = ("site", "role", "provider", "critical")
PROVIDER_COLUMNS: Final = ("provider", "role", "depends_on", "critical")
TRUE_WORDS: Final = ("1", "true", "t", "yes", "y")
FALSE_WORDS: Final = ("0", "false", "f", "no", "n")
PARTIES: Final = ("third", "private")
LEANS_MAX: Final = 1_000_000
"""More edges between providers than there are companies that carry the web; a table of sites by mistake."""


def sites_table(engine: Engine, paths: Sequence[Path], *, is_ranked: bool = False) -> "ir.Table":
    """site, role, provider (strings), critical, private (booleans, null = unreadable), rank (or null).

    Optional columns: `party` (third or private; without it all are third), `rank` unless `is_ranked`.
    Raises ConfigError.
    """
    raw = engine.read(paths)
    _require(raw, (*SITE_COLUMNS, "rank") if is_ranked else SITE_COLUMNS, paths)
    return raw.select(
        site=raw["site"].cast("string"),
        role=raw["role"].cast("string").lower(),
        provider=raw["provider"].cast("string"),
        critical=_claim(raw["critical"], TRUE_WORDS, FALSE_WORDS),
        private=_claim(raw["party"], ("private", "pvt"), ("third", "unknown"))
        if "party" in raw.columns
        else _never(),
        rank=raw["rank"].cast("int64") if "rank" in raw.columns else _no_number(),
    )


def leans_of(engine: Engine, paths: Sequence[Path]) -> tuple[Lean, ...]:
    """The edges between providers. Raises ConfigError."""
    raw = engine.read(paths)
    _require(raw, PROVIDER_COLUMNS, paths)
    shown = raw.select(
        provider=raw["provider"].cast("string"),
        role=raw["role"].cast("string").lower(),
        depends_on=raw["depends_on"].cast("string"),
        critical=_claim(raw["critical"], TRUE_WORDS, FALSE_WORDS),
    ).limit(LEANS_MAX + 1)
    rows = engine.rows(shown)
    place = ", ".join(map(str, paths))
    if len(rows) > LEANS_MAX:
        allowed = f"at most {LEANS_MAX:,} rows"
        raise ConfigError((Fault(place, "more rows", allowed, "give the table of sites to --sites"),))
    empty = sum(None in row or "" in row for row in rows)
    if empty:
        raise ConfigError((_empty_cells(place, empty, PROVIDER_COLUMNS),))
    return tuple(Lean(*row) for row in rows)


def check_counts(counts: Sequence[tuple[int, int]], paths: Sequence[Path]) -> None:
    """Raises ConfigError for an empty table, or for rows with an empty or unreadable cell.

    `counts` = ((all rows, rows with such a cell),).
    """
    place = ", ".join(map(str, paths))
    total, bad = counts[0]
    if not total:
        raise ConfigError((Fault(place, "no rows", "one row per site, role and provider", "fill it"),))
    check_bad(bad, paths)


def check_bad(bad: int, paths: Sequence[Path]) -> None:
    """Raises ConfigError for that many rows with an empty or unreadable cell, if any."""
    if bad:
        raise ConfigError((_empty_cells(", ".join(map(str, paths)), bad, SITE_COLUMNS),))


def check_repeated(repeated: Mapping[tuple[str, str], int], paths: Sequence[Path]) -> None:
    """Raises ConfigError if any sites name a provider more than once in a role. (role, provider) -> sites."""
    (role, name), count = max(repeated.items(), key=lambda item: (item[1], item[0]), default=(("", ""), 0))
    if count:
        found = f"{count:,} sites with several rows for {role} at {name}"
        allowed = "one row per site, role and provider"
        raise ConfigError((Fault(str(paths[0]), found, allowed, "keep one of each"),))


def _empty_cells(place: str, count: int, columns: Sequence[str]) -> Fault:
    allowed = f"text in {', '.join(columns[:3])}; critical: {' or '.join(TRUE_WORDS + FALSE_WORDS)}"
    return Fault(
        place, f"{count:,} rows with an empty or unreadable cell", allowed, "mend or drop these rows"
    )


def _require(raw: "ir.Table", columns: Sequence[str], paths: Sequence[Path]) -> None:
    missing = [name for name in columns if name not in raw.columns]
    if missing:
        found = f"columns {', '.join(raw.columns)[:200]}"
        remedy = f"add {', '.join(missing)} (docs/blast.md)"
        raise ConfigError((Fault(", ".join(map(str, paths)), found, ", ".join(columns), remedy),))


def _claim(column: "ir.Column", yes: Sequence[str], no: Sequence[str]) -> "ir.Value":
    """A boolean from a boolean, a number or a word; null when it is neither."""
    import ibis

    if column.type().is_boolean():
        return column
    word = column.cast("string").lower()
    return ibis.cases((word.isin(yes), True), (word.isin(no), False), else_=None)


def _never() -> "ir.Value":
    import ibis

    return ibis.literal(False)


def _no_number() -> "ir.Value":
    import ibis

    return ibis.null("int64")
