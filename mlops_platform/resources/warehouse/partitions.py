"""The partitions of warehouse tables as they are now: which exist, when each changed, how many rows it has.

BigQuery's query is in `bigquery.dialect`; what a difference between two polls means, in `sensors/`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.sql import SQL, identifiers, literal, sql

if TYPE_CHECKING:
    import duckdb

UNPARTITIONED = "__UNPARTITIONED__"
_NULL = "__NULL__"  # BigQuery's name for the partition of the rows without a date
_DAY_COLUMN = "created_on"


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of a table; a table that has none, or no rows, is one partition `__UNPARTITIONED__`.

    Attributes:
        table: Name of the table.
        partition_id: The day as `YYYYMMDD`, `__NULL__` or `__UNPARTITIONED__`.
        modified: A text that differs whenever the rows do: the time of the last change in microseconds on BigQuery,
            a digest of the rows on DuckDB, which keeps no such time.
        rows: Number of rows.
        created: When the table was created; empty where the warehouse doesn't know.
    """

    table: str
    partition_id: str
    modified: str
    rows: int
    created: str = ""


def duckdb_partitions(connection: duckdb.DuckDBPyConnection, table: str) -> list[Partition]:
    """Partition a table by the UTC day of `created_on`; a table without such a timestamp is one partition."""
    described = connection.execute(sql("DESCRIBE {table}", table=table)).fetchall()
    columns = {name: kind for name, kind, *_ in sorted(described)}
    dated = columns.get(_DAY_COLUMN, "").startswith(("TIMESTAMP", "DATE"))
    day = f"coalesce(strftime({_DAY_COLUMN}, '%Y%m%d'), {literal(_NULL)})" if dated else literal(UNPARTITIONED)
    # sums of hashes: rows have no order, and a duplicate row shows; a new release of DuckDB may hash differently,
    # which starts one superfluous run
    query = sql(
        "SELECT {day}, count(*), sum(hash({columns})), sum(hash(hash({columns}))) FROM {table} GROUP BY 1",
        day=SQL(day),
        columns=identifiers(columns),
        table=table,
    )
    partitions = [
        # with names and types: a column that is renamed changes every row
        Partition(table, partition_id, _digest(columns, high, low), rows)
        for partition_id, rows, high, low in connection.execute(query).fetchall()
    ]
    return partitions or [Partition(table, UNPARTITIONED, _digest(columns), 0)]


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
