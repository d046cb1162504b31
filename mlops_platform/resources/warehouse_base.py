"""What the graph asks of a warehouse: the one class that assets and checks know, whichever warehouse they run on.

Callers write SQL that both dialects read (`CAST(x AS STRING)`, not `x::VARCHAR`; `NULLS LAST` where NULLs are
ordered); what differs for good is a method here.
"""

import os
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_platform.resources.csv_loading import LoadResult
from mlops_platform.resources.partitions import Partition

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_platform.resources.table_growth import Growth
    from mlops_platform.resources.validation_sources import ValidationSource

__all__ = ["LoadResult", "Warehouse", "written_whole"]


class Warehouse(dg.ConfigurableResource):
    """Tables in one schema; each method does one thing as a whole, or leaves what was there.

    Types are named as DuckDB names them, times are UTC and come without a zone.
    """

    schema_name: str = Field(default="mlops_course", description="Schema of the tables.")

    @abstractmethod
    def connect(self) -> AbstractContextManager[Any]:
        """Holds one connection for what the block does; without it, each method opens its own.

        Raises:
            WarehouseError: If the warehouse can't be opened.
        """

    @abstractmethod
    def load_csv(self, table: str, path: Path, columns: Mapping[str, str], source: str) -> LoadResult:
        """Replaces a table by the rows of a CSV file, and its entries in `rejects`.

        Args:
            table: Name of the table.
            path: The local file.
            columns: Column names and their DuckDB types.
            source: What to call the file in errors and in `rejects`.

        Raises:
            SourceError: If the file can't be loaded; the old table stays.
            WarehouseError: If the warehouse can't take it; the old table stays.
        """

    @abstractmethod
    def load_table(self, table: str, landing: str, columns: Mapping[str, str], source: str) -> int:
        """Replaces a table by the typed rows of another one, and its entries in `rejects`.

        Args:
            table: Name of the table.
            landing: The table that a loader wrote; it stays as it is.
            columns: Column names and their DuckDB types; other columns of the landing table are left out.
            source: What to call the load in errors and in `rejects`.

        Returns:
            Number of rows that went to `rejects`.

        Raises:
            SourceError: If the landing table lacks a column or has no row that can be read; the old table stays.
            WarehouseError: If the landing table doesn't exist.
        """

    @abstractmethod
    def replace_rows(self, table: str, file: Path, where: Mapping[str, object]) -> int:
        """Replaces some of a table's rows by those of a Parquet file, in one transaction.

        Args:
            table: Name of the table; it is made, with the file's columns, when missing.
            file: The new rows; each should meet `where`, else a repetition would add it again.
            where: Column to value: rows that have all of them go. Empty: all rows go.

        Returns:
            Number of rows that came.

        Raises:
            WarehouseError: If the file's columns are not the table's; the old rows stay.
        """

    @abstractmethod
    def clear_rejects(self, table: str) -> None:
        """Removes a table's entries from `rejects`, which is made when missing."""

    @abstractmethod
    def has_table(self, table: str) -> bool:
        """Says whether the table (or view) exists."""

    @abstractmethod
    def row_count(self, table: str) -> int:
        """Counts the rows of a table.

        Raises:
            WarehouseError: If the table doesn't exist.
        """

    @abstractmethod
    def describe(self, table: str) -> list[tuple[str, str]]:
        """Lists a table's columns as (name, DuckDB type), in their order.

        Raises:
            WarehouseError: If the table doesn't exist.
        """

    @abstractmethod
    def content_version(self, table: str, columns: Collection[str] | None = None) -> str:
        """Digests a table's content, independent of row order.

        Below `LARGE_ROWS` (see `table_version`) the digest is the same on each warehouse.

        Args:
            table: Name of the table.
            columns: Names of the columns that count; by default all.

        Raises:
            WarehouseError: If the table doesn't exist.
        """

    def growth(self, models: Mapping[str, Collection[str]], tests: str) -> "Growth | None":  # noqa: ARG002
        """Says what the tables have grown by that others are built of, where the warehouse can tell.

        Args:
            models: Names of the tables that are built, each with those that it is built of.
            tests: Fingerprint of all their tests.
        """
        return None

    def remember_built(self, table: str, growth: "Growth", *, tested: bool) -> None:
        """Remembers of what a table was built; asked only where `growth` gave something.

        Args:
            table: Name of the table, which was just built.
            growth: What was asked before.
            tested: Whether all its tests passed.
        """

    def earlier_versions(self, table: str) -> list[tuple[int, str]]:  # noqa: ARG002
        """Lists (rows, content version) of what a table was before rows were appended, latest first.

        Args:
            table: Name of the table, whose first rows, by `rowid`, are each of these.
        """
        return []

    @abstractmethod
    def partitions(self, tables: Sequence[str]) -> list[Partition]:
        """Lists the partitions of tables as they are now, without reading a table where the warehouse keeps count.

        Args:
            tables: Names of tables; one that doesn't exist gives no partition.

        Raises:
            WarehouseError: If the warehouse can't be asked.
        """

    @abstractmethod
    def export_parquet(self, query: str, path: Path) -> int:
        """Writes a query's rows to a Parquet file, which appears whole or not at all.

        Args:
            query: A SELECT; its ORDER BY is the order of the rows.
            path: The file; its folder is made when missing, an old file is replaced.

        Returns:
            Number of rows.
        """

    @abstractmethod
    def fetch_arrow(self, query: str, params: Sequence[object] | None = None) -> "pa.Table":
        """Returns a query's rows as an Arrow table."""

    @abstractmethod
    def fetch_rows(self, query: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Returns a query's rows as tuples; for few rows."""

    @abstractmethod
    def execute(self, query: str, params: Sequence[object] | None = None) -> None:
        """Runs a statement; several in one string share no transaction unless they say so."""

    @abstractmethod
    def split_sql(self, id_column: str, test_share: float) -> str:
        """Writes `ml.splits.assign_splits` in the warehouse's SQL: an expression that is 'train' or 'test'."""

    def refusal(self, said: str) -> str | None:  # noqa: ARG002
        """The sentence for what the warehouse refused to a tool that works on it; None where it has no better one.

        Args:
            said: The warehouse's message, as the tool passed it on.
        """
        return None

    @abstractmethod
    def validation_source(self) -> AbstractContextManager["ValidationSource"]:
        """Lends the tables to a validation that happens where they are."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a file to write beside `path`; it takes that place if the block succeeds, and else goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
