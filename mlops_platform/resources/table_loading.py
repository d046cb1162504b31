"""Loads a table that another program wrote into one of the declared columns and types, all or nothing.

The casts and the accounts of what is lost are those of a CSV (``csv_loading``), so that the same rows give the
same table by either way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from mlops_platform.errors import SourceError, WarehouseError
from mlops_platform.resources.csv_accounts import roll_back
from mlops_platform.resources.csv_casts import CastPlan
from mlops_platform.resources.csv_loading import DAMAGE, RAW, create_damage_table, replace_table
from mlops_platform.resources.table_version import literal, quote

if TYPE_CHECKING:
    import duckdb

META = "_airbyte_meta"  # JSON in which Airbyte notes the values that it could not keep
_CHANGES = '[{"field": "VARCHAR", "change": "VARCHAR", "reason": "VARCHAR"}]'


def load_table(
    connection: duckdb.DuckDBPyConnection, table: str, landing: str, columns: Mapping[str, str], source: str
) -> int:
    """Replaces a table and its entries in `rejects` by the content of another table, in one transaction.

    A row goes to `rejects` where a value does not fit its type, or where Airbyte notes that it could not keep it;
    `line` is then the number of the row in the landing table.

    Args:
        connection: An open connection with TimeZone UTC; its current schema holds the tables.
        table: Name of the table.
        landing: The table that was written; it stays as it is.
        columns: Name and DuckDB type of each column (see `load_csv`).
        source: What to call the load in errors and in `rejects`.

    Returns:
        Number of rows that went to `rejects`.

    Raises:
        SourceError: If a column is missing or no row can be read. The old table and its rejects stay.
    """
    found = {
        name.lower(): (name, kind) for name, kind, *_ in connection.execute(f"DESCRIBE {quote(landing)}").fetchall()
    }
    require_columns(landing, found, columns, source)
    plan = CastPlan(columns, {name: position for position, name in enumerate(columns)}, len(columns))
    try:
        create_damage_table(connection)
        _create_raw(connection, plan, landing, found)
        _set_aside_changed(connection, columns)
        if connection.execute(f"SELECT count(*) FROM {quote(landing)}").fetchall() == [(0,)]:  # noqa: S608
            raise SourceError(f"{source} left no row in {landing}; the table {table} keeps its old content.")
        _, rejected = replace_table(connection, plan, table, source)
        connection.execute("COMMIT")
        connection.execute(f"DROP TABLE {RAW}; DROP TABLE {DAMAGE}")
    except BaseException:
        roll_back(connection)
        raise
    return rejected


def require_columns(landing: str, found: Collection[str], columns: Collection[str], source: str) -> None:
    """Raises a SourceError if a column is not among those that were found in the landing table."""
    missing = [name for name in columns if name not in found]
    if missing:
        raise SourceError(f"The table {landing} of {source} has no column {', '.join(missing)}; check its stream.")


def require_same_columns(table: str, there: Mapping[str, str], coming: Mapping[str, str]) -> None:
    """Raises a WarehouseError unless rows that come have a table's columns, in whatever order.

    Args:
        table: Name of the table.
        there: Name and type of each of its columns.
        coming: Name and type of each column of the rows.
    """
    if dict(there) != dict(coming):
        has, have = (", ".join(f"{name} {kind}" for name, kind in each.items()) for each in (there, coming))
        raise WarehouseError(
            f"The table {table} has the columns {has}, and the new rows have {have}; it stays as it is."
        )


def _create_raw(
    connection: duckdb.DuckDBPyConnection, plan: CastPlan, landing: str, found: Mapping[str, tuple[str, str]]
) -> None:
    texts = [
        f"{quote(found[name][0])}::VARCHAR AS {raw}" for name, raw in zip(plan.columns, plan.raw_names, strict=True)
    ]
    changes = f"NULL::JSON AS {META}"
    if META in found:
        name, kind = found[META]
        text = f"{name}::VARCHAR" if kind in ("VARCHAR", "JSON") else f"to_json({name})::VARCHAR"
        changes = f"CASE WHEN json_valid({text}) THEN ({text})::JSON -> '$.changes' END AS {META}"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {RAW} AS SELECT row_number() OVER () AS line, "  # noqa: S608
        f"concat_ws(',', {', '.join(plan.raw_names)}) AS text, {', '.join(['*', *plan.casts()])} "
        f"FROM (SELECT {', '.join([*texts, changes])} FROM {quote(landing)})"
    )


def _set_aside_changed(connection: duckdb.DuckDBPyConnection, columns: Mapping[str, str]) -> None:
    """Moves the rows in which Airbyte changed a declared column to DAMAGE."""
    names = ", ".join(literal(name) for name in columns)
    connection.execute(
        f"INSERT INTO {DAMAGE} SELECT line, lower(note.field), "  # noqa: S608
        "'Airbyte could not keep the value (' || concat_ws(', ', note.change, note.reason) || ')', text "
        f"FROM (SELECT line, text, unnest(from_json({META}, '{_CHANGES}')) AS note FROM {RAW}) "
        f"WHERE lower(note.field) IN ({names})"
    )
    connection.execute(f"DELETE FROM {RAW} WHERE line IN (SELECT line FROM {DAMAGE})")  # noqa: S608
