"""Writing rows from Python to a Parquet file, batch by batch, for a warehouse to load."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_platform.resources.warehouse.base import Warehouse

_BATCH_ROWS = 4096


def load_rows(
    warehouse: Warehouse,
    table: str,
    columns: Mapping[str, str],
    rows: Iterable[Mapping[str, Any]],
    where: Mapping[str, object] | None = None,
) -> int:
    """Replace the rows that meet `where` by rows from Python, in one transaction; return the number of these.

    See `write_rows` and `Warehouse.replace_rows` for the arguments.
    """
    with tempfile.TemporaryDirectory(prefix=f"mlops-{table}-") as folder:
        file = Path(folder) / f"{table}.parquet"
        write_rows(file, columns, rows)
        return warehouse.replace_rows(table, file, where or {})


def write_rows(file: Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows to a Parquet file; one batch at a time is in memory.

    Args:
        file: The file; it is replaced.
        columns: Name and DuckDB type of each column; a TIMESTAMP is in UTC without a zone.
        rows: Column to value; other keys are ignored.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "BIGINT": pa.int64(),
        "VARCHAR": pa.string(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "DATE": pa.date32(),
        "TIMESTAMP": pa.timestamp("us"),
        "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    rest = iter(rows)
    with pq.ParquetWriter(file, schema) as writer:
        while batch := list(islice(rest, _BATCH_ROWS)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
