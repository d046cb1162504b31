"""Where a validation finds its tables: what Great Expectations needs to validate them in their database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from mlops_platform.errors import WarehouseError
from mlops_platform.sql import SQL, identifiers, sql

__all__ = ["EngineArguments", "ValidationSource"]


@dataclass(frozen=True)
class EngineArguments:
    """What SQLAlchemy's `create_engine` is called with."""

    url: str
    options: Mapping[str, Any]


class ValidationSource(ABC):
    """Tables of one schema, in a database that SQLAlchemy connects to."""

    schema: str
    # SQLAlchemy's name of a type to DuckDB's, where they differ
    type_names: Mapping[str, str]

    @abstractmethod
    def columns(self, table: str) -> set[str]:
        """Return the names of a table's columns; none where there is no such table."""

    @abstractmethod
    def engine_arguments(self) -> AbstractContextManager[EngineArguments]:
        """Lend the database to the engines that are created inside the block."""

    @abstractmethod
    def fetch_rows(self, query: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query in DuckDB's dialect, with parameters for its `?`.

        Raises:
            WarehouseError: The database refuses the query.
        """

    def row_count(self, table: str) -> int:
        """Return the number of rows of a table."""
        ((count,),) = self.fetch_rows(sql("SELECT count(*) FROM {schema}.{table}", schema=self.schema, table=table))
        return int(count)

    def rows_with(
        self, table: str, columns: Sequence[str], examples: Sequence[Mapping[str, Any]], limit: int
    ) -> list[tuple[Any, ...]] | None:
        """Return the columns of the rows that hold one of several combinations of values, ordered by their values.

        Args:
            table: The table.
            columns: What to return of each row.
            examples: The combinations; each maps the same columns to values.
            limit: Largest number of rows.

        Returns:
            None where there is no such column or a value cannot be queried.
        """

        def condition(column: str, value: Any) -> str:
            # NULL as a parameter would have no type on BigQuery
            return sql("{column} IS NULL" if value is None else "{column} = ?", column=column)

        rows = [" AND ".join(condition(*item) for item in example.items()) for example in examples]
        query = sql(
            "SELECT {columns} FROM {schema}.{table} WHERE {condition} ORDER BY {order} LIMIT {limit}",
            columns=identifiers(columns),
            schema=self.schema,
            table=table,
            condition=SQL(" OR ".join(f"({row})" for row in rows)),
            order=SQL(", ".join(sql("{column} NULLS LAST", column=column) for column in columns)),
            limit=limit,
        )
        params = [value for example in examples for value in example.values() if value is not None]
        try:
            return self.fetch_rows(query, params)
        except WarehouseError:
            return None
