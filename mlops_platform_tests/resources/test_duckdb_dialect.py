"""The dialect over an open DuckDB connection, as far as Great Expectations depends on it."""

from __future__ import annotations

import duckdb
import pytest
import sqlalchemy as sa

from mlops_platform.resources.validation.duckdb_dialect import URL, engine_options


def test_rows_can_be_read_after_the_connection_was_returned() -> None:
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
def test_reflection_returns_the_type_names_of_the_database(kind: str, name: str) -> None:
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


def test_the_connections_of_an_engine_are_closed_after_the_block() -> None:
    with duckdb.connect() as connection:
        with engine_options(connection) as options:
            engine = sa.create_engine(URL, **options)
            with engine.connect() as lent:
                lent.execute(sa.text("select 1"))
        with pytest.raises(sa.exc.DBAPIError, match="closed"), engine.connect() as lent:
            lent.execute(sa.text("select 1"))
        assert connection.execute("select 1").fetchall() == [(1,)]
