"""A SQLAlchemy engine over an open DuckDB connection, as Great Expectations needs it.

Great Expectations gives a connection back to the pool before it fetches the rows, and compares the type names that
reflection returns with those of the database. The two classes here are what duckdb-sqlalchemy lacks for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from duckdb_sqlalchemy import ConnectionWrapper, Dialect
from sqlalchemy.dialects import registry

if TYPE_CHECKING:
    import duckdb

URL = "duckdb+platform:///:memory:"


class BufferedConnection(ConnectionWrapper):
    """Keeps the unread rows of a result when the pool takes the connection back."""

    def rollback(self) -> None:
        """Roll back, after fetching what is still to be read; without it those rows are lost."""
        self._buffer_pending_result()
        super().rollback()


class PlatformDialect(Dialect):
    """Reflects text columns under DuckDB's own name for them."""

    supports_statement_cache = False

    def get_columns(self, connection: Any, table_name: str, schema: str | None = None, **options: Any) -> Any:
        """Return the columns; the generic `String` would not be found in a list of type names."""
        columns = super().get_columns(connection, table_name, schema, **options)
        for column in columns:
            if type(column["type"]) is sa.String:
                column["type"] = sa.VARCHAR()
        return columns


def engine_options(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Return what `create_engine(URL, ...)` needs to work on an open connection.

    Args:
        connection: Stays the caller's: the engine works on a cursor of it.
    """
    registry.register("duckdb.platform", __name__, "PlatformDialect")
    return {"poolclass": sa.StaticPool, "creator": lambda: BufferedConnection(connection.cursor())}
