"""Where a validation finds its tables: what Great Expectations needs to work on them where they are."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.resources.table_version import quote
from mlops_platform.sql import identifier

if TYPE_CHECKING:
    import duckdb

    from mlops_platform.resources.bigquery import BigQueryWarehouse


@dataclass(frozen=True)
class EngineArguments:
    """What SQLAlchemy's `create_engine` is called with."""

    url: str
    options: Mapping[str, Any]


class ValidationSource(ABC):
    """Tables of one schema, in a database that SQLAlchemy reaches."""

    schema: str
    # what SQLAlchemy's reflection calls a type, where DuckDB calls it otherwise
    type_names: Mapping[str, str]

    @abstractmethod
    def columns(self, table: str) -> set[str]:
        """Names of a table's columns; none where there is no such table."""

    @abstractmethod
    def engine_arguments(self) -> AbstractContextManager[EngineArguments]:
        """Lends the database to the engines that are made inside the block."""

    @abstractmethod
    def rows_with(
        self, table: str, columns: Sequence[str], wanted: Sequence[Mapping[str, Any]], limit: int
    ) -> list[tuple[Any, ...]] | None:
        """Looks up the rows that hold one of these sets of values.

        Args:
            table: The table.
            columns: What to return of each row.
            wanted: Column to value, one mapping a set.
            limit: Number of rows at most.

        Returns:
            The rows in order of their values; None where the database can't be asked for them.
        """


class DuckDBSource(ValidationSource):
    """A schema of an open DuckDB connection, which stays its owner's."""

    type_names: Mapping[str, str] = {"LargeBinary": "BLOB"}

    def __init__(self, connection: "duckdb.DuckDBPyConnection", schema: str) -> None:
        self._connection, self.schema = connection, schema

    def columns(self, table: str) -> set[str]:
        """Names of a table's columns."""
        rows = self._connection.execute(
            "select column_name from information_schema.columns where table_schema = ? and table_name = ? "
            "and table_catalog = current_database()",
            [self.schema, table],
        ).fetchall()
        return {name for (name,) in rows}

    @contextmanager
    def engine_arguments(self) -> Iterator[EngineArguments]:
        """Lends the connection."""
        from mlops_platform.resources.duckdb_dialect import URL, engine_options

        with engine_options(self._connection) as options:
            yield EngineArguments(URL, options)

    def rows_with(
        self, table: str, columns: Sequence[str], wanted: Sequence[Mapping[str, Any]], limit: int
    ) -> list[tuple[Any, ...]] | None:
        """Looks up rows by their values."""
        import duckdb

        asked = list(wanted[0])
        same = " and ".join(f"{quote(column)} is not distinct from ?" for column in asked)
        try:
            return self._connection.execute(
                f"select {', '.join(map(quote, columns))} from {quote(self.schema)}.{quote(table)} "  # noqa: S608
                f"where {' or '.join([f'({same})'] * len(wanted))} order by all limit {limit}",
                [value[column] for value in wanted for column in asked],
            ).fetchall()
        except duckdb.Error:  # no such column, or values that cannot be asked for
            return None


class BigQuerySource(ValidationSource):
    """The dataset of a BigQuery warehouse; its labels, location and limits hold for the validation's jobs too."""

    type_names: Mapping[str, str] = {
        "String": "VARCHAR",
        "Integer": "BIGINT",
        "Float": "DOUBLE",
        "Boolean": "BOOLEAN",
        "Date": "DATE",
        "DATETIME": "TIMESTAMP",
        "BINARY": "BLOB",
    }

    def __init__(self, warehouse: "BigQueryWarehouse") -> None:
        self._warehouse, self.schema = warehouse, warehouse.schema_name

    def columns(self, table: str) -> set[str]:
        """Names of a table's columns."""
        if not self._warehouse.has_table(table):
            return set()
        return {name for name, _ in self._warehouse.describe(table)}

    @contextmanager
    def engine_arguments(self) -> Iterator[EngineArguments]:
        """Lends the warehouse's client; what BigQuery refuses comes out as the warehouse says it."""
        with self._warehouse.connect() as client, self._warehouse.refusals():
            url = f"bigquery://{self._warehouse.project}/{self.schema}?user_supplied_client=true"
            # a few rows come back: not worth a second connection, to the Storage API
            yield EngineArguments(url, {"connect_args": {"client": client, "prefer_bqstorage_client": False}})

    def rows_with(
        self, table: str, columns: Sequence[str], wanted: Sequence[Mapping[str, Any]], limit: int
    ) -> list[tuple[Any, ...]] | None:
        """Looks up rows by their values."""
        from mlops_platform.errors import WarehouseError

        asked = list(wanted[0])
        named = ", ".join(map(identifier, columns))
        tests, params = [], []
        for each in wanted:
            # a NULL parameter would have no type
            parts = [
                f"{identifier(column)} IS NULL" if each[column] is None else f"{identifier(column)} = ?"
                for column in asked
            ]
            tests.append(f"({' AND '.join(parts)})")
            params += [each[column] for column in asked if each[column] is not None]
        order = ", ".join(f"{identifier(column)} NULLS LAST" for column in columns)
        try:
            return self._warehouse.fetch_rows(
                f"SELECT {named} FROM {identifier(table)} WHERE {' OR '.join(tests)} ORDER BY {order} LIMIT {limit}",  # noqa: S608
                params,
            )
        except WarehouseError:  # no such column, or values that cannot be asked for
            return None
