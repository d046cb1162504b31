"""Validation of tables in an open DuckDB connection: a schema of the warehouse, or a snapshot as a view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.validation.source import EngineArguments, ValidationSource

if TYPE_CHECKING:
    import duckdb

__all__ = ["DuckDBSource"]


class DuckDBSource(ValidationSource):
    """A schema of an open DuckDB connection, which its owner closes."""

    type_names: Mapping[str, str] = {"LargeBinary": "BLOB"}

    def __init__(self, connection: duckdb.DuckDBPyConnection, schema: str) -> None:
        self._connection, self.schema = connection, schema

    def columns(self, table: str) -> set[str]:
        """Return the names of a table's columns; none where there is no such table."""
        rows = self.fetch_rows(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = ? AND table_name = ? "
            "AND table_catalog = current_database()",
            [self.schema, table],
        )
        return {name for (name,) in rows}

    @contextmanager
    def engine_arguments(self) -> Iterator[EngineArguments]:
        """Lend the connection to the engines that are created inside the block."""
        from mlops_platform.resources.validation.duckdb_dialect import URL, engine_options

        with engine_options(self._connection) as options:
            yield EngineArguments(URL, options)

    def fetch_rows(self, query: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        import duckdb

        try:
            return self._connection.execute(query, list(params)).fetchall()
        except duckdb.Error as error:
            raise WarehouseError(str(error)) from error
