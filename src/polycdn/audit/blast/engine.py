"""Where tables are counted: DuckDB in this process, or Spark. Both get the same ibis expressions."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from polycdn.errors import ConfigError, Fault, UnavailableError

if TYPE_CHECKING:
    import ibis.expr.types as ir

ENGINES: Final = ("duckdb", "spark")
MEMORY_MIB: Final = 5_120
"""What DuckDB may hold; a table of names in flight may exceed it somewhat, so that 8 GiB are never needed."""
ROW_BYTES: Final = 64
"""What a row takes while sites are grouped: hash, two keys, count and two sums."""
SUFFIXES: Final = (".parquet", ".csv", ".csv.gz")


class Engine(Protocol):
    """Reads files and computes expressions; `close` drops what was kept."""

    name: str

    def read(self, paths: Sequence[Path]) -> "ir.Table":
        """One table of files that have the same columns. Raises ConfigError."""
        ...

    def small(self, name: str, columns: dict[str, str], rows: Sequence[tuple[Any, ...]]) -> "ir.Table":
        """A table of a few rows out of this program; `columns` names and types (string, int64, float64)."""
        ...

    def site_keys(self, site: "ir.StringValue", _hashes: int = 2) -> "dict[str, ir.Value]":
        """What sites are told apart by: the name, or so many 64-bit numbers for it. Columns by name."""
        ...

    def parts(self, sites: "ir.Table", _rows: int) -> "list[ir.Table]":
        """The table (of that many rows) in parts that fit into memory; a site is in one part only."""
        ...

    def keep(self, name: str, table: "ir.Table") -> "ir.Table":
        """The table, computed once and kept."""
        ...

    def rows(self, table: "ir.Table") -> list[tuple[Any, ...]]:
        """All rows, in the order of the columns."""
        ...

    def close(self) -> None:
        """Gives memory and disk back."""
        ...


def open_engine(name: str, memory_mib: int = MEMORY_MIB, spill: Path | None = None) -> Engine:
    """The engine of that name. Raises ConfigError, or UnavailableError when it is not installed."""
    if name not in ENGINES:
        raise ConfigError((Fault("--engine", repr(name), " or ".join(ENGINES), "take duckdb"),))
    if name == "spark":
        from polycdn.audit.blast.engine_spark import SparkEngine

        return SparkEngine(memory_mib, spill)
    try:
        return DuckEngine(memory_mib, spill)
    except ImportError as error:
        raise UnavailableError(f"blast needs the packages ibis-framework and duckdb: {error}") from None


class DuckEngine:
    """DuckDB in this process. What does not fit into `memory_mib` goes to files under `spill`."""

    name = "duckdb"

    def __init__(self, memory_mib: int = MEMORY_MIB, spill: Path | None = None) -> None:
        import duckdb
        import ibis

        self._spill = tempfile.TemporaryDirectory(prefix="polycdn-blast-", dir=spill)
        self._compile = ibis.duckdb.compile
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory_mib}MiB",
            "temp_directory": self._spill.name,
            "preserve_insertion_order": False,
        }
        self._base = duckdb.connect(config=settings)
        self._memory_mib = memory_mib
        self._files = 0

    def read(self, paths: Sequence[Path]) -> "ir.Table":
        """One table of files that have the same columns. Raises ConfigError."""
        import duckdb

        names = [str(path) for path in paths]
        listed = "[" + ", ".join("'" + name.replace("'", "''") + "'" for name in names) + "]"
        how = "read_parquet" if suffix_of(paths) == ".parquet" else "read_csv"
        options = "" if how == "read_parquet" else ", header = true"
        self._files += 1
        view = f"file_{self._files}"
        try:
            self._base.execute(f"CREATE TEMP VIEW {view} AS SELECT * FROM {how}({listed}{options})")
            return self._table(view)
        except duckdb.Error as error:
            raise unreadable(names, error) from None

    def _table(self, name: str) -> "ir.Table":
        """The table by its name and columns alone: ibis would ask for them by way of pyarrow."""
        import ibis
        from ibis.backends.sql.datatypes import DuckDBType

        columns = self._base.execute(f"DESCRIBE {name}").fetchall()
        table: ir.Table = ibis.table({row[0]: DuckDBType.from_string(row[1]) for row in columns}, name=name)
        return table

    def small(self, name: str, columns: dict[str, str], rows: Sequence[tuple[Any, ...]]) -> "ir.Table":
        """A table of a few rows out of this program."""
        kinds = {"string": "VARCHAR", "int64": "BIGINT", "float64": "DOUBLE"}
        told = ", ".join(f'"{column}" {kinds[kind]}' for column, kind in columns.items())
        self._base.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({told})")
        if rows:
            parts = ", ".join("unnest(?)" for _ in columns)
            lists = [list(column) for column in zip(*rows, strict=True)]
            self._base.execute(f"INSERT INTO {name} SELECT {parts}", lists)
        return self._table(name)

    def site_keys(self, site: "ir.StringValue", _hashes: int = 2) -> "dict[str, ir.Value]":
        """64-bit hashes, of the name and of the name after letters: less memory and time than names need.

        Of n sites, any two have the same 128 bits with a chance of n² / 2^129: 2e-24 for 36 million; the same
        64 bits with n² / 2^65: 3.5e-5. A letter moves every byte to another place of the hash's blocks: one
        hash says nothing of the other.
        """
        import ibis

        return {f"site_{i}": _hash(ibis.literal("x" * i) + site if i else site) for i in range(_hashes)}

    def parts(self, sites: "ir.Table", _rows: int) -> "list[ir.Table]":
        """By hash of the site. DuckDB keeps nearly every row when a site's rows lie far apart."""
        count = -(-_rows * ROW_BYTES // (self._memory_mib * 1_048_576 * 6 // 10))
        if count <= 1:
            return [sites]
        return [sites.filter(_hash(sites["site"]) % count == part) for part in range(count)]

    def keep(self, name: str, table: "ir.Table") -> "ir.Table":
        """The table, computed once and kept. Raises ConfigError when a file turns out to be broken."""
        self._run(f"CREATE OR REPLACE TEMP TABLE {name} AS {self._compile(table)}")
        return self._table(name)

    def rows(self, table: "ir.Table") -> list[tuple[Any, ...]]:
        """All rows, in the order of the columns."""
        found: list[tuple[Any, ...]] = self._run(self._compile(table)).fetchall()
        return found

    def _run(self, query: str) -> Any:
        import duckdb

        try:
            return self._base.execute(query)
        except duckdb.OutOfMemoryException as error:
            raise UnavailableError(f"DuckDB has not enough memory or disk: {first_line(error)}") from None
        except (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.IOException) as error:
            raise unreadable(["the tables"], error) from None

    def close(self) -> None:
        """Gives memory and disk back."""
        self._base.close()
        self._spill.cleanup()


def _hash(text: "ir.StringValue") -> "ir.IntegerValue":
    import ibis

    @ibis.udf.scalar.builtin(name="hash", signature=((str,), "uint64"))
    def hash_of(text):  # type: ignore[no-untyped-def]  # DuckDB has the body
        ...

    number: ir.IntegerValue = hash_of(text)
    return number


def suffix_of(paths: Sequence[Path]) -> str:
    """`.parquet` or `.csv`, of files that must all be alike and exist. Raises ConfigError."""
    faults = []
    found = set()
    for path in paths:
        suffix = next((each for each in SUFFIXES if path.name.lower().endswith(each)), None)
        if suffix is None:
            faults.append(Fault(str(path), "another kind of file", ", ".join(SUFFIXES), "convert it"))
        elif not path.is_file():
            faults.append(Fault(str(path), "no such file", "a file that can be read", "check the path"))
        else:
            found.add(".parquet" if suffix == ".parquet" else ".csv")
    if len(found) > 1:
        faults.append(Fault(str(paths[0]), "Parquet and CSV files", "one kind", "convert one of them"))
    if faults:
        raise ConfigError(tuple(faults))
    return found.pop()


def unreadable(names: Sequence[str], error: Exception) -> ConfigError:
    """What is said of a file that is not what its name says."""
    return ConfigError(
        (
            Fault(
                ", ".join(names), first_line(error), "a table in UTF-8 with a line of column names", "mend it"
            ),
        )
    )


def first_line(error: Exception) -> str:
    """An engine's message without its tail."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
