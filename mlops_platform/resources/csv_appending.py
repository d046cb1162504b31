"""Appends to a table the lines that its CSV file has got since it was loaded.

Only where all is as it was: the file begins with the bytes of the one that was loaded (by their fingerprint), which had
no line that was rejected; the table holds exactly its rows; and the new lines are sound. Anything else is loaded whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.resources.csv_accounts import read_accounted
from mlops_platform.resources.csv_casts import CastPlan
from mlops_platform.resources.csv_inspection import CsvFile
from mlops_platform.resources.table_records import FileRecord, TableRecord, recall, remember
from mlops_platform.resources.table_version import quote

if TYPE_CHECKING:
    import duckdb

_NEW = "temp.main.csv_new"


def known_file(connection: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str]) -> TableRecord | None:
    """Gives what is known of a table, if it holds exactly the rows of a file that is known.

    Args:
        connection: An open connection whose current schema may hold the table.
        table: Its name.
        columns: The names and types that it shall have.
    """
    record = recall(connection, table)
    wanted = tuple(sorted(columns.items()))
    return record if record is not None and record.file is not None and record.columns == wanted else None


def append_rows(
    connection: duckdb.DuckDBPyConnection,
    plan: CastPlan,
    table: str,
    path: Path,
    file: CsvFile,
    known: TableRecord,
    folder: Path,
    unchanged: Callable[[], None],
) -> TableRecord | None:
    """Appends the rows of the lines that are new, in one transaction.

    Args:
        connection: An open connection with TimeZone UTC; its current schema holds the table.
        plan: Columns and casts.
        table: Name of the table.
        path: The file, which continues the known one.
        file: What its bytes say.
        known: From `known_file`.
        folder: Takes a copy of the new lines.
        unchanged: Raises if the file has changed meanwhile.

    Returns:
        What is known of the table now; None, and nothing is done, if a new line is not sound.
    """
    old = known.file
    if old is None or not (file.plain and file.one_line_header and file.ends_line):
        return None
    if file.size == old.size:
        return known
    tail = folder / "new.csv"
    with path.open("rb") as source, tail.open("wb") as target:
        target.write(source.readline())
        source.seek(old.size)
        shutil.copyfileobj(source, target, 1 << 20)
    rows = read_accounted(connection, plan, _NEW, tail, 1 + file.lines - old.lines, temporary=True)
    if not rows:
        return None
    unchanged()
    names = ", ".join(map(quote, plan.columns))
    connection.execute(f"INSERT INTO {quote(table)} ({names}) SELECT {names} FROM {_NEW}")  # noqa: S608
    connection.execute(f"DROP TABLE {_NEW}")
    connection.execute("COMMIT")
    now = FileRecord(size=file.size, fingerprint=file.fingerprint, lines=file.lines)
    return remember(connection, table, known, file=now)
