"""Loads one CSV file into one DuckDB table, all or nothing, and accounts for every line of the file.

DuckDB's ``read_csv`` reads the file, with everything declared and nothing sniffed. It is fast, but it can't
be trusted alone: version 2.0 drops rows around a lost quote without an entry in its reject tables, refuses
files that mix LF and CRLF, rounds an id of 1.5 to 2 and drops a time's UTC offset. So the fields arrive as
text, ``csv_casts`` types them, and the load only counts when the rows fill every physical line of the file.
If a line is left over, or a value doesn't cast, ``csv_records`` splits the file again and names each line
that is lost.

A sound file is read once and its rows are written once: they go into the table itself, in a transaction that only
stands if the accounts are right. Two more columns hold what each row adds to the accounts; both are dropped before
the end, which touches no row. Writing costs most (reading 10^6 rows takes .2 s of CPU, writing them 1 s).
"""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import SourceError, WarehouseError
from mlops_platform.resources.csv_casts import CastPlan
from mlops_platform.resources.csv_inspection import CsvFile, inspect_csv, match_columns
from mlops_platform.resources.csv_records import (
    MAX_RECORD_CHARS,
    LineSource,
    Record,
    read_header,
    read_records,
)
from mlops_platform.resources.table_version import literal, quote, table_version

if TYPE_CHECKING:
    from typing import TextIO

    import duckdb

REJECT_COLUMNS = {
    "source_table": "VARCHAR",
    "file": "VARCHAR",
    "line": "BIGINT",
    "column_name": "VARCHAR",
    "reason": "VARCHAR",
    "text": "VARCHAR",
}
_READ_OPTIONS = (
    "auto_detect=false, header=true, delim=',', quote='\"', escape='\"', comment='', nullstr='', "
    "allow_quoted_nulls=false, strict_mode=true, null_padding=false, ignore_errors=false, "
    "compression='none', encoding='utf-8', hive_partitioning=false, "
)
# bytes of a line and of a buffer, which by default takes sixteen such lines: a gigabyte
_LONG_LINES = f"max_line_size={MAX_RECORD_CHARS}, buffer_size={2 * MAX_RECORD_CHARS}"
_LINES = "max_line_size=2000000, buffer_size=32000000"
RAW = "temp.main.csv_raw"  # line, text, c0, c1, ...: the records as text; v0, ...: their casts
_BREAKS, _SUSPECT = "_line_breaks", "_suspect"  # columns of a table that is being loaded
DAMAGE = "temp.main.csv_damage"  # line, column_name, reason, text: the lines that are in no record


@dataclass(frozen=True)
class LoadResult:
    """What a load did.

    Attributes:
        rows: Number of rows in the table.
        rejected: Number of lines in the rejects table, counted once each. A well-formed row whose value
            doesn't fit its type counts as one line; a row whose quotes or width are damaged counts with each
            physical line that it takes along, so that a quote that swallows half a file weighs half a file.
        version: Content version of the table.
        ignored_columns: Names of the file's columns that the table doesn't have.
        fingerprint: SHA-256 of the file's bytes, in hex.
    """

    rows: int
    rejected: int
    version: str
    ignored_columns: tuple[str, ...]
    fingerprint: str


def load_csv(
    connection: duckdb.DuckDBPyConnection, table: str, path: Path, columns: Mapping[str, str], source: str
) -> LoadResult:
    """Replaces a table and its entries in `rejects` by the content of a CSV file, in one transaction.

    Args:
        connection: An open connection with TimeZone UTC; its current schema takes the tables.
        table: Name of the table.
        path: The file.
        columns: Name and DuckDB type of each column. BIGINT takes whole numbers only, TIMESTAMP takes ISO
            8601 (an offset is converted to UTC, digits behind the microseconds are cut off), VARCHAR keeps
            the text as it stands. An empty field is NULL, in VARCHAR only if it isn't quoted.
        source: What to call the file in errors and in `rejects`.

    Raises:
        SourceError: If the file isn't the CSV that was promised or holds no row that can be read. The old
            table and its rejects stay.
        WarehouseError: If there is no room for temporary files.
    """
    file = inspect_csv(path, source)
    positions = match_columns(file.header, columns, source)
    before = path.stat()
    plan = CastPlan(columns, positions, len(file.header))
    try:
        with tempfile.TemporaryDirectory(prefix="mlops-ingest-") as folder:
            # under a plain name, because read_csv takes * ? [ in a path for a pattern
            link = Path(folder) / "source.csv"
            link.symlink_to(path.resolve())
            rows, rejected = _read_directly(connection, plan, table, link, file), 0
            if not rows:
                create_damage_table(connection)
                _read_exactly(connection, plan, link, Path(folder), source)
            after = path.stat()
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise SourceError(f"{source} changed while it was being read; run again when it is complete.")
            if not rows:
                rows, rejected = replace_table(connection, plan, table, source)
            version = table_version(connection, table)
            connection.execute("COMMIT")
            connection.execute(f"DROP TABLE IF EXISTS {RAW}; DROP TABLE IF EXISTS {DAMAGE}")
    except OSError as error:  # before the transaction: only temporary files are written in Python
        raise WarehouseError(
            f"{source} cannot be loaded, because temporary files cannot be written to "
            f"{tempfile.gettempdir()} ({error.strerror}); free some space there, or set TMPDIR."
        ) from error
    except BaseException:
        roll_back(connection)
        raise
    ignored = tuple(
        name.strip() or f"(column {position + 1}, without a name)"
        for position, name in enumerate(file.header)
        if position not in positions.values()
    )
    return LoadResult(rows, rejected, version, ignored, file.fingerprint)


def create_damage_table(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the empty temporary table DAMAGE, in place of one that an earlier load left."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {DAMAGE} (line BIGINT, column_name VARCHAR, reason VARCHAR, text VARCHAR)"
    )


def _read_directly(connection: duckdb.DuckDBPyConnection, plan: CastPlan, table: str, path: Path, file: CsvFile) -> int:
    """Begins the transaction that replaces the table by what `read_csv` alone reads, if it accounts for all.

    Returns:
        Number of rows; 0, and no transaction, if a line is unaccounted for, a value doesn't cast or there is no row.
    """
    import duckdb

    if not (file.plain and file.one_line_header):
        return 0
    # parallel readers guess where a row starts when a quoted field holds line breaks: they count as long as the
    # accounts are right, else one reader looks again
    several, one = f"parallel=true, {_LINES}", f"parallel=false, {_LONG_LINES}"
    for how in (several, one):
        try:
            connection.execute("BEGIN")
            _create_accounted(connection, plan, table, path, how)
            rows, line_breaks, suspects = connection.execute(
                f"SELECT count(*), coalesce(sum({_BREAKS}), 0), count(*) FILTER ({_SUSPECT}) FROM {quote(table)}"  # noqa: S608
            ).fetchall()[0]
            if rows and suspects == 0 and 1 + rows + int(line_breaks) == file.lines:
                for column in (_BREAKS, _SUSPECT):
                    connection.execute(f"ALTER TABLE {quote(table)} DROP COLUMN {column}")
                create_rejects(connection)
                connection.execute("DELETE FROM rejects WHERE source_table = ?", [table])
                return int(rows)
        except duckdb.Error as error:
            if how == one and "out of" in str(error).lower():  # memory or disk: no other way has more of it
                raise
        roll_back(connection)
    return 0


def _create_accounted(connection: duckdb.DuckDBPyConnection, plan: CastPlan, table: str, path: Path, how: str) -> None:
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in plan.raw_names)
    values = ", ".join(f"{plan.value(name)} AS {quote(name)}" for name in plan.columns)
    breaks = " + ".join(plan.line_breaks(raw) for raw in plan.raw_names)
    suspect = " OR ".join([*map(plan.holds_row, plan.raw_names), plan.is_bad_row()])
    connection.execute(
        f"CREATE OR REPLACE TABLE {quote(table)} AS "  # noqa: S608
        f"SELECT {values}, ({breaks})::BIGINT AS {_BREAKS}, ({suspect}) AS {_SUSPECT} FROM ("
        f"SELECT {', '.join(['*', *plan.casts()])} FROM "
        f"read_csv({literal(str(path))}, columns={{{columns}}}, {_READ_OPTIONS}{how}))"
    )


def _read_exactly(connection: duckdb.DuckDBPyConnection, plan: CastPlan, path: Path, folder: Path, source: str) -> None:
    """Splits the file with `csv_records`, then `read_csv` loads the sound records and the damaged lines."""
    good_path, damage_path = folder / "good.csv", folder / "damage.csv"
    names = {position: name for name, position in plan.positions.items()}
    start = plan.row_start()
    written = 0
    with (
        path.open(encoding="utf-8-sig", newline="") as handle,
        good_path.open("w", encoding="utf-8", newline="") as good,
        damage_path.open("w", encoding="utf-8", newline="") as damage,
    ):
        damaged = csv.writer(damage, quoting=csv.QUOTE_ALL, lineterminator="\n")
        good.write("header\n")
        damaged.writerow(["header"])
        lines = LineSource(handle)
        read_header(lines)
        for item in read_records(lines, len(plan.raw_names), re.compile(start) if start else None):
            if isinstance(item, Record):
                _write_record(good, item)
                written += 1
            else:
                column = None if item.column is None else names.get(item.column)
                damaged.writerow([item.line, column or "", item.reason, item.text])
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in ["line", "text", *plan.raw_names])
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {RAW} AS SELECT {', '.join(['*', *plan.casts()])} FROM "  # noqa: S608
        f"read_csv({literal(str(good_path))}, columns={{{columns}}}, parallel=false, {_READ_OPTIONS}{_LONG_LINES})"
    )
    connection.execute(
        f"INSERT INTO {DAMAGE} SELECT line, nullif(column_name, ''), reason, text FROM read_csv("  # noqa: S608
        f"{literal(str(damage_path))}, columns={{'line': 'BIGINT', 'column_name': 'VARCHAR', "
        f"'reason': 'VARCHAR', 'text': 'VARCHAR'}}, parallel=false, {_READ_OPTIONS}{_LONG_LINES})"
    )
    loaded = connection.execute(f"SELECT count(*) FROM {RAW}").fetchall()[0][0]  # noqa: S608
    if loaded != written:
        raise SourceError(f"{source} has {written:,} sound rows of which DuckDB read {loaded:,}; nothing was loaded.")


def _write_record(good: TextIO, record: Record) -> None:
    fields = ("" if field is None else '"' + field.replace('"', '""') + '"' for field in (record.text, *record.fields))
    good.write(f"{record.line},{','.join(fields)}\n")


def replace_table(connection: duckdb.DuckDBPyConnection, plan: CastPlan, table: str, source: str) -> tuple[int, int]:
    """Begins the transaction that swaps a table and its rejects for what RAW and DAMAGE hold.

    The caller commits, or calls `roll_back`.

    Returns:
        Number of rows in the table, and of its lines in `rejects`.

    Raises:
        SourceError: If no row can be read.
    """
    for name in plan.columns:
        connection.execute(
            f"INSERT INTO {DAMAGE} SELECT line::BIGINT, {literal(name)}, {plan.reason(name)}, text "  # noqa: S608
            f"FROM {RAW} WHERE {plan.is_bad(name)}"
        )
    rows, rejected = connection.execute(
        f"SELECT (SELECT count(*) FROM {RAW} WHERE NOT {plan.is_bad_row()}), "  # noqa: S608
        f"(SELECT count(DISTINCT line) FROM {DAMAGE})"
    ).fetchall()[0]
    if rows == 0:
        raise _no_rows(connection, source, rejected)
    connection.execute("BEGIN")
    create_rejects(connection)
    connection.execute("DELETE FROM rejects WHERE source_table = ?", [table])
    connection.execute(
        f"INSERT INTO rejects SELECT ?, ?, line, column_name, reason, text FROM {DAMAGE} ORDER BY line",  # noqa: S608
        [table, source],
    )
    values = ", ".join(f"{plan.value(name)} AS {quote(name)}" for name in plan.columns)
    connection.execute(
        f"CREATE OR REPLACE TABLE {quote(table)} AS SELECT {values} FROM {RAW} WHERE NOT {plan.is_bad_row()}"  # noqa: S608
    )
    return rows, rejected


def create_rejects(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the table `rejects`, if there is none of today's columns."""
    columns = ", ".join(f"{name} {kind}" for name, kind in REJECT_COLUMNS.items())
    connection.execute(f"CREATE TABLE IF NOT EXISTS rejects ({columns})")
    found = {name: kind for name, kind, *_ in connection.execute("DESCRIBE rejects").fetchall()}
    if found != REJECT_COLUMNS:  # written by an older release
        connection.execute(f"CREATE OR REPLACE TABLE rejects ({columns})")


def _no_rows(connection: duckdb.DuckDBPyConnection, source: str, rejected: int) -> SourceError:
    if not rejected:
        return SourceError(f"{source} has a header and no rows; the table keeps its old content.")
    line, reason = connection.execute(
        f"SELECT line, reason FROM {DAMAGE} ORDER BY line LIMIT 1"  # noqa: S608
    ).fetchall()[0]
    return SourceError(
        f"{source} has no row that can be read ({rejected:,} lines rejected; line {line}: {reason}); the "
        "table keeps its old content."
    )


def roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """Ends the transaction without a trace; none need have begun."""
    import duckdb

    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        return  # nothing had begun, or DuckDB has given up on the whole connection
