"""The content version of a table: one digest that says whether two tables hold the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mlops_platform.sql import SQL, identifier, identifiers, literal, sql
from mlops_platform.sql import identifier as quote

if TYPE_CHECKING:
    import duckdb

__all__ = ["LARGE_ROWS", "Sums", "digest_sums", "literal", "quote", "row_text", "table_version", "version_of"]

# from so many rows on, MD5 costs more than reading them: 19 of 86 CPU s where 10^7 rows go from CSV to a snapshot
LARGE_ROWS = 100_000
MD5 = "md5"
# equal values of these types are written alike; not so 0.0 and -0.0
_EXACT = {"BIGINT", "INTEGER", "VARCHAR", "TIMESTAMP", "DATE", "BOOLEAN"}


class Sums(NamedTuple):
    """What a content version is computed from.

    Attributes:
        rows: Number of rows.
        high: Sum over the rows of the first 15 hex digits of their MD5, or of DuckDB's hash.
        low: Sum of the next 15, or of the hash's hash.
        by: What the rows were digested by, from `digested_by`.
    """

    rows: int
    high: int
    low: int
    by: str = MD5


def table_version(connection: duckdb.DuckDBPyConnection, table: str, columns: Collection[str] | None = None) -> str:
    """Digest the content of a table, independent of the order of its rows and columns.

    Every row is written out without ambiguity (NULL differs from '', lengths stand before texts), its MD5 is cut into
    two 60-bit numbers, and these are summed over the rows: a sum has no order, and unlike an exclusive or it sees
    duplicates. A large table (`digested_by`) is digested by DuckDB's own 64-bit hash() in a tenth of the time; since
    another release may hash otherwise, the release is part of the digest.

    Args:
        connection: An open connection whose current schema holds the table.
        table: Name of a table that exists.
        columns: Names of the columns that count; by default all.

    Returns:
        32 hex digits; the same on every machine and, below `LARGE_ROWS`, in every DuckDB release.
    """
    described = connection.execute(sql("DESCRIBE {table}", table=table)).fetchall()
    counted = sorted((name, kind) for name, kind, *_ in described if columns is None or name in columns)
    ((rows,),) = connection.execute(sql("SELECT count(*) FROM {table}", table=table)).fetchall()
    by = digested_by(counted, rows)
    if by == MD5:
        query = digest_sums("0", row_text(dict(counted)), identifier(table))
    else:
        query = sql(
            "SELECT 0, count(*), sum(digest), sum(hash(digest)) FROM (SELECT hash({names}) AS digest FROM {table})",
            names=identifiers(name for name, _ in counted),
            table=table,
        )
    sums = connection.execute(query).fetchall()
    _, count, high, low = sums[0] if sums else (0, 0, 0, 0)
    return version_of(counted, Sums(count, int(high or 0), int(low or 0), by))


def digested_by(columns: Iterable[tuple[str, str]], rows: int) -> str:
    """Name what digests the rows of a table: MD5, or the hash() of a DuckDB release.

    Args:
        columns: Name and type of each column.
        rows: Number of rows of the table.
    """
    import duckdb

    large = rows >= LARGE_ROWS and all(kind in _EXACT for _, kind in columns)
    return f"duckdb {duckdb.__version__}" if large else MD5


def digest_sums(group: str, text: str, table: str) -> SQL:
    """Return the query that sums the MD5 digests of rows.

    Args:
        group: An expression; rows with the same value of it are summed together.
        text: The expression that writes a row out, from `row_text`.
        table: The rows, as SQL that may follow FROM.

    Returns:
        SQL whose rows are (group, number of rows, sum of the first 15 hex digits of their MD5, sum of the next 15).
    """
    return sql(
        "SELECT part, count(*), sum(('0x' || digest[1:15])::BIGINT), sum(('0x' || digest[16:30])::BIGINT) "
        "FROM (SELECT {group} AS part, md5({text}) AS digest FROM {table}) GROUP BY part",
        group=SQL(group),
        text=SQL(text),
        table=SQL(table),
    )


def version_of(columns: Sequence[tuple[str, str]], sums: Sums) -> str:
    """Return the content version that follows from what a warehouse has summed up.

    Args:
        columns: (name, DuckDB type) of each column.
        sums: Over the rows.
    """
    parts = sums[:-1] if sums.by == MD5 else sums
    content = "|".join([repr(sorted(columns)), *map(str, parts)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def row_text(columns: Mapping[str, str]) -> SQL:
    """Return the SQL that writes a row out without ambiguity: for each column `length:text;`, or `-;` for NULL.

    Args:
        columns: Column names and their DuckDB types; their order doesn't matter.
    """
    # one concat, which passes over NULLs: a chain of || makes a new text at each step
    return SQL(f"concat({', '.join(_encode(name, kind) for name, kind in sorted(columns.items()))})")


def _encode(name: str, kind: str) -> str:
    # a timestamp's text has changed between releases, its microseconds have not
    value = SQL("epoch_us({column})" if kind.startswith("TIMESTAMP") else "{column}")
    text = sql(f"{value}::VARCHAR", column=name)
    return sql("strlen({text}), CASE WHEN {text} IS NULL THEN '-' ELSE ':' END, {text}, ';'", text=text)
