"""SQL templates: what is quoted, what is inserted as it stands, and what is refused."""

from __future__ import annotations

import duckdb
import pytest

from mlops_platform.sql import SQL, identifiers, literal, sql


def test_names_and_values_with_quotes_reach_the_database_as_they_are() -> None:
    name, value = 'a "quoted" name', "it's {braced}"
    query = sql("SELECT {value} AS {name}", value=literal(value), name=name)
    result = duckdb.connect().execute(query)
    assert result.description[0][0] == name
    assert result.fetchall() == [(value,)]


def test_a_statement_is_a_part_of_another() -> None:
    inner = sql("SELECT {columns} FROM {table}", columns=identifiers(["id", "tag"]), table="tags")
    assert (
        sql("SELECT count(*) FROM ({inner}) LIMIT {n}", inner=inner, n=5)
        == 'SELECT count(*) FROM (SELECT "id", "tag" FROM "tags") LIMIT 5'
    )


def test_a_missing_part_and_a_part_of_another_type_are_errors() -> None:
    with pytest.raises(KeyError):
        sql("SELECT * FROM {table}")
    with pytest.raises(TypeError, match="not a part of SQL"):
        sql("SELECT {flag}", flag=True)
    assert sql("{one}", one=SQL("a; b")) == "a; b"
