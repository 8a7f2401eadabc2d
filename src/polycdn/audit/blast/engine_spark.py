"""Spark as the engine of `polycdn blast`: the same expressions, on as many machines as Spark has."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polycdn.audit.blast.engine import first_line, suffix_of, unreadable
from polycdn.errors import UnavailableError

if TYPE_CHECKING:
    import ibis.expr.types as ir


class SparkEngine:
    """A Spark session: a local one, or the cluster that SPARK_REMOTE or spark-submit points at.

    Raises UnavailableError without Java or without the extra `spark`.
    """

    name = "spark"

    def __init__(self, memory_mib: int, spill: Path | None = None) -> None:
        if not (shutil.which("java") or os.environ.get("JAVA_HOME") or os.environ.get("SPARK_REMOTE")):
            raise UnavailableError("--engine spark needs Java, and there is none; take --engine duckdb")
        try:
            import ibis
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise UnavailableError(
                f"--engine spark needs the extra `spark` (pip install 'polycdn[spark]'): {error}"
            ) from None
        builder = SparkSession.builder.appName("polycdn-blast").config("spark.sql.ansi.enabled", "false")
        builder = builder.config("spark.ui.enabled", "false").config("spark.driver.bindAddress", "127.0.0.1")
        builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.log.level", "ERROR")
        builder = builder.config("spark.sql.session.timeZone", "UTC")
        builder = builder.config("spark.driver.memory", f"{memory_mib}m")
        if spill is not None:
            builder = builder.config("spark.local.dir", str(spill))
        self._session: Any = builder.getOrCreate()
        self._ibis: Any = ibis.pyspark.connect(self._session)

    def read(self, paths: Sequence[Path]) -> "ir.Table":
        """One table of files that have the same columns. Raises ConfigError."""
        from pyspark.errors import PySparkException

        names = [str(path) for path in paths]
        kind = suffix_of(paths)
        reader = self._session.read
        try:
            frame = (
                reader.parquet(*names) if kind == ".parquet" else reader.csv(names, header=True, escape='"')
            )
        except PySparkException as error:
            raise unreadable(names, error) from None
        return self._named(f"file_{abs(hash(tuple(names)))}", frame)

    def small(self, name: str, columns: dict[str, str], rows: Sequence[tuple[Any, ...]]) -> "ir.Table":
        """A table of a few rows out of this program."""
        kinds = {"string": "string", "int64": "bigint", "float64": "double"}
        told = ", ".join(f"`{column}` {kinds[kind]}" for column, kind in columns.items())
        return self._named(name, self._session.createDataFrame([_typed(row, columns) for row in rows], told))

    def site_keys(self, site: "ir.StringValue", _hashes: int = 2) -> "dict[str, ir.Value]":
        """The name itself."""
        return {"site": site}

    def parts(self, sites: "ir.Table", _rows: int) -> "list[ir.Table]":
        """The table as it is: Spark splits it by itself."""
        return [sites]

    def keep(self, name: str, table: "ir.Table") -> "ir.Table":
        """The table, computed once and kept."""
        return self._named(name, self._session.sql(self._ibis.compile(table)).cache())

    def _named(self, name: str, frame: Any) -> "ir.Table":
        frame.createOrReplaceTempView(name)
        table: ir.Table = self._ibis.table(name)
        return table

    def rows(self, table: "ir.Table") -> list[tuple[Any, ...]]:
        """All rows, in the order of the columns. Raises ConfigError when a file turns out to be broken."""
        from pyspark.errors import PySparkException

        try:
            return [tuple(row) for row in self._session.sql(self._ibis.compile(table)).collect()]
        except PySparkException as error:
            raise UnavailableError(f"Spark: {first_line(error)}") from None

    def close(self) -> None:
        """Ends the session."""
        self._session.stop()


def _typed(row: tuple[Any, ...], columns: dict[str, str]) -> tuple[Any, ...]:
    """Spark takes no integers for doubles."""
    kinds = zip(row, columns.values(), strict=True)
    return tuple(float(value) if kind == "float64" else value for value, kind in kinds)
