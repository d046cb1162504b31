"""The partitions of warehouse tables as they are now: which there are, when each was changed, how many rows it has.

What belongs here: asking a warehouse. What a difference between two looks means is in `sensors/`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.resources.table_version import digest_sums, literal, quote, row_text

if TYPE_CHECKING:
    import duckdb

UNPARTITIONED = "__UNPARTITIONED__"
_NULL = "__NULL__"  # BigQuery's name for the partition of the rows without a date
_DAY_COLUMN = "created_on"


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of a table; a table that has none, or no rows, is one partition `__UNPARTITIONED__`.

    `modified` is a text that differs whenever the rows do: the time of the last change in microseconds on BigQuery,
    a digest of the rows on DuckDB, which keeps no such time. `created` says when the table was made, and is empty
    where the warehouse doesn't tell.
    """

    table: str
    partition_id: str
    modified: str
    rows: int
    created: str = ""


def bigquery_partitions(
    run: Callable[[str], Iterable[Sequence[Any]]], dataset: str, tables: Sequence[str]
) -> list[Partition]:
    """Ask BigQuery for the partitions of tables, in one query on the dataset's INFORMATION_SCHEMA.

    No table is read: the query bills the minimum of a query, 10 MB.

    Args:
        run: Runs a query and returns its rows, each a sequence of values in the order of the columns.
        dataset: The dataset, as `dataset` or `project.dataset`.
        tables: Names of tables; one that doesn't exist gives no partition.

    Returns:
        At least one partition for each table that exists.
    """
    names = ", ".join(literal(table) for table in tables)
    # from TABLES, so that a table without a partition (one without rows) is told from one that is not there;
    # the partition id of an unpartitioned table is null. One text a table, because Google's client takes 20 us for
    # each value that it turns into Python: 10,000 partitions as rows took 0.2 CPU s
    query = f"""
        SELECT
            t.table_name,
            unix_micros(t.creation_time) AS created,
            string_agg(
                concat(
                    coalesce(p.partition_id, '{UNPARTITIONED}'),
                    ' ', cast(coalesce(unix_micros(p.last_modified_time), 0) AS string),
                    ' ', cast(coalesce(p.total_rows, 0) AS string)
                ),
                ';'
            ) AS partitions
        FROM `{dataset}`.INFORMATION_SCHEMA.TABLES AS t
        LEFT JOIN `{dataset}`.INFORMATION_SCHEMA.PARTITIONS AS p
            ON p.table_name = t.table_name AND p.table_name IN ({names})
        WHERE t.table_name IN ({names})
        GROUP BY t.table_name, t.creation_time
    """  # noqa: S608
    found = []
    for table, created, listed in run(query):
        made = str(created)
        for each in str(listed).split(";"):
            part, modified, rows = each.split(" ")
            found.append(Partition(table, part, modified, int(rows), made))
    return found


def duckdb_partitions(connection: duckdb.DuckDBPyConnection, tables: Sequence[str]) -> list[Partition]:
    """Cut tables by the UTC day of `created_on`; a table without such a timestamp is one partition.

    Args:
        connection: An open connection whose current schema holds the tables.
        tables: Names of tables; one that doesn't exist gives no partition.

    Returns:
        At least one partition for each table that exists.
    """
    there = {
        name
        for (name,) in connection.execute(
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_catalog = current_database() AND table_schema = current_schema()"
        ).fetchall()
    }
    return [part for table in tables if table in there for part in _days(connection, table)]


def _days(connection: duckdb.DuckDBPyConnection, table: str) -> list[Partition]:
    columns = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {quote(table)}").fetchall()}
    dated = columns.get(_DAY_COLUMN, "").startswith(("TIMESTAMP", "DATE"))
    day = f"coalesce(strftime({quote(_DAY_COLUMN)}, '%Y%m%d'), '{_NULL}')" if dated else f"'{UNPARTITIONED}'"
    # two sums of digests, as in table_version: rows have no order, and a doubled row shows
    found = connection.execute(digest_sums(day, row_text(columns), quote(table))).fetchall()
    # of names and types too: a column that is renamed changes every row
    kinds = hashlib.sha256(repr(sorted(columns.items())).encode()).hexdigest()[:8]
    parts = [Partition(table, part, f"{int(high):x}-{int(low):x}-{kinds}", rows) for part, rows, high, low in found]
    return parts or [Partition(table, UNPARTITIONED, kinds, 0)]
