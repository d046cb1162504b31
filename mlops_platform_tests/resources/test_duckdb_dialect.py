"""The engine over an open DuckDB connection, as far as Great Expectations leans on it."""

from __future__ import annotations

import duckdb
import pytest
import sqlalchemy as sa

from mlops_platform.resources.duckdb_dialect import URL, engine_options


def test_rows_can_be_read_after_the_connection_went_back() -> None:
    with (
        duckdb.connect() as connection,
        engine_options(connection) as options,
        sa.create_engine(URL, **options).connect() as lent,
    ):
        result = lent.execute(sa.text("select * from range(3)"))
        lent.rollback()
        assert [tuple(row) for row in result] == [(0,), (1,), (2,)]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("varchar", "VARCHAR"), ("bigint", "BIGINT"), ("timestamp", "TIMESTAMP"), ("double", "DOUBLE")],
)
def test_reflection_tells_the_names_of_the_database(kind: str, name: str) -> None:
    with duckdb.connect() as connection, engine_options(connection) as options:
        connection.execute(f"create schema s; create table s.t (a {kind})")
        (column,) = sa.inspect(sa.create_engine(URL, **options)).get_columns("t", schema="s")
    assert type(column["type"]).__name__.upper().startswith(name)


def test_the_engine_sees_the_open_connections_tables_and_leaves_it_open() -> None:
    with duckdb.connect() as connection:
        connection.execute("create table t as select 7 as a")
        with engine_options(connection) as options, sa.create_engine(URL, **options).connect() as lent:
            assert lent.execute(sa.text("select a from t")).scalar() == 7
        assert connection.execute("select a from t").fetchall() == [(7,)]


def test_an_engine_that_outlives_the_block_can_do_nothing() -> None:
    with duckdb.connect() as connection:
        with engine_options(connection) as options:
            engine, lent = sa.create_engine(URL, **options), options["creator"]()
        for use in (lambda: lent.execute("select 1"), lambda: engine.connect()):
            with pytest.raises((duckdb.Error, sa.exc.DBAPIError, IndexError)):
                use()
        assert connection.execute("select 1").fetchall() == [(1,)]
