"""The content version of a table: one digest that says whether two tables hold the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from mlops_platform.sql import SQL, identifiers, sql

if TYPE_CHECKING:
    import duckdb

__all__ = ["LARGE_ROWS", "md5_sums", "table_version", "version_of"]

# from so many rows on, MD5 costs more than reading them: 19 of 86 CPU s where 10^7 rows go from CSV to a snapshot
LARGE_ROWS = 100_000
MD5 = "md5"
# equal values of these types are written alike; not so 0.0 and -0.0
_EXACT = {"BIGINT", "INTEGER", "VARCHAR", "TIMESTAMP", "DATE", "BOOLEAN"}


def table_version(connection: duckdb.DuckDBPyConnection, table: str, columns: Collection[str] | None = None) -> str:
    """Digest the content of a table in some or all columns, independent of the order of its rows and columns.

    A large table (`digested_by`) is digested by DuckDB's own 64-bit hash() in a tenth of the time of `md5_sums`; since
    another release may hash otherwise, the release is part of the digest.

    Returns:
        32 hex digits; the same on every machine and, below `LARGE_ROWS`, in every DuckDB release.
    """
    described = connection.execute(sql("DESCRIBE {table}", table=table)).fetchall()
    counted = sorted((name, kind) for name, kind, *_ in described if columns is None or name in columns)
    ((rows,),) = connection.execute(sql("SELECT count(*) FROM {table}", table=table)).fetchall()
    by = digested_by(counted, rows)
    query = sql(
        "SELECT count(*), sum(digest), sum(hash(digest)) FROM (SELECT hash({names}) AS digest FROM {table})",
        names=identifiers(name for name, _ in counted),
        table=table,
    )
    (sums,) = connection.execute(md5_sums(table, counted) if by == MD5 else query).fetchall()
    return version_of(counted, sums, by)


def digested_by(columns: Iterable[tuple[str, str]], rows: int) -> str:
    """Name what digests a table of (name, type) columns: MD5, or the hash() of a DuckDB release."""
    import duckdb

    large = rows >= LARGE_ROWS and all(kind in _EXACT for _, kind in columns)
    return f"duckdb {duckdb.__version__}" if large else MD5


def md5_sums(table: str, columns: Iterable[tuple[str, str]]) -> SQL:
    """Return the query of a table's number of rows and two sums over them; the columns are (name, DuckDB type).

    Every row is written out without ambiguity (`length:text;` for each column, `-;` for NULL), its MD5 is cut into two
    60-bit numbers, and these are summed: a sum has no order, and unlike an exclusive or it sees duplicates.
    """
    # one concat, because a chain of || makes a new text at each step
    texts = SQL(", ".join(_encode(name, kind) for name, kind in sorted(columns)))
    # as DECIMAL: a sum of 60-bit numbers leaves BigQuery's INT64 after eight rows
    number = "sum(CAST(CAST('0x' || substr(digest, {start}, 15) AS BIGINT) AS DECIMAL(29, 0)))"
    return sql(
        "SELECT count(*), {high}, {low} FROM (SELECT md5(concat({texts})) AS digest FROM {table})",
        high=sql(number, start=1),
        low=sql(number, start=16),
        texts=texts,
        table=table,
    )


def version_of(columns: Iterable[tuple[str, str]], sums: Sequence[int | None], by: str = MD5) -> str:
    """Return the content version that follows from the sums of a table; (name, DuckDB type) are its columns."""
    parts = [int(part or 0) for part in sums] + ([by] if by != MD5 else [])
    content = "|".join([repr(sorted(columns)), *map(str, parts)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _encode(name: str, kind: str) -> SQL:
    # a timestamp's text has changed between releases, its microseconds have not
    value = "epoch_us({column}::TIMESTAMP)" if kind.startswith("TIMESTAMP") else "{column}"
    text = sql(value if kind == "VARCHAR" else f"{value}::VARCHAR", column=name)
    return sql("coalesce(strlen({text})::VARCHAR || ':' || {text}, '-'), ';'", text=text)
