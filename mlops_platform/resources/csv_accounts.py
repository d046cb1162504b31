"""Reads a CSV with DuckDB's ``read_csv``, if the rows that it gives account for every line of the file.

The rows are written once, into the table that shall hold them, in a transaction that only stands if the accounts are
right. Two more columns hold what each row adds to the accounts; both are dropped before the end, which touches no row.
Writing costs most (reading 10^6 rows takes .2 s of CPU, writing them 1 s).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.resources.csv_casts import CastPlan
from mlops_platform.resources.csv_records import MAX_RECORD_CHARS
from mlops_platform.resources.table_version import literal, quote

if TYPE_CHECKING:
    import duckdb

READ_OPTIONS = (
    "auto_detect=false, header=true, delim=',', quote='\"', escape='\"', comment='', nullstr='', "
    "allow_quoted_nulls=false, strict_mode=true, null_padding=false, ignore_errors=false, "
    "compression='none', encoding='utf-8', hive_partitioning=false, "
)
# bytes of a line and of a buffer, which by default takes sixteen such lines: a gigabyte
LONG_LINES = f"max_line_size={MAX_RECORD_CHARS}, buffer_size={2 * MAX_RECORD_CHARS}"
_LINES = "max_line_size=2000000, buffer_size=32000000"
_BREAKS, _SUSPECT = "_line_breaks", "_suspect"  # columns of a table that is being loaded


def read_accounted(
    connection: duckdb.DuckDBPyConnection,
    plan: CastPlan,
    target: str,
    path: Path,
    lines: int,
    *,
    temporary: bool = False,
) -> int:
    """Begins the transaction that makes a table of what `read_csv` reads, if it accounts for all lines.

    Args:
        connection: An open connection with TimeZone UTC.
        plan: Columns and casts.
        target: The table, as it stands in SQL; one of that name is replaced.
        path: The file: plain, with its header on one line.
        lines: Physical lines of the file, header included.
        temporary: Whether the table is a temporary one.

    Returns:
        Number of rows; 0, and no transaction, if a line is unaccounted for, a value doesn't cast or there is no row.
    """
    import duckdb

    # parallel readers guess where a row starts when a quoted field holds line breaks: they count as long as the
    # accounts are right, else one reader looks again
    kind = "TEMP TABLE" if temporary else "TABLE"
    several, one = f"parallel=true, {_LINES}", f"parallel=false, {LONG_LINES}"
    for how in (several, one):
        try:
            connection.execute("BEGIN")
            _create_accounted(connection, plan, f"{kind} {target}", path, how)
            rows, line_breaks, suspects = connection.execute(
                f"SELECT count(*), coalesce(sum({_BREAKS}), 0), count(*) FILTER ({_SUSPECT}) FROM {target}"  # noqa: S608
            ).fetchall()[0]
            if rows and suspects == 0 and 1 + rows + int(line_breaks) == lines:
                for column in (_BREAKS, _SUSPECT):
                    connection.execute(f"ALTER TABLE {target} DROP COLUMN {column}")
                return int(rows)
        except duckdb.Error as error:
            if how == one and "out of" in str(error).lower():  # memory or disk: no other way has more of it
                raise
        roll_back(connection)
    return 0


def roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """Ends the transaction without a trace; none need have begun."""
    import duckdb

    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        return  # nothing had begun, or DuckDB has given up on the whole connection


def _create_accounted(connection: duckdb.DuckDBPyConnection, plan: CastPlan, table: str, path: Path, how: str) -> None:
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in plan.raw_names)
    values = ", ".join(f"{plan.value(name)} AS {quote(name)}" for name in plan.columns)
    breaks = " + ".join(plan.line_breaks(raw) for raw in plan.raw_names)
    suspect = " OR ".join([*map(plan.holds_row, plan.raw_names), plan.is_bad_row()])
    connection.execute(
        f"CREATE OR REPLACE {table} AS "  # noqa: S608
        f"SELECT {values}, ({breaks})::BIGINT AS {_BREAKS}, ({suspect}) AS {_SUSPECT} FROM ("
        f"SELECT {', '.join(['*', *plan.casts()])} FROM "
        f"read_csv({literal(str(path))}, columns={{{columns}}}, {READ_OPTIONS}{how}))"
    )
