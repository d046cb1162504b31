"""A SQLAlchemy engine over an open DuckDB connection, as Great Expectations needs it.

Great Expectations gives a connection back to the pool before it fetches the rows, and compares the type names that
reflection returns with those of the database. The two classes here are what duckdb-sqlalchemy lacks for that.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from duckdb_sqlalchemy import ConnectionWrapper, Dialect
from sqlalchemy.dialects import registry

if TYPE_CHECKING:
    import duckdb

URL = "duckdb+platform:///:memory:"

# Beside Great Expectations the module outlives the interpreter's own clean-up, and DuckDB's bindings then print
# 40 lines about leaked objects at the end of every run.
atexit.register(sys.modules.pop, "duckdb", None)


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


@contextmanager
def engine_options(connection: duckdb.DuckDBPyConnection) -> Iterator[dict[str, Any]]:
    """Lend an open connection to the engines that are made inside the block.

    Args:
        connection: Stays the caller's: an engine works on a cursor of it. All cursors are closed at the end, so
            that what Great Expectations keeps for the life of the process keeps no connection.

    Yields:
        What `create_engine(URL, ...)` needs. An engine may outlive the block and can do nothing then.
    """
    registry.register("duckdb.platform", __name__, "PlatformDialect")
    lent = [connection]
    opened: list[BufferedConnection] = []

    def connect() -> BufferedConnection:
        opened.append(BufferedConnection(lent[0].cursor()))
        return opened[-1]

    try:
        yield {"poolclass": sa.StaticPool, "creator": connect}
    finally:
        lent.clear()
        while opened:
            opened.pop().close()
