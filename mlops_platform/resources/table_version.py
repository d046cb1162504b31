"""The content version of a table: one digest that says whether two tables hold the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def table_version(connection: duckdb.DuckDBPyConnection, table: str, columns: Collection[str] | None = None) -> str:
    """Digests the content of a table, independent of the order of its rows and columns.

    Every row is written out without ambiguity (NULL differs from '', lengths stand before texts), its MD5 is
    cut into two 60-bit numbers, and these are summed over the rows: a sum has no order, and unlike an
    exclusive or it sees duplicates. MD5 and not DuckDB's hash(), which may change with the release.

    Args:
        connection: An open connection whose current schema holds the table.
        table: Name of a table that exists.
        columns: Names of the columns that count; by default all.

    Returns:
        32 hex digits; the same on every machine and DuckDB release.
    """
    described = connection.execute(f"DESCRIBE {quote(table)}").fetchall()
    counted = sorted((name, kind) for name, kind, *_ in described if columns is None or name in columns)
    encoded = " || ".join(_encode(name, kind) for name, kind in counted)
    count, high, low = connection.execute(
        "SELECT count(*), sum(('0x' || digest[1:15])::BIGINT), sum(('0x' || digest[16:30])::BIGINT)"  # noqa: S608
        f" FROM (SELECT md5({encoded}) AS digest FROM {quote(table)})"
    ).fetchall()[0]
    return version_of(counted, count, int(high or 0), int(low or 0))


def version_of(columns: Sequence[tuple[str, str]], count: int, high: int, low: int) -> str:
    """Makes the digest from what a warehouse has summed up.

    Args:
        columns: (name, DuckDB type) of each column.
        count: Number of rows.
        high: Sum over the rows of the first 15 hex digits of their MD5.
        low: Sum of the next 15.
    """
    content = "|".join([repr(sorted(columns)), str(count), str(high), str(low)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def quote(name: str) -> str:
    """Quotes an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quotes an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def _encode(name: str, kind: str) -> str:
    # a timestamp's text has changed between releases, its microseconds have not
    text = f"epoch_us({quote(name)})::VARCHAR" if kind.startswith("TIMESTAMP") else f"{quote(name)}::VARCHAR"
    return f"coalesce(strlen({text}) || ':' || {text}, '-') || ';'"
