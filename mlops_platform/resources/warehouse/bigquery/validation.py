"""Validation of tables in a BigQuery dataset, through the warehouse's client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops_platform.resources.validation.source import EngineArguments, ValidationSource

if TYPE_CHECKING:
    from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse

__all__ = ["BigQuerySource"]


class BigQuerySource(ValidationSource):
    """The dataset of a BigQuery warehouse; its labels, location and byte limit hold for the validation's jobs."""

    type_names: Mapping[str, str] = {
        "String": "VARCHAR",
        "Integer": "BIGINT",
        "Float": "DOUBLE",
        "Boolean": "BOOLEAN",
        "Date": "DATE",
        "DATETIME": "TIMESTAMP",
        "BINARY": "BLOB",
    }

    def __init__(self, warehouse: BigQueryWarehouse) -> None:
        self._warehouse, self.schema = warehouse, warehouse.schema_name

    def columns(self, table: str) -> set[str]:
        """Return the names of a table's columns; none where there is no such table."""
        return set(dict(self._warehouse.describe(table))) if self._warehouse.has_table(table) else set()

    @contextmanager
    def engine_arguments(self) -> Iterator[EngineArguments]:
        """Lend the warehouse's client; an error of BigQuery is raised as the warehouse's sentence."""
        from mlops_platform.resources.warehouse.bigquery.error_messages import as_warehouse_error

        with self._warehouse.connect() as client, as_warehouse_error(self._warehouse):
            url = f"bigquery://{self._warehouse.project}/{self.schema}?user_supplied_client=true"
            # a few rows come back: not worth a second connection, to the Storage API
            yield EngineArguments(url, {"connect_args": {"client": client, "prefer_bqstorage_client": False}})

    def fetch_rows(self, query: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self._warehouse.fetch_rows(query, params)
