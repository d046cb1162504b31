"""A table of typed columns from rows of raw texts: strict casts in SQL, and `rejects` for what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mlops_platform.errors import SourceError
from mlops_platform.sql import SQL, identifier, literal, sql

if TYPE_CHECKING:
    import duckdb

REJECT_COLUMNS = {
    "source_table": "VARCHAR",
    "file": "VARCHAR",
    "line": "BIGINT",
    "column_name": "VARCHAR",
    "reason": "VARCHAR",
    "text": "VARCHAR",
}
RAW = SQL("temp.main.raw_rows")  # line, text, c0, c1, ...: the rows as texts; v0, ...: their casts

_INTEGER = r"[+-]?[0-9]+(?:\.0*)?"
_TIMESTAMP = (
    r"[1-9][0-9]{3}-[0-9]{1,2}-[0-9]{1,2}"
    r"(?:[T ][0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z| ?UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_SHOWN_TIME = "____-__-__ __:__:__%"  # how DuckDB writes a time of the years 1000 to 9999
_REASONS = {
    "BIGINT": "is not a whole number that fits BIGINT",
    "TIMESTAMP": "is not an ISO 8601 time such as 2026-01-31T12:00:00Z",
}


class TypedColumns:
    """The SQL that casts the raw texts c0, c1, ... of a row to the declared columns.

    Args:
        columns: Name and DuckDB type of each column.
        positions: Position of each column among the raw texts.
        width: Number of raw texts.
    """

    def __init__(self, columns: Mapping[str, str], positions: Mapping[str, int], width: int) -> None:
        self.positions = positions
        self.raw_names = [f"c{position}" for position in range(width)]
        # by position; texts are not cast
        self.kinds = {positions[name]: kind.upper() for name, kind in columns.items() if kind.upper() != "VARCHAR"}
        casts = (f"{_cast(f'c{position}', kind)} AS v{position}" for position, kind in self.kinds.items())
        self.raw_and_casts = SQL(", ".join(["*", *casts]))
        values = {name: f"{'v' if position in self.kinds else 'c'}{position}" for name, position in positions.items()}
        self.values = SQL(", ".join(f"{value} AS {identifier(name)}" for name, value in values.items()))
        self.bad_row = SQL(f"({' OR '.join(map(self.is_bad, self.kinds)) or 'false'})")

    def is_bad(self, position: int) -> SQL:
        """Return whether the text at a position does not fit its column's type."""
        return SQL(f"(v{position} IS NULL AND coalesce(trim(c{position}), '') <> '')")


def _cast(raw: str, kind: str) -> str:
    text = f"trim({raw})"
    if kind == "BIGINT":
        # a text that the value is written as again was read without a change: most rows need no pattern
        plain = f"TRY_CAST({raw} AS BIGINT)"
        return (
            f"CASE WHEN CAST({plain} AS VARCHAR) = {raw} THEN {plain} "
            f"WHEN regexp_full_match({text}, '{_INTEGER}') THEN TRY_CAST({text} AS BIGINT) END"
        )
    if kind == "TIMESTAMP":
        plain, shown = f"TRY_CAST({raw} AS TIMESTAMP)", f"replace(rtrim({raw}, 'Z'), 'T', ' ')"
        # by way of TIMESTAMPTZ, because a direct cast drops the offset
        utc = f"CAST(TRY_CAST(replace({text}, ' UTC', 'Z') AS TIMESTAMPTZ) AS TIMESTAMP)"
        return (
            f"CASE WHEN CAST({plain} AS VARCHAR) = {shown} AND {shown} LIKE '{_SHOWN_TIME}' AND {shown} >= '1000' "
            f"THEN {plain} WHEN regexp_full_match({text}, '{_TIMESTAMP}') THEN {utc} END"
        )
    return f"TRY_CAST({text} AS {kind})"


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


def replace_table(
    connection: duckdb.DuckDBPyConnection, columns: TypedColumns, table: str, source: str
) -> tuple[int, int]:
    """Replace a table by the rows of RAW whose texts fit, add the others to its rejects, and drop RAW.

    The connection is in a transaction, and `source` is the name of the load in errors and in `rejects`.

    Returns:
        Number of rows in the table, and of its lines in `rejects`.

    Raises:
        SourceError: No row can be read.
    """
    for name, position in columns.positions.items():
        if position in columns.kinds:
            kind = columns.kinds[position]
            reason = f"""'"' || c{position}[1:60] || '" {_REASONS.get(kind, f"is not a valid {kind}")}'"""
            bad = sql(
                "SELECT line, {name}, {reason}, text FROM {raw} WHERE {bad}",
                name=literal(name),
                reason=SQL(reason),
                raw=RAW,
                bad=columns.is_bad(position),
            )
            add_rejects(connection, table, source, bad)
    query = "CREATE OR REPLACE TABLE {table} AS SELECT {values} FROM {raw} WHERE NOT {bad}"
    created = connection.execute(sql(query, table=table, values=columns.values, raw=RAW, bad=columns.bad_row))
    ((rows,),) = created.fetchall()
    ((rejected, first),) = connection.execute(
        "SELECT count(DISTINCT line), arg_min('line ' || line || ': ' || reason, line) FROM rejects "
        "WHERE source_table = ?",
        [table],
    ).fetchall()
    if not rows:
        problem = f"no row that can be read ({rejected:,} lines rejected; {first})"
        raise SourceError(
            f"{source} has {problem if rejected else 'a header and no rows'}; the table keeps its old content."
        )
    connection.execute(sql("DROP TABLE {raw}", raw=RAW))
    return rows, rejected


def clear_rejects(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Delete a table's entries from `rejects`, which is created when it is missing or of an older release."""
    columns = SQL(", ".join(f"{name} {kind}" for name, kind in REJECT_COLUMNS.items()))
    connection.execute(sql("CREATE TABLE IF NOT EXISTS rejects ({columns})", columns=columns))
    described = {name: kind for name, kind, *_ in connection.execute("DESCRIBE rejects").fetchall()}
    if described != REJECT_COLUMNS:
        connection.execute(sql("CREATE OR REPLACE TABLE rejects ({columns})", columns=columns))
    connection.execute("DELETE FROM rejects WHERE source_table = ?", [table])


def add_rejects(connection: duckdb.DuckDBPyConnection, table: str, source: str, query: SQL) -> None:
    """Add the rows of a query (line, column name, reason, text) to a table's rejects."""
    connection.execute(sql("INSERT INTO rejects SELECT ?, ?, * FROM ({query})", query=query), [table, source])
