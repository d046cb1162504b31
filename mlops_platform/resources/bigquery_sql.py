"""BigQuery's SQL for what the platform computes in a warehouse, and how its types are named there and here."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_platform.resources.table_version import Sums, version_of

# BigQuery's name (of the API and of SQL) to DuckDB's; both kinds of DuckDB's times have no zone and are UTC here
DUCKDB_TYPES = {
    "INTEGER": "BIGINT",
    "INT64": "BIGINT",
    "STRING": "VARCHAR",
    "TIMESTAMP": "TIMESTAMP",
    "DATETIME": "TIMESTAMP",
    "FLOAT": "DOUBLE",
    "FLOAT64": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "BOOL": "BOOLEAN",
    "DATE": "DATE",
}
BIGQUERY_TYPES = {
    "BIGINT": "INT64",
    "VARCHAR": "STRING",
    "TIMESTAMP": "TIMESTAMP",
    "DOUBLE": "FLOAT64",
    "BOOLEAN": "BOOL",
    "DATE": "DATE",
}

_HALF = 2**30


def quoted(name: str) -> str:
    """Quotes an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def landing_sql(landing: str, columns: Sequence[tuple[str, str]]) -> str:
    """Writes the query of a landing table's columns as texts, which `load_table` of DuckDB then types.

    Args:
        landing: Name of the table.
        columns: (name, BigQuery type) of each column.
    """
    texts = ", ".join(f"{_text(quoted(name), kind)} AS {quoted(name)}" for name, kind in columns)
    return f"SELECT {texts} FROM {quoted(landing)}"  # noqa: S608


def version_sql(table: str, columns: Sequence[tuple[str, str]]) -> str:
    """Writes the query whose one row `version` turns into the digest of `table_version`.

    Args:
        table: Name of the table.
        columns: (name, BigQuery type) of each column.
    """
    encoded = " || ".join(_encode(name, kind) for name, kind in sorted(columns))
    # in halves of 30 bits: a sum of 60-bit numbers leaves INT64 after eight rows, one of these after 2^33
    numbers = (f"CAST('0x' || SUBSTR(digest, {start}, 15) AS INT64)" for start in (1, 16))
    sums = ", ".join(f"SUM(DIV({number}, {_HALF})), SUM(MOD({number}, {_HALF}))" for number in numbers)
    return f"SELECT COUNT(*), {sums} FROM (SELECT TO_HEX(MD5({encoded})) AS digest FROM {quoted(table)})"  # noqa: S608


def version(columns: Sequence[tuple[str, str]], row: Sequence[int | None]) -> str:
    """Turns the row of `version_sql` into the digest."""
    named = [(name, DUCKDB_TYPES.get(kind, kind)) for name, kind in columns]
    count, *halves = (int(value or 0) for value in row)
    high, low = (halves[at] * _HALF + halves[at + 1] for at in (0, 2))
    return version_of(named, Sums(count, high, low))


def _encode(name: str, kind: str) -> str:
    column = quoted(name)
    if DUCKDB_TYPES.get(kind) == "TIMESTAMP":
        column = f"UNIX_MICROS({column if kind == 'TIMESTAMP' else f'TIMESTAMP({column})'})"
    text = column if kind == "STRING" else f"CAST({column} AS STRING)"
    return f"COALESCE(CAST(BYTE_LENGTH({text}) AS STRING) || ':' || {text}, '-') || ';'"


def _text(column: str, kind: str) -> str:
    return f"TO_JSON_STRING({column})" if kind in ("JSON", "RECORD", "STRUCT") else f"CAST({column} AS STRING)"
