"""A SQLAlchemy dialect over an open DuckDB connection, as Great Expectations needs it.

duckdb-sqlalchemy alone fails in two ways. Great Expectations returns a connection to the pool before it fetches the
rows, and the rollback of that return discards them. And it compares the type names of SQLAlchemy's reflection with
those in a suite, where text columns are reflected as the generic `String` and not as DuckDB's `VARCHAR`. Both are
methods that SQLAlchemy documents for dialects, and `registry.register` is its public way to add one.
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

__all__ = ["URL", "PlatformDialect", "engine_options"]

URL = "duckdb+platform:///:memory:"

# With both duckdb-sqlalchemy and Great Expectations imported, DuckDB's bindings print 40 lines about leaked objects
# when the interpreter exits, unless the module is released before.
atexit.register(sys.modules.pop, "duckdb", None)


class PlatformDialect(Dialect):
    """DuckDB for reading: results survive the return of their connection, text columns are `VARCHAR`."""

    supports_statement_cache = False

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Do nothing: each statement commits itself, and a rollback would discard rows that are not fetched yet."""

    def get_columns(self, connection: Any, table_name: str, schema: str | None = None, **options: Any) -> Any:
        """Return the columns of a table."""
        columns = super().get_columns(connection, table_name, schema, **options)
        for column in columns:
            if type(column["type"]) is sa.String:
                column["type"] = sa.VARCHAR()
        return columns


registry.register("duckdb.platform", __name__, PlatformDialect.__name__)


@contextmanager
def engine_options(connection: duckdb.DuckDBPyConnection) -> Iterator[dict[str, Any]]:
    """Lend an open connection to the engines that are created inside the block.

    Args:
        connection: Stays open. An engine works on a cursor of it, which is closed at the end: Great Expectations
            keeps its last engine for the life of the process.

    Yields:
        The options of `create_engine(URL, ...)`.
    """
    cursors: list[ConnectionWrapper] = []

    def connect() -> ConnectionWrapper:
        cursors.append(ConnectionWrapper(connection.cursor()))
        return cursors[-1]

    try:
        yield {"poolclass": sa.StaticPool, "creator": connect, "isolation_level": "AUTOCOMMIT"}
    finally:
        for cursor in cursors:
            cursor.close()
