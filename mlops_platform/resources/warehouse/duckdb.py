"""The embedded warehouse: one DuckDB file, and the only place that opens it.

How a CSV is read belongs to ``csv_ingest``; what a table means belongs to the assets.
"""

import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_platform.atomic_write import atomic_write
from mlops_platform.errors import WarehouseError, first_line
from mlops_platform.resources.content_version import table_version
from mlops_platform.resources.csv_ingest.csv_loader import LoadResult, load_csv
from mlops_platform.resources.csv_ingest.landing_table import load_table, require_same_columns
from mlops_platform.resources.csv_ingest.typed_table import clear_rejects, transaction
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.duckdb_validation import DuckDBSource
from mlops_platform.resources.warehouse.partitions import Partition, duckdb_partitions
from mlops_platform.sql import SQL, identifier, literal, sql

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["DuckDBWarehouse", "LoadResult"]

# on texts half the size of snappy, in the same time; small row groups, because a reader holds a whole one in memory
PARQUET_OPTIONS = SQL(
    "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARQUET_VERSION v2, DICTIONARY_SIZE_LIMIT 64, "
    "ROW_GROUP_SIZE 8192"
)
_LOCK_RETRY_SECONDS = 0.25
_SENSOR_LOCK_TIMEOUT = 5.0  # seconds; Dagster gives a tick 60


class DuckDBWarehouse(Warehouse):
    """A DuckDB file whose tables live in one schema.

    One process holds the file at a time, so each method opens it, does one thing and closes it again.
    """

    path: str = Field(description="The DuckDB file; it and its folder are created when missing.")
    lock_timeout: float = Field(default=60.0, ge=0, description="Seconds to wait for another process with the file.")
    memory_mb: int = Field(default=1024, ge=64, description="MiB that DuckDB may hold; the rest goes to files.")
    # texts that are all different shrink to 0.4, and that is two thirds of what a load costs
    compress_texts: bool = Field(default=False, description="Whether tables take less disk and more time to write.")

    @contextmanager
    def connect(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """Open the file read-write, in UTC and in the platform's schema, and close it at the end.

        Always with DuckDB's default configuration: a second connection of the process with another one fails.
        """
        connection = self._open()
        try:
            disabled = "" if self.compress_texts else "dict_fsst"
            connection.execute(
                f"SET TimeZone = 'UTC'; SET memory_limit = '{self.memory_mb}MiB'; "
                f"SET disabled_compression_methods = '{disabled}'"
            )
            exists = connection.execute(
                "SELECT 1 FROM duckdb_schemas() WHERE database_name = current_database() AND schema_name = ?",
                [self.schema_name],
            ).fetchone()
            if exists is None:  # two threads that create it at once would conflict
                connection.execute(sql("CREATE SCHEMA IF NOT EXISTS {schema}", schema=self.schema_name))
            connection.execute(sql("USE {schema}", schema=self.schema_name))
            yield connection
        finally:
            connection.close()

    def load_csv(self, table: str, path: Path, columns: Mapping[str, str], source: str) -> LoadResult:
        """Replace a table, and its entries in `rejects`, by the rows of a CSV file, in one transaction."""
        with self._session() as connection:
            return load_csv(connection, table, path, columns, source)

    def load_table(self, table: str, landing: str, columns: Mapping[str, str], source: str) -> int:
        """Replace a table, and its entries in `rejects`, by the typed rows of another one, in one transaction."""
        with self._session() as connection:
            return load_table(connection, table, landing, columns, source)

    def replace_rows(self, table: str, file: Path, where: Mapping[str, object]) -> int:
        """Replace some of a table's rows by those of a Parquet file, in one transaction."""
        rows = sql("read_parquet({file})", file=literal(str(file)))
        with self._session() as connection, transaction(connection):
            connection.execute(sql("CREATE TABLE IF NOT EXISTS {table} AS FROM {rows} LIMIT 0", table=table, rows=rows))
            require_same_columns(table, _columns(connection, identifier(table)), _columns(connection, rows))
            conditions = SQL("".join(sql(" AND {column} = ?", column=column) for column in where))
            connection.execute(
                sql("DELETE FROM {table} WHERE true{conditions}", table=table, conditions=conditions),
                list(where.values()),
            )
            inserted = connection.execute(sql("INSERT INTO {table} BY NAME FROM {rows}", table=table, rows=rows))
            ((count,),) = inserted.fetchall()
        return int(count)

    def clear_rejects(self, table: str) -> None:
        """Delete a table's entries from `rejects`, which is created when missing."""
        with self._session() as connection:
            clear_rejects(connection, table)

    def has_table(self, table: str) -> bool:
        """Return whether the table (or view) exists."""
        query = (
            "SELECT 1 FROM information_schema.tables WHERE table_catalog = current_database() "
            "AND table_schema = current_schema() AND lower(table_name) = lower(?)"
        )
        return bool(self.fetch_rows(query, [table]))

    def describe(self, table: str) -> list[tuple[str, str]]:
        """List a table's columns as (name, DuckDB type), in their order."""
        with self._session() as connection:
            return list(_columns(connection, identifier(table)).items())

    def content_version(self, table: str, columns: Collection[str] | None = None) -> str:
        """Digest a table's content, independent of row order (see `table_version`)."""
        with self._session() as connection:
            return table_version(connection, table, columns)

    def partitions(self, tables: Sequence[str]) -> list[Partition]:
        """List the current partitions of tables; sensors call this, so it waits less long for the lock than a run."""
        brief = self.model_copy(update={"lock_timeout": min(self.lock_timeout, _SENSOR_LOCK_TIMEOUT)})
        with brief._session() as connection:
            existing = [table for table in tables if brief.has_table(table)]
            return [partition for table in existing for partition in duckdb_partitions(connection, table)]

    def export_parquet(self, query: str, path: Path) -> int:
        """Write a query's rows to a Parquet file, atomically."""
        with atomic_write(path) as partial, self._session() as connection:
            # nobody else writes while this process holds the warehouse: other partial files are left from a kill
            for stale in path.parent.glob(f".{path.name}.*.partial"):
                stale.unlink(missing_ok=True)
            copied = connection.execute(
                sql(
                    "COPY ({query}) TO {file} ({options})",
                    query=SQL(query),
                    file=literal(str(partial)),
                    options=PARQUET_OPTIONS,
                )
            )
            ((rows,),) = copied.fetchall()
        return int(rows)

    def fetch_arrow(self, query: str, params: Sequence[object] | None = None) -> "pa.Table":
        """Return a query's rows as an Arrow table."""
        with self._session() as connection:
            return connection.sql(query, params=params).to_arrow_table()

    def fetch_rows(self, query: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Return a query's rows as tuples; for few rows."""
        with self._session() as connection:
            return connection.execute(query, params).fetchall()

    @contextmanager
    def validation_source(self) -> Iterator[DuckDBSource]:
        """Lend the tables to a validation that runs where they are."""
        with self.connect() as connection:
            yield DuckDBSource(connection, self.schema_name)

    @contextmanager
    def _session(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """Yield a connection whose DuckDB errors are raised as one sentence."""
        import duckdb

        with self.connect() as connection:
            try:
                yield connection
            except duckdb.Error as error:
                message = first_line(error)
                missing = re.search(r"(?:Table|View) with name (\S+) does not exist", message)
                if missing is None:
                    raise WarehouseError(f"The warehouse {self.path} refused a statement: {message}") from error
                raise WarehouseError(
                    f"The warehouse {self.path} has no table {self.schema_name}.{missing[1]}; "
                    "materialize the asset that writes it first."
                ) from error

    def _open(self) -> "duckdb.DuckDBPyConnection":
        import duckdb

        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WarehouseError(
                f"The folder of the warehouse {self.path} cannot be created ({error.strerror}); "
                "check MLOPS_HOME and its permissions."
            ) from error
        deadline, waiting = time.monotonic() + self.lock_timeout, False
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
                named = re.search(r"held in (.+?) \(PID (\d+)\)", message)
                holder = f"process {named[2]} ({named[1]})" if named else "another process"
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


def _columns(connection: "duckdb.DuckDBPyConnection", rows: SQL) -> dict[str, str]:
    """Return name and type of each column of what may follow FROM."""
    described = connection.execute(sql("DESCRIBE FROM {rows}", rows=rows)).fetchall()
    return {name: kind for name, kind, *_ in described}
