"""What comes out of BigQuery, as the embedded warehouse would give it: plain values, Arrow tables, Parquet files."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.bigquery_sql import DUCKDB_TYPES
from mlops_platform.resources.table_version import literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa
    from google.cloud.bigquery.table import RowIterator
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient


def plain(value: Any) -> Any:
    """A time in UTC without its zone, as DuckDB gives it."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value


def _arrow_schema(rows: RowIterator) -> pa.Schema:
    """What a query's columns are in Arrow, with times in UTC without a zone."""
    import pyarrow as pa

    kinds = {
        "BIGINT": pa.int64(),
        "VARCHAR": pa.string(),
        "TIMESTAMP": pa.timestamp("us"),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "DATE": pa.date32(),
    }
    named = [(field.name, DUCKDB_TYPES.get(field.field_type)) for field in rows.schema]
    strange = [name for name, kind in named if kind is None]
    if strange:
        raise WarehouseError(f"BigQuery's column {strange[0]} has a type that the platform doesn't read: cast it.")
    return pa.schema([(name, kinds[str(kind)]) for name, kind in named])


def arrow_table(rows: RowIterator, reader: BigQueryReadClient) -> pa.Table:
    """Reads rows as an Arrow table."""
    return rows.to_arrow(bqstorage_client=reader, create_bqstorage_client=False).cast(_arrow_schema(rows))


def write_parquet(rows: RowIterator, reader: BigQueryReadClient, path: Path) -> int:
    """Writes rows as they come; what breaks while they come is raised as it is, and not as an error of DuckDB's."""
    import duckdb
    import pyarrow as pa

    schema = _arrow_schema(rows)
    broken: list[Exception] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for each in rows.to_arrow_iterable(bqstorage_client=reader):
                yield _without_zones(each, schema)
        except Exception as error:
            broken.append(error)
            raise

    with duckdb.connect() as connection:
        connection.register("fetched", pa.RecordBatchReader.from_batches(schema, batches()))
        try:
            (count,) = connection.execute(
                f"COPY (FROM fetched) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)"
            ).fetchall()[0]
        except duckdb.Error:
            if broken:
                raise broken[0] from None
            raise
    return int(count)


def _without_zones(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)], schema=schema
    )
