"""Load a table that another program wrote into a table of declared columns and types, all or nothing.

The casts and the rejects are those of a CSV, so that the same rows give the same table by either way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from mlops_platform.errors import SourceError, WarehouseError
from mlops_platform.resources.csv_ingest.typed_table import (
    RAW,
    TypedColumns,
    add_rejects,
    clear_rejects,
    replace_table,
    transaction,
)
from mlops_platform.sql import SQL, identifier, literal, sql

if TYPE_CHECKING:
    import duckdb

META = "_airbyte_meta"  # JSON in which Airbyte notes the values that it could not keep
_CHANGES = literal('[{"field": "VARCHAR", "change": "VARCHAR", "reason": "VARCHAR"}]')


def load_table(
    connection: duckdb.DuckDBPyConnection, table: str, landing: str, columns: Mapping[str, str], source: str
) -> int:
    """Replace a table and its entries in `rejects` by the content of another table, in one transaction.

    A row goes to `rejects` where a value does not fit its type, or where Airbyte notes that it could not keep it;
    `line` is then the number of the row in the landing table.

    Args:
        connection: An open connection with TimeZone UTC; its current schema holds the tables.
        table: Name of the table.
        landing: The table that was written; it stays as it is.
        columns: Name and DuckDB type of each column (see `load_csv`).
        source: Name of the load in errors and in `rejects`.

    Returns:
        Number of rows that went to `rejects`.

    Raises:
        SourceError: A column is missing or no row can be read. The old table and its rejects stay.
    """
    described = connection.execute(sql("DESCRIBE {landing}", landing=landing)).fetchall()
    landed = {name.lower(): (name, kind) for name, kind, *_ in described}
    require_columns(landing, landed, columns, source)
    if connection.execute(sql("SELECT count(*) FROM {landing}", landing=landing)).fetchall() == [(0,)]:
        raise SourceError(f"{source} left no row in {landing}; the table {table} keeps its old content.")
    typed = TypedColumns(columns, {name: position for position, name in enumerate(columns)}, len(columns))
    names = [identifier(landed[name][0]) for name in columns]
    texts = [f"{name}::VARCHAR AS {raw}" for name, raw in zip(names, typed.raw_names, strict=True)]
    with transaction(connection):
        clear_rejects(connection, table)
        connection.execute(
            sql(
                "CREATE OR REPLACE TEMP TABLE {raw} AS SELECT row_number() OVER () AS line, "
                "concat_ws(',', {raw_names}) AS text, {raw_and_casts} FROM (SELECT {texts} FROM {landing})",
                raw=RAW,
                raw_names=SQL(", ".join(typed.raw_names)),
                raw_and_casts=typed.raw_and_casts,
                texts=SQL(", ".join([*texts, _changes(landed)])),
                landing=landing,
            )
        )
        changed = sql(
            "SELECT line, lower(note.field), "
            "'Airbyte could not keep the value (' || concat_ws(', ', note.change, note.reason) || ')', text "
            "FROM (SELECT line, text, unnest(from_json({meta}, {changes})) AS note FROM {raw}) "
            "WHERE lower(note.field) IN ({names})",
            meta=META,
            changes=_CHANGES,
            raw=RAW,
            names=SQL(", ".join(map(literal, columns))),
        )
        add_rejects(connection, table, source, changed)
        delete = "DELETE FROM {raw} WHERE line IN (SELECT line FROM rejects WHERE source_table = ?)"
        connection.execute(sql(delete, raw=RAW), [table])
        _, rejected = replace_table(connection, typed, table, source)
    return rejected


def require_columns(landing: str, landed: Collection[str], columns: Collection[str], source: str) -> None:
    """Raise a SourceError if a declared column is not in the landing table."""
    missing = [name for name in columns if name not in landed]
    if missing:
        raise SourceError(f"The table {landing} of {source} has no column {', '.join(missing)}; check its stream.")


def require_same_columns(table: str, existing: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Raise a WarehouseError unless new rows have a table's columns (name and type of each), in whatever order."""
    if dict(existing) != dict(new):
        has, have = (", ".join(f"{name} {kind}" for name, kind in columns.items()) for columns in (existing, new))
        raise WarehouseError(
            f"The table {table} has the columns {has}, and the new rows have {have}; it stays as it is."
        )


def _changes(landed: Mapping[str, tuple[str, str]]) -> str:
    """Return SQL for the list of changes that Airbyte notes in a row."""
    if META not in landed:
        return f"NULL::JSON AS {META}"
    name, kind = landed[META]
    text = f"{name}::VARCHAR" if kind in ("VARCHAR", "JSON") else f"to_json({name})::VARCHAR"
    return f"CASE WHEN json_valid({text}) THEN ({text})::JSON -> '$.changes' END AS {META}"
