"""The operations that the graph needs of a warehouse; assets and checks know this class only.

Callers write SQL in DuckDB's dialect. A warehouse of another dialect transpiles it with sqlglot, so a query may use
what sqlglot translates; what it can't translate is a method here.
"""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_platform.resources.csv_ingest.csv_loader import LoadResult
from mlops_platform.resources.warehouse.partitions import Partition
from mlops_platform.resources.warehouse.split_sql import split_sql
from mlops_platform.sql import SQL, sql

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_platform.resources.validation.source import ValidationSource

__all__ = ["LoadResult", "Warehouse"]


class Warehouse(dg.ConfigurableResource):
    """Tables in one schema; each method succeeds as a whole or leaves what was there.

    Types have DuckDB's names. Times are UTC, without a time zone. A missing table, and all else that the warehouse
    refuses, is a `WarehouseError`.
    """

    schema_name: str = Field(default="mlops_course", description="Schema of the tables.")

    @abstractmethod
    def connect(self) -> AbstractContextManager[Any]:
        """Hold one connection for the whole block; outside of one, each method opens its own."""

    @abstractmethod
    def load_csv(self, table: str, path: Path, columns: Mapping[str, str], source: str) -> LoadResult:
        """Replace a table, and its entries in `rejects`, by the rows of a local CSV file with these columns and types.

        Errors and `rejects` name the file `source`. One that can't be loaded is a `SourceError`, and the old table
        stays.
        """

    @abstractmethod
    def load_table(self, table: str, landing: str, columns: Mapping[str, str], source: str) -> int:
        """Replace a table, and its entries in `rejects`, by the typed rows of a landing table that a loader wrote.

        Other columns of the landing table are left out. One that lacks a column, or has no row that can be read, is a
        `SourceError` that names `source`, and the old table stays.

        Returns:
            Number of rows that went to `rejects`.
        """

    @abstractmethod
    def replace_rows(self, table: str, file: Path, where: Mapping[str, object]) -> int:
        """Replace some of a table's rows by those of a Parquet file, in one transaction; return the number of these.

        Args:
            table: Name of the table; when missing, it is created with the file's columns.
            file: The new rows; all of them should meet `where`, or a second call would add them again.
            where: Column to value: rows that have all of these values are deleted. Empty: all rows are.
        """

    @abstractmethod
    def clear_rejects(self, table: str) -> None:
        """Delete a table's entries from `rejects`, which is created when missing."""

    @abstractmethod
    def has_table(self, table: str) -> bool:
        """Return whether the table (or view) exists."""

    def row_count(self, table: str) -> int:
        """Count the rows of a table."""
        return int(self.fetch_rows(sql("SELECT count(*) FROM {table}", table=table))[0][0])

    @abstractmethod
    def describe(self, table: str) -> list[tuple[str, str]]:
        """List a table's columns as (name, DuckDB type), in their order."""

    @abstractmethod
    def content_version(self, table: str, columns: Collection[str] | None = None) -> str:
        """Digest the content of a table in some or all columns, independent of row order (see `table_version`).

        Below `LARGE_ROWS` the digest is the same on each warehouse.
        """

    @abstractmethod
    def partitions(self, tables: Sequence[str]) -> list[Partition]:
        """List the current partitions of tables; one that doesn't exist has none.

        No table is read where the warehouse keeps statistics.
        """

    @abstractmethod
    def export_parquet(self, query: str, path: Path) -> int:
        """Write the rows of a SELECT, in its order, to a Parquet file, atomically; return their number.

        The folder of the file is created when missing, an old file is replaced.
        """

    @abstractmethod
    def fetch_arrow(self, query: str, params: Sequence[object] | None = None) -> "pa.Table":
        """Return a query's rows as an Arrow table."""

    @abstractmethod
    def fetch_rows(self, query: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Return a query's rows as tuples; for few rows."""

    def execute(self, query: str, params: Sequence[object] | None = None) -> None:
        """Run a statement; several in one string are no transaction unless they say BEGIN and COMMIT."""
        self.fetch_rows(query, params)

    def split_sql(self, id_column: str, test_share: float) -> SQL:
        """Return an expression that is 'train' or 'test' (see `split_sql.split_sql`)."""
        return split_sql(id_column, test_share)

    def refusal(self, message: str) -> str | None:  # noqa: ARG002
        """Return one sentence for the warehouse's message as a tool that works on it passed it on, or None."""
        return None

    @abstractmethod
    def validation_source(self) -> AbstractContextManager["ValidationSource"]:
        """Lend the tables to a validation that runs where they are."""
