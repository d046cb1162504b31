"""What the embedded warehouse remembers of a large table, so that the next run touches only what is new.

A record is the table's comment: who makes the table anew drops it, and whatever else writes shows, since a record
counts only while the number of rows and their checksum are still those that it tells (the checksum is looked at where
anybody else may have written the file). A table without a record is made whole.

Rows are told apart by DuckDB's `rowid`, their place: what is appended to a table of n rows has the places from n on.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops_platform.resources.table_version import (
    HASH_SUMS,
    MD5,
    Sums,
    digested_by,
    literal,
    quote,
    row_hash,
    table_columns,
    table_sums,
    version_of,
)
from mlops_platform.resources.untouched import Holding, known

if TYPE_CHECKING:
    import duckdb

# below, a table is made whole in the time that is saved
APPEND_ABOVE_ROWS = 100_000
_CHECKSUM = "sum(hash(place, digest))"
_EARLIER = 20  # versions that are remembered: a snapshot of any of them can be continued


class FileRecord(BaseModel):
    """The file that a table was loaded from, all of whose rows were sound.

    Attributes:
        size: Bytes.
        fingerprint: XXH3 of them, 128 bits in hex.
        lines: Physical lines, header included.
    """

    model_config = ConfigDict(frozen=True)

    size: int
    fingerprint: str
    lines: int


class Place(BaseModel):
    """A table at some time: the load that made it, and how many rows it had."""

    model_config = ConfigDict(frozen=True)

    load: str
    rows: int


class TableRecord(BaseModel):
    """What is known of a table.

    Attributes:
        load: A name that is given when the table is made; appending keeps it.
        engine: The DuckDB that summed up the checksum, which another release may do otherwise.
        columns: Name and type of each column.
        sums: What the content version is made of.
        checksum: Sum over the rows of the hash of their place and of their own hash.
        file: Where the rows came from; None for what was built.
        built_of: The tables that it was built of, as they were.
        tested: Fingerprint of the tests that all passed on it.
        earlier: Rows and content version that it had after the last changes, newest last; its own last.
    """

    model_config = ConfigDict(frozen=True)

    load: str = Field(default_factory=lambda: uuid.uuid4().hex)
    engine: str
    columns: tuple[tuple[str, str], ...]
    sums: Sums
    checksum: int
    file: FileRecord | None = None
    built_of: dict[str, Place] = Field(default_factory=dict)
    tested: str = ""
    earlier: tuple[tuple[int, str], ...] = ()

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.sums.rows

    @property
    def place(self) -> Place:
        """The table as it is now."""
        return Place(load=self.load, rows=self.rows)

    @property
    def version(self) -> str:
        """The content version, as `table_version` gives it."""
        return version_of(self.columns, self.sums)


def recall(connection: duckdb.DuckDBPyConnection, table: str) -> TableRecord | None:
    """Gives what is known of a table, if the table is still as it was.

    Args:
        connection: An open connection whose current schema may hold the table.
        table: Its name.
    """
    record = _comment(connection, table)
    if record is None or record.engine != _engine() or record.columns != tuple(table_columns(connection, table)):
        return None
    if record.sums.by != digested_by(record.columns, record.rows):  # written by an older release of this program
        return None
    held, name = _holding(connection), _name(connection, table)
    if held is not None and (held.untouched or name in held.sure):
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {quote(table)}").fetchall()  # noqa: S608
        return record if rows == record.rows else None
    if _checksum(connection, table, record.columns) != (record.rows, record.checksum):
        return None
    if held is not None:
        held.sure.add(name)
    return record


def only_appended(connection: duckdb.DuckDBPyConnection, table: str, before: TableRecord) -> bool:
    """Whether a table that was as a record says has got rows since, lost none and was not made anew.

    Args:
        connection: An open connection whose current schema holds the table.
        table: Its name.
        before: From `recall`, before something that updates no row.
    """
    if _comment(connection, table) != before:
        return False
    ((left,),) = connection.execute(
        f"SELECT count(*) FROM {quote(table)} WHERE rowid < {before.rows}"  # noqa: S608
    ).fetchall()
    return bool(left == before.rows)


def settle(connection: duckdb.DuckDBPyConnection, held: Holding) -> None:
    """Notes that the file is as this program left it, if each table with a record has been looked at.

    Args:
        connection: An open connection to the file.
        held: What is known of it.
    """
    if held.untouched or not held.sure:
        return
    recorded = connection.execute(
        "SELECT schema_name || '.' || lower(table_name) FROM duckdb_tables() "
        "WHERE database_name = current_database() AND starts_with(comment, '{\"load\":')"
    ).fetchall()
    held.untouched = held.sure.issuperset(name for (name,) in recorded)


def remember(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    before: TableRecord | None = None,
    *,
    file: FileRecord | None = None,
    built_of: Mapping[str, Place] | None = None,
    tested: str = "",
) -> TableRecord:
    """Remembers a table; not within the transaction that wrote it, where rows have no place yet.

    Args:
        connection: An open connection whose current schema holds the table.
        table: Its name.
        before: What was known of it, if rows were appended since and nothing else was done: only those are read. None
            for a table that was made anew.
        file: Where its rows came from.
        built_of: What it was built of.
        tested: Fingerprint of the tests that all passed on it.
    """
    start = before.rows if before else 0
    columns = before.columns if before else tuple(table_columns(connection, table))
    sums, checksum = _both_sums(connection, table, columns, start)
    told = {"file": file, "built_of": dict(built_of or {}), "tested": tested}
    if before is None:
        record = TableRecord(engine=_engine(), columns=columns, sums=sums, checksum=checksum, **told)
    else:
        same = before.sums.by == sums.by  # not where it has just become a large table
        total = before.sums + sums if same else table_sums(connection, table, columns)
        added = {"sums": total, "checksum": before.checksum + checksum}
        record = before.model_copy(update={**added, **told})
    return before if before is not None and record == before else _keep(connection, table, record)


def distrust(connection: duckdb.DuckDBPyConnection) -> None:
    """Has each table looked at again, after a statement that may have changed any."""
    held = _holding(connection)
    if held is not None:
        held.distrust()


def forget(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Drops what is known of a table whose rows may change their places."""
    connection.execute(f"COMMENT ON TABLE {quote(table)} IS NULL")


def _keep(connection: duckdb.DuckDBPyConnection, table: str, record: TableRecord) -> TableRecord:
    now = (record.rows, record.version)
    if record.earlier[-1:] != (now,):
        record = record.model_copy(update={"earlier": (*record.earlier, now)[-_EARLIER:]})
    connection.execute(f"COMMENT ON TABLE {quote(table)} IS {literal(record.model_dump_json())}")
    held = _holding(connection)
    if held is not None:
        held.sure.add(_name(connection, table))
    return record


def _comment(connection: duckdb.DuckDBPyConnection, table: str) -> TableRecord | None:
    found = connection.execute(
        "SELECT comment FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name = current_schema() AND lower(table_name) = lower(?)",
        [table],
    ).fetchone()
    try:
        return TableRecord.model_validate_json(found[0]) if found and found[0] else None
    except ValidationError:  # a person's comment, or another release's
        return None


def _holding(connection: duckdb.DuckDBPyConnection) -> Holding | None:
    ((path,),) = connection.execute(
        "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchall()
    return known(Path(path)) if path else None


def _name(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    ((schema,),) = connection.execute("SELECT current_schema()").fetchall()
    return f"{schema}.{table.lower()}"


def _both_sums(
    connection: duckdb.DuckDBPyConnection, table: str, columns: tuple[tuple[str, str], ...], start: int
) -> tuple[Sums, int]:
    """Sums up the rows from a place on for the content version and for the checksum, in one pass where both hash."""
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {quote(table)}").fetchall()  # noqa: S608
    by = digested_by(columns, rows)
    if by == MD5:
        return table_sums(connection, table, columns, start), _checksum(connection, table, columns, start)[1]
    ((count, high, low, checksum),) = connection.execute(
        f"SELECT count(*), {HASH_SUMS}, {_CHECKSUM} FROM {_placed(table, columns, start)}"  # noqa: S608
    ).fetchall()
    return Sums(count, int(high or 0), int(low or 0), by), int(checksum or 0)


def _checksum(
    connection: duckdb.DuckDBPyConnection, table: str, columns: tuple[tuple[str, str], ...], start: int = 0
) -> tuple[int, int]:
    """Counts the rows from a place on, and sums up the hashes of their places and values."""
    ((count, total),) = connection.execute(
        f"SELECT count(*), {_CHECKSUM} FROM {_placed(table, columns, start)}"  # noqa: S608
    ).fetchall()
    return int(count), int(total or 0)


def _placed(table: str, columns: tuple[tuple[str, str], ...], start: int) -> str:
    hashed = row_hash(columns)
    return f"(SELECT rowid AS place, {hashed} AS digest FROM {quote(table)} WHERE rowid >= {start})"  # noqa: S608


def _engine() -> str:
    import duckdb

    return str(duckdb.__version__)
