"""Loads one CSV file into one DuckDB table, all or nothing, and accounts for every line of the file.

DuckDB's ``read_csv`` reads the file, with everything declared and nothing sniffed. It is fast, but it can't
be trusted alone: version 2.0 drops rows around a lost quote without an entry in its reject tables, refuses
files that mix LF and CRLF, rounds an id of 1.5 to 2 and drops a time's UTC offset. So the fields arrive as
text, ``csv_casts`` types them, and the load only counts when the rows fill every physical line of the file.
If a line is left over, or a value doesn't cast, ``csv_records`` splits the file again and names each line
that is lost.

A sound file is read once and its rows are written once (``csv_accounts``). Where the table holds the first lines of the
file already, only the others are read (``csv_appending``).
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
from mlops_platform.resources.csv_accounts import LONG_LINES, READ_OPTIONS, read_accounted, roll_back
from mlops_platform.resources.csv_appending import append_rows, known_file
from mlops_platform.resources.csv_casts import CastPlan
from mlops_platform.resources.csv_inspection import CsvFile, inspect_csv, match_columns
from mlops_platform.resources.csv_records import LineSource, Record, read_header, read_records
from mlops_platform.resources.sources import require_file
from mlops_platform.resources.table_records import APPEND_ABOVE_ROWS, FileRecord, remember
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
RAW = "temp.main.csv_raw"  # line, text, c0, c1, ...: the records as text; v0, ...: their casts
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
        fingerprint: XXH3 of the file's bytes, 128 bits in hex.
        appended: Number of rows that were read, where the table held the others; None where it was loaded whole.
    """

    rows: int
    rejected: int
    version: str
    ignored_columns: tuple[str, ...]
    fingerprint: str
    appended: int | None = None


def load_csv(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    path: Path,
    columns: Mapping[str, str],
    source: str,
    append_above: int = APPEND_ABOVE_ROWS,
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
        append_above: From so many rows on, a sound file is remembered, so that one that continues it can be appended.

    Raises:
        SourceError: If the file isn't the CSV that was promised or holds no row that can be read. The old
            table and its rejects stay.
        WarehouseError: If there is no room for temporary files.
    """
    require_file(path, source)
    before = path.stat()
    known = known_file(connection, table, columns)
    file = inspect_csv(path, source, known.file if known else None)
    positions = match_columns(file.header, columns, source)
    plan = CastPlan(columns, positions, len(file.header))

    def unchanged() -> None:
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise SourceError(f"{source} changed while it was being read; run again when it is complete.")

    ignored = tuple(
        name.strip() or f"(column {position + 1}, without a name)"
        for position, name in enumerate(file.header)
        if position not in positions.values()
    )
    try:
        with tempfile.TemporaryDirectory(prefix="mlops-ingest-") as name:
            folder = Path(name)
            if known and file.continues:
                record = append_rows(connection, plan, table, path, file, known, folder, unchanged)
                if record is not None:
                    new = record.rows - known.rows
                    return LoadResult(record.rows, 0, record.version, ignored, file.fingerprint, new)
                file = inspect_csv(path, source)  # the lines that are new are not all sound
            # under a plain name, because read_csv takes * ? [ in a path for a pattern
            link = folder / "source.csv"
            link.symlink_to(path.resolve())
            rows, rejected = _read_directly(connection, plan, table, link, file), 0
            direct = bool(rows)
            if not rows:
                create_damage_table(connection)
                _read_exactly(connection, plan, link, folder, source)
            unchanged()
            if not rows:
                rows, rejected = replace_table(connection, plan, table, source)
            kept = direct and rows >= append_above and file.ends_line
            version = "" if kept else table_version(connection, table)
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
    if kept:  # the pass that remembers the table gives its version too
        whole = FileRecord(size=file.size, fingerprint=file.fingerprint, lines=file.lines)
        version = remember(connection, table, file=whole).version
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
    if not (file.plain and file.one_line_header):
        return 0
    rows = read_accounted(connection, plan, quote(table), path, file.lines)
    if rows:
        create_rejects(connection)
        connection.execute("DELETE FROM rejects WHERE source_table = ?", [table])
    return rows


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
        f"read_csv({literal(str(good_path))}, columns={{{columns}}}, parallel=false, {READ_OPTIONS}{LONG_LINES})"
    )
    connection.execute(
        f"INSERT INTO {DAMAGE} SELECT line, nullif(column_name, ''), reason, text FROM read_csv("  # noqa: S608
        f"{literal(str(damage_path))}, columns={{'line': 'BIGINT', 'column_name': 'VARCHAR', "
        f"'reason': 'VARCHAR', 'text': 'VARCHAR'}}, parallel=false, {READ_OPTIONS}{LONG_LINES})"
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
