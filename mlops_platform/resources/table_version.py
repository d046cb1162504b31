"""The content version of a table: one digest that says whether two tables hold the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import duckdb

_ALL = 2**64 - 1
_SWAPS = ((8, 0x00FF00FF00FF00FF), (16, 0x0000FFFF0000FFFF), (32, 0x00000000FFFFFFFF))
# from so many rows on MD5 costs more than reading them: 19 of 86 s of CPU, where 10^7 rows go from CSV to a snapshot
LARGE_ROWS = 100_000
MD5 = "md5"
HASH_SUMS = "sum(digest), sum(hash(digest))"  # `high` and `low` of a large table, whose rows' hashes are `digest`
# of these, equal values are written alike; not so 0.0 and -0.0
_EXACT = {"BIGINT", "INTEGER", "VARCHAR", "TIMESTAMP", "DATE", "BOOLEAN"}


class Sums(NamedTuple):
    """What a digest is made of: those of two sets of rows add up to those of both, if summed up by the same.

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

    def __add__(self, other: Sums) -> Sums:  # type: ignore[override]
        """Add up."""
        return Sums(self.rows + other.rows, self.high + other.high, self.low + other.low, self.by)


def table_version(connection: duckdb.DuckDBPyConnection, table: str, columns: Collection[str] | None = None) -> str:
    """Digests the content of a table, independent of the order of its rows and columns.

    Every row is written out without ambiguity (NULL differs from '', lengths stand before texts), its MD5 is
    cut into two 60-bit numbers, and these are summed over the rows: a sum has no order, and unlike an
    exclusive or it sees duplicates. A large table (`digested_by`) is digested by DuckDB's own 64-bit hash() in a tenth
    of the time; since another release may hash otherwise, its name is part of the digest.

    Args:
        connection: An open connection whose current schema holds the table.
        table: Name of a table that exists.
        columns: Names of the columns that count; by default all.

    Returns:
        32 hex digits; the same on every machine and, below `LARGE_ROWS`, DuckDB release.
    """
    counted = table_columns(connection, table, columns)
    return version_of(counted, table_sums(connection, table, counted))


def digested_by(columns: Iterable[tuple[str, str]], rows: int) -> str:
    """Names what digests the rows of a table: MD5, or the hash() of a release of DuckDB.

    Args:
        columns: Name and type of each column.
        rows: Number of rows of the whole table.
    """
    import duckdb

    large = rows >= LARGE_ROWS and all(kind in _EXACT for _, kind in columns)
    return f"duckdb {duckdb.__version__}" if large else MD5


def table_columns(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Collection[str] | None = None
) -> list[tuple[str, str]]:
    """Lists name and type of a table's columns, in the order of their names.

    Args:
        connection: An open connection whose current schema holds the table.
        table: Name of a table that exists.
        columns: Names of the columns that count; by default all.
    """
    described = connection.execute(f"DESCRIBE {quote(table)}").fetchall()
    return sorted((name, kind) for name, kind, *_ in described if columns is None or name in columns)


def table_sums(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[tuple[str, str]], start: int = 0
) -> Sums:
    """Sums up a table.

    Args:
        connection: An open connection whose current schema holds the table.
        table: Name of a table that exists.
        columns: Name and type of each column that counts.
        start: The place (`rowid`) of the first row that counts; by default all count.
    """
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {quote(table)}").fetchall()  # noqa: S608
    by = digested_by(columns, rows)
    counted = f"(FROM {quote(table)} WHERE rowid >= {start})" if start else quote(table)
    if by == MD5:
        sums = connection.execute(digest_sums("0", row_text(dict(columns)), counted)).fetchall()
        _, count, high, low = sums[0] if sums else (0, 0, 0, 0)
    else:
        ((count, high, low),) = connection.execute(
            f"SELECT count(*), {HASH_SUMS} FROM (SELECT {row_hash(columns)} AS digest FROM {counted})"  # noqa: S608
        ).fetchall()
    return Sums(count, int(high or 0), int(low or 0), by)


def row_hash(columns: Iterable[tuple[str, str]]) -> str:
    """Writes the expression that is DuckDB's own hash of a row.

    Args:
        columns: Name and type of each column that counts.
    """
    return f"hash({', '.join(quote(name) for name, _ in sorted(columns))})"


def digest_sums(group: str, text: str, table: str) -> str:
    """Writes the query that digests rows and sums the digests up.

    Args:
        group: An expression; the sums are those of the rows with the same value of it.
        text: The expression that writes a row out.
        table: The rows, as they stand in FROM.

    Returns:
        SQL whose rows are (group, number of rows, sum of the first 15 hex digits of their MD5, sum of the next 15).
    """
    # md5_number has the bytes of the digest in reverse: turning them round as numbers, in three steps of twice as many
    # bytes, takes half the time of reading numbers from the digits
    numbers = (
        f"SELECT part, (digest & {_ALL}::UHUGEINT)::UBIGINT AS high, (digest >> 64)::UBIGINT AS low "  # noqa: S608
        f"FROM (SELECT {group} AS part, md5_number({text}) AS digest FROM {table})"
    )
    for bits, mask in _SWAPS:
        high, low = (f"((({each} & {mask}) << {bits}) | (({each} >> {bits}) & {mask}))" for each in ("high", "low"))
        numbers = f"SELECT part, {high} AS high, {low} AS low FROM ({numbers})"  # noqa: S608
    return (
        f"SELECT part, count(*), sum(high >> 4), sum(((high & 15) << 56) | (low >> 8)) FROM ({numbers}) "  # noqa: S608
        "GROUP BY part"
    )


def version_of(columns: Sequence[tuple[str, str]], sums: Sums) -> str:
    """Makes the digest from what a warehouse has summed up.

    Args:
        columns: (name, DuckDB type) of each column.
        sums: Of the rows.
    """
    told = sums[:-1] if sums.by == MD5 else sums
    content = "|".join([repr(sorted(columns)), *map(str, told)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def row_text(columns: Mapping[str, str]) -> str:
    """Returns the SQL that writes a row out without ambiguity: for each column `length:text;`, or `-;` for NULL.

    Args:
        columns: Column names and their DuckDB types; their order doesn't matter.
    """
    # one concat, which passes over NULLs: a chain of || makes a new text at each step
    return f"concat({', '.join(_encode(name, kind) for name, kind in sorted(columns.items()))})"


def quote(name: str) -> str:
    """Quotes an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quotes an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def _encode(name: str, kind: str) -> str:
    # a timestamp's text has changed between releases, its microseconds have not
    text = f"epoch_us({quote(name)})::VARCHAR" if kind.startswith("TIMESTAMP") else f"{quote(name)}::VARCHAR"
    mark = f"CASE WHEN {text} IS NULL THEN '-' ELSE ':' END"
    return f"strlen({text}), {mark}, {text}, ';'"
