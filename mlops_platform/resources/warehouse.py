"""The embedded warehouse: one DuckDB file, and the only place that opens it.

Everything that goes into or comes out of a warehouse table passes here. How a CSV is read belongs to
``csv_loading``; what a table means belongs to the assets.
"""

import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.csv_accounts import roll_back
from mlops_platform.resources.csv_loading import LoadResult, create_rejects, load_csv
from mlops_platform.resources.duckdb_validation import DuckDBSource
from mlops_platform.resources.partitions import Partition, duckdb_partitions
from mlops_platform.resources.table_growth import Growth, growth_of
from mlops_platform.resources.table_loading import load_table, require_same_columns
from mlops_platform.resources.table_records import APPEND_ABOVE_ROWS, distrust, forget, recall, settle
from mlops_platform.resources.table_version import literal, quote, table_version
from mlops_platform.resources.untouched import holding
from mlops_platform.resources.warehouse_base import Warehouse, written_whole

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["DuckDBWarehouse", "LoadResult"]

# on texts half the size of snappy, in the same time; a dictionary of texts that are all different is soon given up
PARQUET_OPTIONS = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARQUET_VERSION v2, DICTIONARY_SIZE_LIMIT 64"
_LOCK_RETRY_SECONDS = 0.25
_LOOK_TIMEOUT = 5.0  # seconds; Dagster gives a tick 60


class DuckDBWarehouse(Warehouse):
    """A DuckDB file whose tables live in one schema.

    One process holds the file at a time, so each method opens it, does one thing and closes it again.
    """

    path: str = Field(description="The DuckDB file; it and its folder are made when missing.")
    lock_timeout: float = Field(
        default=60.0, ge=0, description="Seconds to wait for another process that holds the file."
    )
    memory_mb: int = Field(
        default=1024,
        ge=64,
        description="MiB that DuckDB may hold in memory; the rest goes to files beside it.",
    )

    append_above_rows: int = Field(
        default=APPEND_ABOVE_ROWS, ge=1, description="Rows from which on a table is appended to where that will do."
    )

    # texts that are all different shrink to .4, and that is two thirds of what a load costs
    compress_texts: bool = Field(default=False, description="Whether tables take less disk and more time to write.")

    @contextmanager
    def connect(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """Opens the file read-write, in UTC and in the platform's schema, and closes it at the end.

        Always with DuckDB's default configuration: a second connection of the process with another one fails.
        Tables are written by the methods below: what else changes one through this connection is not noticed.

        Raises:
            WarehouseError: If another process still holds the file after `lock_timeout` seconds, or the file
                isn't a database that this DuckDB can open.
        """
        connection = self._open()
        with holding(Path(self.path)) as held:
            try:
                left_out = "" if self.compress_texts else "dict_fsst"
                connection.execute(
                    f"SET TimeZone = 'UTC'; SET memory_limit = '{self.memory_mb}MiB'; "
                    f"SET disabled_compression_methods = '{left_out}'"
                )
                self._use_schema(connection)
                yield connection
                settle(connection, held)
            finally:
                connection.close()

    def load_csv(self, table: str, path: Path, columns: Mapping[str, str], source: str) -> LoadResult:
        """Replaces a table by the rows of a CSV file, and its entries in `rejects`, in one transaction.

        Args:
            table: Name of the table.
            path: The local file.
            columns: Column names and their DuckDB types.
            source: What to call the file in errors and in `rejects`.

        Raises:
            SourceError: If the file can't be loaded; the old table stays.
            WarehouseError: If the warehouse can't take it; the old table stays.
        """
        with self._working() as connection:
            return load_csv(connection, table, path, columns, source, self.append_above_rows)

    def load_table(self, table: str, landing: str, columns: Mapping[str, str], source: str) -> int:
        """Replaces a table by the typed rows of another one, and its entries in `rejects`, in one transaction.

        Args:
            table: Name of the table.
            landing: The table that a loader wrote; it stays as it is.
            columns: Column names and their DuckDB types; other columns of the landing table are left out.
            source: What to call the load in errors and in `rejects`.

        Returns:
            Number of rows that went to `rejects`.

        Raises:
            SourceError: If the landing table lacks a column or has no row that can be read; the old table stays.
        """
        with self._on_table(landing) as connection:
            return load_table(connection, table, landing, columns, source)

    def replace_rows(self, table: str, file: Path, where: Mapping[str, object]) -> int:
        """Replaces some of a table's rows by those of a Parquet file, in one transaction."""
        rows = f"read_parquet({literal(str(file))})"
        with self._working() as connection:
            try:
                connection.execute("BEGIN")
                connection.execute(f"CREATE TABLE IF NOT EXISTS {quote(table)} AS FROM {rows} LIMIT 0")
                require_same_columns(table, _columns(connection, quote(table)), _columns(connection, f"FROM {rows}"))
                same = "".join(f" AND {quote(column)} = ?" for column in where)
                forget(connection, table)
                connection.execute(f"DELETE FROM {quote(table)} WHERE true{same}", list(where.values()))  # noqa: S608
                ((count,),) = connection.execute(f"INSERT INTO {quote(table)} BY NAME FROM {rows}").fetchall()
                connection.execute("COMMIT")
            except BaseException:
                roll_back(connection)
                raise
        return int(count)

    def clear_rejects(self, table: str) -> None:
        """Removes a table's entries from `rejects`, which is made when missing."""
        with self._working() as connection:
            create_rejects(connection)
            connection.execute("DELETE FROM rejects WHERE source_table = ?", [table])

    def has_table(self, table: str) -> bool:
        """Says whether the table (or view) exists."""
        with self._working() as connection:
            return self._exists(connection, table)

    def row_count(self, table: str) -> int:
        """Counts the rows of a table.

        Raises:
            WarehouseError: If the table doesn't exist.
        """
        with self._on_table(table) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {quote(table)}").fetchall()[0][0])  # noqa: S608

    def describe(self, table: str) -> list[tuple[str, str]]:
        """Lists a table's columns as (name, DuckDB type), in their order.

        Raises:
            WarehouseError: If the table doesn't exist.
        """
        with self._on_table(table) as connection:
            return list(_columns(connection, quote(table)).items())

    def content_version(self, table: str, columns: Collection[str] | None = None) -> str:
        """Digests a table's content, independent of row order (see `table_version`).

        Args:
            table: Name of the table.
            columns: Names of the columns that count; by default all.

        Raises:
            WarehouseError: If the table doesn't exist.
        """
        with self._on_table(table) as connection:
            record = recall(connection, table) if columns is None else None
            return record.version if record else table_version(connection, table, columns)

    def growth(self, models: Mapping[str, Collection[str]], tests: str) -> Growth | None:
        """Says what the tables have grown by that others are built of (see `Growth`)."""
        with self._working() as connection:
            return growth_of(connection, models, tests)

    def remember_built(self, table: str, growth: Growth, *, tested: bool) -> None:
        """Remembers of what a table was built, so that the next build may only add to it.

        Args:
            table: Name of the table, which was just built.
            growth: What was asked before.
            tested: Whether all its tests passed.
        """
        with self._on_table(table) as connection:
            growth.remember(connection, table, tested=tested)

    def earlier_versions(self, table: str) -> list[tuple[int, str]]:
        """Lists (rows, content version) of what a table was before rows were appended, latest first.

        Args:
            table: Name of the table, whose first rows, by `rowid`, are each of these.
        """
        with self._on_table(table) as connection:
            record = recall(connection, table)
            return list(record.earlier[-2::-1]) if record else []

    def partitions(self, tables: Sequence[str]) -> list[Partition]:
        """Lists the partitions of tables as they are now (see `duckdb_partitions`).

        A sensor asks this, so it waits less long for the lock than a run does.

        Args:
            tables: Names of tables; one that doesn't exist gives no partition.

        Raises:
            WarehouseError: If another process holds the file, or it can't be read.
        """
        brief = self.model_copy(update={"lock_timeout": min(self.lock_timeout, _LOOK_TIMEOUT)})
        with brief._working() as connection:
            return duckdb_partitions(connection, tables)

    def export_parquet(self, query: str, path: Path) -> int:
        """Writes a query's rows to a Parquet file, which appears whole or not at all.

        Args:
            query: A SELECT; its ORDER BY is the order of the rows.
            path: The file; its folder is made when missing, an old file is replaced.

        Returns:
            Number of rows.
        """
        with written_whole(path) as partial, self._working() as connection:
            # whoever holds the warehouse writes alone: what else is here was left by a kill
            for left in path.parent.glob(f".{path.name}.*.partial"):
                left.unlink(missing_ok=True)
            (rows,) = connection.execute(f"COPY ({query}) TO {literal(str(partial))} ({PARQUET_OPTIONS})").fetchall()[0]
        return int(rows)

    def fetch_arrow(self, query: str, params: Sequence[object] | None = None) -> "pa.Table":
        """Returns a query's rows as an Arrow table."""
        with self._working() as connection:
            return connection.sql(query, params=params).to_arrow_table()

    def fetch_rows(self, query: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Returns a query's rows as tuples; for few rows."""
        with self._working() as connection:
            return connection.execute(query, params).fetchall()

    def execute(self, query: str, params: Sequence[object] | None = None) -> None:
        """Runs a statement; several in one string share no transaction unless they say so."""
        with self._working() as connection:
            distrust(connection)
            connection.execute(query, params)

    def split_sql(self, id_column: str, test_share: float) -> str:
        """Writes `ml.splits.assign_splits` in DuckDB's SQL."""
        from mlops_platform.ml.splits import split_sql

        return split_sql(id_column, test_share)

    @contextmanager
    def validation_source(self) -> Iterator[DuckDBSource]:
        """Lends the tables to a validation that happens where they are."""
        with self.connect() as connection:
            yield DuckDBSource(connection, self.schema_name)

    @contextmanager
    def _working(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """A connection whose DuckDB errors come out as one sentence."""
        import duckdb

        with self.connect() as connection:
            try:
                yield connection
            except duckdb.CatalogException as error:
                missing = re.search(r"(?:Table|View) with name (\S+) does not exist", str(error))
                if missing is None:
                    raise WarehouseError(self._refused(error)) from error
                raise WarehouseError(self._missing(missing[1])) from error
            except duckdb.Error as error:
                raise WarehouseError(self._refused(error)) from error

    @contextmanager
    def _on_table(self, table: str) -> Iterator["duckdb.DuckDBPyConnection"]:
        with self._working() as connection:
            if not self._exists(connection, table):
                raise WarehouseError(self._missing(table))
            yield connection

    def _exists(self, connection: "duckdb.DuckDBPyConnection", table: str) -> bool:
        found = connection.execute(
            "SELECT 1 FROM information_schema.tables WHERE table_catalog = current_database() "
            "AND table_schema = ? AND lower(table_name) = lower(?)",
            [self.schema_name, table],
        ).fetchone()
        return found is not None

    def _missing(self, table: str) -> str:
        return (
            f"The warehouse {self.path} has no table {self.schema_name}.{table}; "
            "materialize the asset that writes it first."
        )

    def _refused(self, error: "duckdb.Error") -> str:
        return f"The warehouse {self.path} refused a statement: {str(error).splitlines()[0]}"

    def _open(self) -> "duckdb.DuckDBPyConnection":
        import duckdb

        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WarehouseError(
                f"The folder of the warehouse {self.path} cannot be made ({error.strerror}); "
                "check MLOPS_HOME and its permissions."
            ) from error
        deadline = time.monotonic() + self.lock_timeout
        waiting = False
        while True:
            try:
                return duckdb.connect(self.path)
            except duckdb.Error as error:
                message = str(error)
                if "set lock on file" not in message:
                    raise WarehouseError(
                        f"The warehouse {self.path} cannot be opened ({message.splitlines()[0]}); "
                        "move the file away to start with an empty one, or check its permissions."
                    ) from error
                holder = _lock_holder(message)
            if time.monotonic() >= deadline:
                raise WarehouseError(
                    f"The warehouse {self.path} is held by {holder}, and was not free within "
                    f"{self.lock_timeout:g} s; wait for that process or stop it."
                )
            if not waiting:
                waiting = True
                dg.get_dagster_logger().info(
                    f"Waiting up to {self.lock_timeout:g} s for the warehouse {self.path}, held by {holder}."
                )
            time.sleep(max(0.0, min(_LOCK_RETRY_SECONDS, deadline - time.monotonic())))

    def _use_schema(self, connection: "duckdb.DuckDBPyConnection") -> None:
        known = connection.execute(
            "SELECT 1 FROM duckdb_schemas() WHERE database_name = current_database() AND schema_name = ?",
            [self.schema_name],
        ).fetchone()
        if known is None:  # asked first: two threads that create it at once would conflict
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(self.schema_name)}")
        connection.execute(f"USE {quote(self.schema_name)}")


def _columns(connection: "duckdb.DuckDBPyConnection", described: str) -> dict[str, str]:
    """Name and type of each column of a table or query."""
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {described}").fetchall()}


def _lock_holder(message: str) -> str:
    """Reads the holder of the lock out of DuckDB's message."""
    found = re.search(r"held in (.+?) \(PID (\d+)\)", message)
    return f"process {found[2]} ({found[1]})" if found else "another process"
