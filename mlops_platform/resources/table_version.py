"""The content version of a table: one digest that says whether two tables hold the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def table_version(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """Digests the content of a table, independent of the order of its rows and columns.

    Every row is written out without ambiguity (NULL differs from '', lengths stand before texts), its MD5 is
    cut into two 60-bit numbers, and these are summed over the rows: a sum has no order, and unlike an
    exclusive or it sees duplicates. MD5 and not DuckDB's hash(), which may change with the release.

    Args:
        connection: An open connection whose current schema holds the table.
        table: Name of a table that exists.

    Returns:
        32 hex digits; the same on every machine and DuckDB release.
    """
    described = connection.execute(f"DESCRIBE {quote(table)}").fetchall()
    columns = sorted((name, kind) for name, kind, *_ in described)
    encoded = row_text(dict(columns))
    count, high, low = connection.execute(
        "SELECT count(*), sum(('0x' || digest[1:15])::BIGINT), sum(('0x' || digest[16:30])::BIGINT)"  # noqa: S608
        f" FROM (SELECT md5({encoded}) AS digest FROM {quote(table)})"
    ).fetchall()[0]
    content = "|".join([repr(columns), str(count), str(int(high or 0)), str(int(low or 0))])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def row_text(columns: Mapping[str, str]) -> str:
    """Returns the SQL that writes a row out without ambiguity.

    Args:
        columns: Column names and their DuckDB types; their order doesn't matter.
    """
    return " || ".join(_encode(name, kind) for name, kind in sorted(columns.items()))


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
