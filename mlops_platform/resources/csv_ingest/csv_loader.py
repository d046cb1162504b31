"""Load one CSV file into one DuckDB table, all or nothing, and account for every line of the file.

DuckDB's ``read_csv`` reads the file, with everything declared and nothing detected. It is fast, but can't be trusted
alone: version 2.0 drops rows around a lost quote without an entry in its reject tables, refuses files that mix LF and
CRLF, rounds an id of 1.5 to 2 and drops a time's UTC offset. So the fields arrive as text, ``csv_casts`` types them,
and ``csv_accounts`` accepts the rows only if they fill every physical line of the file. If a line is left over, or a
value doesn't cast, ``csv_records`` splits the file again and names each line that is lost.
"""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import SourceError, WarehouseError
from mlops_platform.resources.content_version import table_version
from mlops_platform.resources.csv_ingest.casts import CastPlan
from mlops_platform.resources.csv_ingest.fast_path import (
    PARALLEL,
    SEQUENTIAL,
    UnaccountedError,
    read_accounted,
    read_csv,
)
from mlops_platform.resources.csv_ingest.inspection import inspect_csv, match_columns
from mlops_platform.resources.csv_ingest.parser import LineSource, Record, read_header, read_records
from mlops_platform.resources.csv_ingest.source_file import require_file
from mlops_platform.sql import SQL, identifier, literal, sql

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
RAW = SQL("temp.main.csv_raw")  # line, text, c0, c1, ...: the records as text; v0, ...: their casts
DAMAGE = SQL("temp.main.csv_damage")  # the lines that are in no record
DAMAGE_COLUMNS = {"line": "BIGINT", "column_name": "VARCHAR", "reason": "VARCHAR", "text": "VARCHAR"}


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

    require_file(path, source)
    before = path.stat()
    file = inspect_csv(path, source)
    positions = match_columns(file.header, columns, source)
    plan = CastPlan(columns, positions, len(file.header))
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
        with tempfile.TemporaryDirectory(prefix="mlops-ingest-") as name:
            # read_csv would take * ? [ in a path for a pattern
            link = Path(name) / "source.csv"
            link.symlink_to(path.resolve())
            for reading in (PARALLEL, SEQUENTIAL) if file.plain and file.one_line_header else ():
                try:
                    with transaction(connection):
                        rows = read_accounted(connection, plan, table, link, file.lines, reading)
                        _clear_rejects(connection, table)
                        return result(rows, 0)
                except UnaccountedError:
                    continue
                except duckdb.Error as error:
                    # memory or disk: no other way of reading needs less
                    if reading == SEQUENTIAL and "out of" in str(error).lower():
                        raise
            with transaction(connection):
                _read_exactly(connection, plan, link, Path(name), source)
                return result(*replace_table(connection, plan, table, source))
    except OSError as error:  # DuckDB's errors are none: only temporary files are written in Python
        raise WarehouseError(
            f"{source} cannot be loaded, because temporary files cannot be written to "
            f"{tempfile.gettempdir()} ({error.strerror}); free some space there, or set TMPDIR."
        ) from error


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block does, or roll it back when it raises."""
    import duckdb

    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):  # DuckDB may have given up on the connection; the first error says why
            connection.execute("ROLLBACK")
        raise


def _read_exactly(connection: duckdb.DuckDBPyConnection, plan: CastPlan, path: Path, folder: Path, source: str) -> None:
    """Split the file with `csv_records`, then load the sound records to RAW and the damaged lines to DAMAGE."""
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
    raw_columns = ((name, "VARCHAR") for name in ["line", "text", *plan.raw_names])
    connection.execute(
        sql(
            "CREATE OR REPLACE TEMP TABLE {raw} AS SELECT {casts} FROM {rows}",
            raw=RAW,
            casts=SQL(", ".join(["*", *plan.casts()])),
            rows=read_csv(good_path, raw_columns, SEQUENTIAL),
        )
    )
    create_damage_table(connection)
    connection.execute(
        sql(
            "INSERT INTO {damage} SELECT line, nullif(column_name, ''), reason, text FROM {rows}",
            damage=DAMAGE,
            rows=read_csv(damage_path, DAMAGE_COLUMNS.items(), SEQUENTIAL),
        )
    )
    ((loaded,),) = connection.execute(sql("SELECT count(*) FROM {raw}", raw=RAW)).fetchall()
    if loaded != written:
        raise SourceError(f"{source} has {written:,} sound rows of which DuckDB read {loaded:,}; nothing was loaded.")


def _write_record(good: TextIO, record: Record) -> None:
    fields = ("" if field is None else '"' + field.replace('"', '""') + '"' for field in (record.text, *record.fields))
    good.write(f"{record.line},{','.join(fields)}\n")


def create_damage_table(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the empty temporary table DAMAGE."""
    columns = SQL(", ".join(f"{name} {kind}" for name, kind in DAMAGE_COLUMNS.items()))
    connection.execute(sql("CREATE OR REPLACE TEMP TABLE {damage} ({columns})", damage=DAMAGE, columns=columns))


def replace_table(connection: duckdb.DuckDBPyConnection, plan: CastPlan, table: str, source: str) -> tuple[int, int]:
    """Replace a table and its rejects by what RAW and DAMAGE hold, and drop these.

    Args:
        connection: The connection, in a transaction.
        plan: Columns and casts.
        table: Name of the table.
        source: Name of the load in errors and in `rejects`.

    Returns:
        Number of rows in the table, and of its lines in `rejects`.

    Raises:
        SourceError: No row can be read.
    """
    good = sql("FROM {raw} WHERE NOT {bad}", raw=RAW, bad=SQL(plan.is_bad_row()))
    for name in plan.columns:
        connection.execute(
            sql(
                "INSERT INTO {damage} SELECT line::BIGINT, {name}, {reason}, text FROM {raw} WHERE {bad}",
                damage=DAMAGE,
                name=literal(name),
                reason=SQL(plan.reason(name)),
                raw=RAW,
                bad=SQL(plan.is_bad(name)),
            )
        )
    ((rows,),) = connection.execute(sql("SELECT count(*) {good}", good=good)).fetchall()
    ((rejected,),) = connection.execute(sql("SELECT count(DISTINCT line) FROM {damage}", damage=DAMAGE)).fetchall()
    if rows == 0:
        raise _no_rows(connection, source, rejected)
    _clear_rejects(connection, table)
    connection.execute(
        sql(
            "INSERT INTO rejects SELECT ?, ?, line, column_name, reason, text FROM {damage} ORDER BY line",
            damage=DAMAGE,
        ),
        [table, source],
    )
    values = SQL(", ".join(f"{plan.value(name)} AS {identifier(name)}" for name in plan.columns))
    connection.execute(
        sql("CREATE OR REPLACE TABLE {table} AS SELECT {values} {good}", table=table, values=values, good=good)
    )
    connection.execute(sql("DROP TABLE {raw}; DROP TABLE {damage}", raw=RAW, damage=DAMAGE))
    return rows, rejected


def create_rejects(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the table `rejects`, unless there is one with the current columns."""
    columns = SQL(", ".join(f"{name} {kind}" for name, kind in REJECT_COLUMNS.items()))
    connection.execute(sql("CREATE TABLE IF NOT EXISTS rejects ({columns})", columns=columns))
    described = {name: kind for name, kind, *_ in connection.execute("DESCRIBE rejects").fetchall()}
    if described != REJECT_COLUMNS:  # written by an older release
        connection.execute(sql("CREATE OR REPLACE TABLE rejects ({columns})", columns=columns))


def _clear_rejects(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    create_rejects(connection)
    connection.execute("DELETE FROM rejects WHERE source_table = ?", [table])


def _no_rows(connection: duckdb.DuckDBPyConnection, source: str, rejected: int) -> SourceError:
    if not rejected:
        return SourceError(f"{source} has a header and no rows; the table keeps its old content.")
    ((line, reason),) = connection.execute(
        sql("SELECT line, reason FROM {damage} ORDER BY line LIMIT 1", damage=DAMAGE)
    ).fetchall()
    return SourceError(
        f"{source} has no row that can be read ({rejected:,} lines rejected; line {line}: {reason}); the "
        "table keeps its old content."
    )
