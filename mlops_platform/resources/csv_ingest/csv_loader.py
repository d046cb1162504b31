"""Load one CSV file into one DuckDB table, all or nothing, and account for every line of the file.

DuckDB's ``read_csv`` reads the file, with everything declared and nothing detected. It is fast, but can't be trusted
alone: version 2.0 drops rows around a lost quote without an entry in its reject tables, refuses files that mix LF and
CRLF, rounds an id of 1.5 to 2 and drops a time's UTC offset. So the fields arrive as text, ``typed_table`` casts them,
and the rows are accepted only if they fill every physical line of the file. If a line is left over, or a value doesn't
cast, ``parser`` splits the file again (at six times the cost) and names each line that is lost.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import SourceError, WarehouseError
from mlops_platform.resources.content_version import table_version
from mlops_platform.resources.csv_ingest.inspection import inspect_csv, match_columns
from mlops_platform.resources.csv_ingest.parser import MAX_RECORD_CHARS, LineSource, Record, read_header, read_records
from mlops_platform.resources.csv_ingest.source_file import require_file
from mlops_platform.resources.csv_ingest.typed_table import (
    RAW,
    TypedColumns,
    add_rejects,
    clear_rejects,
    replace_table,
    transaction,
)
from mlops_platform.sql import SQL, literal, sql

if TYPE_CHECKING:
    from typing import TextIO

    import duckdb

_OPTIONS = (
    "auto_detect=false, header=true, delim=',', quote='\"', escape='\"', comment='', nullstr='', "
    "allow_quoted_nulls=false, strict_mode=true, null_padding=false, ignore_errors=false, "
    "compression='none', encoding='utf-8', hive_partitioning=false, "
)
# bytes of a line and of a buffer, which by default holds sixteen such lines: a gigabyte
_SEQUENTIAL = f"parallel=false, max_line_size={MAX_RECORD_CHARS}, buffer_size={2 * MAX_RECORD_CHARS}"
# parallel readers guess where a row starts when a quoted field holds line breaks: the accounts tell whether they erred
_PARALLEL = "parallel=true, max_line_size=2000000, buffer_size=32000000"
# the start of a field of a type in a line; of any other type: anything without comma and quote
_STARTS = {"BIGINT": ' *"?[+-]?[0-9]+"? *', "TIMESTAMP": ' *"?[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}[^,"]*"?'}


@dataclass(frozen=True)
class LoadResult:
    """The outcome of a load.

    Attributes:
        rows: Number of rows in the table.
        rejected: Number of lines in the rejects table, counted once each. A well-formed row whose value
            doesn't fit its type counts as one line; a row whose quotes or width are damaged counts with each
            physical line that it takes along, so that a quote that swallows half a file weighs half a file.
        version: Content version of the table.
        ignored_columns: Names of the file's columns that the table doesn't have.
        fingerprint: XXH3 of the file's bytes, 128 bits in hex.
    """

    rows: int
    rejected: int
    version: str
    ignored_columns: tuple[str, ...]
    fingerprint: str


class UnaccountedError(Exception):
    """A line is in no row, a row may have swallowed others, a value doesn't cast, or there is no row."""


def load_csv(
    connection: duckdb.DuckDBPyConnection, table: str, path: Path, columns: Mapping[str, str], source: str
) -> LoadResult:
    """Replace a table and its entries in `rejects` by the content of a CSV file, in one transaction.

    Args:
        connection: An open connection with TimeZone UTC; its current schema holds the tables.
        table: Name of the table.
        path: The file.
        columns: Name and DuckDB type of each column. BIGINT takes whole numbers only, TIMESTAMP takes ISO
            8601 (an offset is converted to UTC, digits behind the microseconds are cut off), VARCHAR keeps
            the text as it stands. An empty field is NULL, in VARCHAR only if it isn't quoted.
        source: Name of the file in errors and in `rejects`.

    Raises:
        SourceError: The file isn't the expected CSV or holds no row that can be read. The old table and its rejects
            stay.
        WarehouseError: There is no room for temporary files.
    """
    import duckdb

    before = require_file(path, source)
    file = inspect_csv(path, source)
    positions = match_columns(file.header, columns, source)
    typed = TypedColumns(columns, positions, len(file.header))
    ignored = tuple(
        name.strip() or f"(column {position + 1}, without a name)"
        for position, name in enumerate(file.header)
        if position not in positions.values()
    )

    def result(rows: int, rejected: int) -> LoadResult:
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise SourceError(f"{source} changed while it was being read; run again when it is complete.")
        return LoadResult(rows, rejected, table_version(connection, table), ignored, file.fingerprint)

    try:
        with tempfile.TemporaryDirectory(prefix="mlops-ingest-") as folder:
            # read_csv would take * ? [ in a path for a pattern
            link = Path(folder) / "source.csv"
            link.symlink_to(path.resolve())
            if file.plain:
                try:
                    with transaction(connection):
                        clear_rejects(connection, table)
                        return result(read_accounted(connection, typed, table, link, file.lines), 0)
                except (UnaccountedError, duckdb.Error):
                    pass  # the parser reads what read_csv cannot
            with transaction(connection):
                clear_rejects(connection, table)
                _read_exactly(connection, typed, link, table, source)
                return result(*replace_table(connection, typed, table, source))
    except OSError as error:  # DuckDB's errors are none: only temporary files are written in Python
        raise WarehouseError(
            f"{source} cannot be loaded, because temporary files cannot be written to "
            f"{tempfile.gettempdir()} ({error.strerror}); free some space there, or set TMPDIR."
        ) from error


def read_accounted(
    connection: duckdb.DuckDBPyConnection, columns: TypedColumns, table: str, path: Path, lines: int
) -> int:
    """Replace a table by the rows that `read_csv` reads; the caller rolls back after an error.

    The rows are written once, together with two columns that say what each row adds to the accounts; both are dropped
    at the end, which rewrites no row. Of 10^6 rows, reading takes 0.2 s of CPU and writing 1 s.

    Args:
        connection: An open connection with TimeZone UTC, in a transaction.
        columns: The columns of the table.
        table: Name of the table.
        path: The file; its name holds no pattern (`*`, `?`, `[`).
        lines: Physical lines of the file, header included.

    Returns:
        Number of rows.

    Raises:
        UnaccountedError: The rows don't account for all lines.
        duckdb.Error: DuckDB can't read the file so.
    """
    start = _row_start(columns)
    swallowed = [_in_broken(raw, f"regexp_matches({raw}, '[\\r\\n]{start}')", "false") for raw in columns.raw_names]
    breaks = [_in_broken(raw, f"len(string_split_regex({raw}, '\\r\\n?|\\n')) - 1", "0") for raw in columns.raw_names]
    connection.execute(
        sql(
            "CREATE OR REPLACE TABLE {table} AS SELECT {values}, ({breaks})::BIGINT AS _line_breaks, "
            "({suspect}) AS _suspect FROM (SELECT {raw_and_casts} FROM {rows})",
            table=table,
            values=columns.values,
            breaks=SQL(" + ".join(breaks)),
            suspect=SQL(" OR ".join([*(swallowed if start else []), columns.bad_row])),
            raw_and_casts=columns.raw_and_casts,
            rows=_read_csv(path, columns.raw_names, _PARALLEL),
        )
    )
    query = "SELECT count(*), coalesce(sum(_line_breaks), 0), count(*) FILTER (_suspect) FROM {table}"
    ((rows, line_breaks, suspects),) = connection.execute(sql(query, table=table)).fetchall()
    if not rows or suspects or 1 + rows + int(line_breaks) != lines:
        raise UnaccountedError
    for column in ("_line_breaks", "_suspect"):
        connection.execute(sql("ALTER TABLE {table} DROP COLUMN {column}", table=table, column=column))
    return int(rows)


def _read_csv(path: Path, columns: list[str], reading: str) -> SQL:
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in columns)
    return SQL(f"read_csv({literal(str(path))}, columns={{{types}}}, {_OPTIONS}{reading})")


def _in_broken(raw: str, value: str, default: str) -> str:
    """Return SQL that computes a value of the raw texts with a line break only."""
    return f"CASE WHEN contains({raw}, chr(10)) OR contains({raw}, chr(13)) THEN {value} ELSE {default} END"


def _row_start(columns: TypedColumns) -> str | None:
    """Return a pattern (Python's and RE2's) for the start of a row, up to the last column with a typed pattern."""
    typed = [position for position, kind in columns.kinds.items() if kind in _STARTS]
    if not typed:
        return None
    fields = (_STARTS.get(columns.kinds.get(position, ""), '[^,"]*') for position in range(max(typed) + 1))
    return ",".join(fields) + r"(?:,|[\r\n]|$)"


def _read_exactly(
    connection: duckdb.DuckDBPyConnection, columns: TypedColumns, path: Path, table: str, source: str
) -> None:
    """Split the file with ``parser``, then load the sound records to RAW and the damaged lines to `rejects`."""
    names = {position: name for name, position in columns.positions.items()}
    width = len(columns.raw_names)
    start = _row_start(columns)
    records_path = path.with_name("records.csv")
    written = 0
    with (
        path.open(encoding="utf-8-sig", newline="") as handle,
        records_path.open("w", encoding="utf-8", newline="") as records,
    ):
        records.write("header\n")
        lines = LineSource(handle)
        read_header(lines)
        for item in read_records(lines, width, re.compile(start) if start else None):
            if isinstance(item, Record):
                _write_record(records, [str(item.line), item.text, None, None, *item.fields])
            else:
                column = None if item.column is None else names.get(item.column)
                _write_record(records, [str(item.line), item.text, column, item.reason, *[None] * width])
            written += 1
    raw_columns = ["line", "text", "column_name", "reason", *columns.raw_names]
    connection.execute(
        sql(
            "CREATE OR REPLACE TEMP TABLE {raw} AS SELECT {casts} FROM {rows}",
            raw=RAW,
            casts=columns.raw_and_casts,
            rows=_read_csv(records_path, raw_columns, _SEQUENTIAL),
        )
    )
    ((loaded,),) = connection.execute(sql("SELECT count(*) FROM {raw}", raw=RAW)).fetchall()
    if loaded != written:
        raise SourceError(f"{source} has {written:,} records of which DuckDB read {loaded:,}; nothing was loaded.")
    damaged = sql("FROM {raw} WHERE reason IS NOT NULL", raw=RAW)
    add_rejects(connection, table, source, SQL(f"SELECT line, column_name, reason, text {damaged}"))
    connection.execute(SQL(f"DELETE {damaged}"))


def _write_record(file: TextIO, fields: list[str | None]) -> None:
    quoted = ("" if field is None else '"' + field.replace('"', '""') + '"' for field in fields)
    file.write(",".join(quoted) + "\n")
