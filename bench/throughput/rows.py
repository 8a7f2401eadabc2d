"""The rows of the table: what is asked, with which tool, and in which unit the figure is."""

from dataclasses import dataclass
from enum import StrEnum

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
FILES = {"1k": KIB, "100k": 100 * KIB, "1m": MIB, "100m": 100 * MIB}
"""The objects at the origin; origin.c, limit.c and pull.c know them by these names."""

ORIGIN_DELAY_MS = 300
STORM_CLIENTS = 200


class Tool(StrEnum):
    """What makes the load; NONE for a row that only looks at the processes."""

    WRK = "wrk"
    H2LOAD = "h2load"
    PULL = "pull"
    NONE = "none"


class Kind(StrEnum):
    """What has to be true of a burst: HIT, the origin sees nothing; MISS, it sees every request."""

    HIT = "hit"
    MISS = "miss"
    STORM = "storm"
    MEMORY = "memory"
    COLD_START = "cold start"


class Unit(StrEnum):
    """What the figure counts; less is better in each."""

    REQUEST = "us per request"
    BYTES = "s per GiB"
    WORST = "ms at worst"
    RESIDENT = "MiB"
    START = "ms to the first 200"


@dataclass(frozen=True)
class Row:
    """One row. `path` and `file` say what is asked and what the body has to be; `words` are for the tool."""

    name: str
    title: str
    kind: Kind
    unit: Unit
    tool: Tool = Tool.NONE
    path: str = "/1k"
    file: str = "1k"
    is_tls: bool = False
    words: tuple[str, ...] = ()


def _hit(name: str, title: str, unit: Unit, tool: Tool, file: str, *words: str, is_tls: bool = False) -> Row:
    return Row(name, title, Kind.HIT, unit, tool, f"/{file}", file, is_tls, words)


_RANGE = ("connections", "16", "range", str(MIB))

ROWS = (
    _hit("hit_1k", "hit, 1 KiB, HTTP/1.1", Unit.REQUEST, Tool.WRK, "1k"),
    _hit("hit_1k_tls", "hit, 1 KiB, TLS 1.3", Unit.REQUEST, Tool.PULL, "1k", "connections", "64",
         "tls", "read", is_tls=True),
    _hit("hit_1k_h2", "hit, 1 KiB, HTTP/2 + TLS", Unit.REQUEST, Tool.H2LOAD, "1k", is_tls=True),
    _hit("not_modified", "304 by If-None-Match", Unit.REQUEST, Tool.PULL, "1k", "connections", "64",
         "etag", '"bench/1k"'),
    Row("miss", "miss, caching off for the path", Kind.MISS, Unit.REQUEST, Tool.WRK, "/miss"),
    Row("no_store", "miss, no-store found out from the answer", Kind.MISS, Unit.REQUEST, Tool.WRK,
        "/no-store"),
    _hit("hit_100k", "hit, 100 KiB", Unit.BYTES, Tool.PULL, "100k", "connections", "32"),
    _hit("hit_100k_tls", "hit, 100 KiB, TLS", Unit.BYTES, Tool.PULL, "100k", "connections", "32",
         "tls", "read", is_tls=True),
    _hit("hit_100m", "hit, 100 MiB", Unit.BYTES, Tool.PULL, "100m", "connections", "4"),
    _hit("hit_100m_tls", "hit, 100 MiB, TLS", Unit.BYTES, Tool.PULL, "100m", "connections", "4",
         "tls", "skip", is_tls=True),
    _hit("range", "1 MiB ranges of 100 MiB", Unit.BYTES, Tool.PULL, "100m", *_RANGE),
    _hit("range_tls", "the same, TLS", Unit.BYTES, Tool.PULL, "100m", *_RANGE, "tls", "read", is_tls=True),
    Row("storm", f"miss storm, {STORM_CLIENTS} clients, 1 MiB, {ORIGIN_DELAY_MS} ms origin", Kind.STORM,
        Unit.WORST, Tool.PULL, "/slow/", "1m", words=("connections", str(STORM_CLIENTS), "once")),
    Row("memory", "memory, idle / with the test set", Kind.MEMORY, Unit.RESIDENT),
    Row("cold_start", "cold start to first 200", Kind.COLD_START, Unit.START),
)  # fmt: skip

ABSOLUTE_AIMS = {"memory": 40.0, "cold_start": 150.0}
"""Rows where ours has an aim of its own, in the row's unit (memory: idle), instead of the best peer's."""


def chosen(names: str) -> tuple[Row, ...]:
    """The rows of a comma-separated list, in the table's order; all for an empty one. Raises ValueError."""
    wanted = [name for name in names.split(",") if name]
    known = [row.name for row in ROWS]
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no row is called {unknown[0]}; there are {', '.join(known)}")
    return tuple(row for row in ROWS if not wanted or row.name in wanted)
