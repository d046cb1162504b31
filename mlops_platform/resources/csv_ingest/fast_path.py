"""Read a CSV with DuckDB's ``read_csv``, provided that its rows account for every line of the file.

The rows are written once, into the table that will hold them, together with two columns that say what each row adds to
the accounts; both are dropped at the end, which rewrites no row. Writing costs most: of 10^6 rows, reading takes 0.2 s
of CPU and writing 1 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.resources.csv_ingest.casts import CastPlan
from mlops_platform.resources.csv_ingest.parser import MAX_RECORD_CHARS
from mlops_platform.sql import SQL, identifier, literal, sql

if TYPE_CHECKING:
    import duckdb

_OPTIONS = (
    "auto_detect=false, header=true, delim=',', quote='\"', escape='\"', comment='', nullstr='', "
    "allow_quoted_nulls=false, strict_mode=true, null_padding=false, ignore_errors=false, "
    "compression='none', encoding='utf-8', hive_partitioning=false, "
)
# bytes of a line and of a buffer, which by default holds sixteen such lines: a gigabyte
SEQUENTIAL = f"parallel=false, max_line_size={MAX_RECORD_CHARS}, buffer_size={2 * MAX_RECORD_CHARS}"
# parallel readers guess where a row starts when a quoted field holds line breaks: the accounts tell whether they erred
PARALLEL = "parallel=true, max_line_size=2000000, buffer_size=32000000"
_BREAKS, _SUSPECT = "_line_breaks", "_suspect"  # columns of a table that is being loaded


class UnaccountedError(Exception):
    """A line is in no row, a row may have swallowed others, a value doesn't cast, or there is no row."""


def read_csv(path: Path, columns: Iterable[tuple[str, str]], reading: str) -> SQL:
    """Return the table function that reads a CSV with a header line as declared, with nothing detected.

    Args:
        path: The file; its name holds no pattern (`*`, `?`, `[`).
        columns: Name and DuckDB type of each column of the file.
        reading: SEQUENTIAL or PARALLEL.
    """
    types = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in columns)
    return SQL(f"read_csv({literal(str(path))}, columns={{{types}}}, {_OPTIONS}{reading})")


def read_accounted(
    connection: duckdb.DuckDBPyConnection, plan: CastPlan, table: str, path: Path, lines: int, reading: str
) -> int:
    """Replace a table by the rows that `read_csv` reads; the caller rolls back after an error.

    Args:
        connection: An open connection with TimeZone UTC, in a transaction.
        plan: Columns and casts.
        table: Name of the table.
        path: The file: plain, with its header on one line.
        lines: Physical lines of the file, header included.
        reading: SEQUENTIAL or PARALLEL.

    Returns:
        Number of rows.

    Raises:
        UnaccountedError: The rows don't account for all lines.
        duckdb.Error: DuckDB can't read the file so.
    """
    connection.execute(
        sql(
            "CREATE OR REPLACE TABLE {table} AS SELECT {values}, ({breaks})::BIGINT AS {breaks_name}, "
            "({suspect}) AS {suspect_name} FROM (SELECT {casts} FROM {rows})",
            table=table,
            values=SQL(", ".join(f"{plan.value(name)} AS {identifier(name)}" for name in plan.columns)),
            breaks=SQL(" + ".join(plan.line_breaks(raw) for raw in plan.raw_names)),
            breaks_name=_BREAKS,
            suspect=SQL(" OR ".join([*map(plan.holds_row, plan.raw_names), plan.is_bad_row()])),
            suspect_name=_SUSPECT,
            casts=SQL(", ".join(["*", *plan.casts()])),
            rows=read_csv(path, ((name, "VARCHAR") for name in plan.raw_names), reading),
        )
    )
    ((rows, line_breaks, suspects),) = connection.execute(
        sql(
            "SELECT count(*), coalesce(sum({breaks}), 0), count(*) FILTER ({suspect}) FROM {table}",
            breaks=_BREAKS,
            suspect=_SUSPECT,
            table=table,
        )
    ).fetchall()
    if not rows or suspects or 1 + rows + int(line_breaks) != lines:
        raise UnaccountedError
    for column in (_BREAKS, _SUSPECT):
        connection.execute(sql("ALTER TABLE {table} DROP COLUMN {column}", table=table, column=column))
    return int(rows)
