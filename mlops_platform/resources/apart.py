"""DuckDB statements in a process of their own, whose memory is the system's again when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def execute_apart(statements: Sequence[str]) -> None:
    """Run statements one after the other in an in-memory DuckDB of a new process.

    DuckDB keeps some 100 MB of what it held, and takes more than its limit while it writes: a process that holds much
    already has no room for that.

    Args:
        statements: SQL.

    Raises:
        duckdb.Error: As the statement raised it.
        RuntimeError: The process was killed.
    """
    # spawned, not forked: the caller may have threads
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_execute, list(statements)).result()


def _execute(statements: list[str]) -> None:
    import duckdb

    with duckdb.connect() as connection:
        for statement in statements:
            connection.execute(statement)
