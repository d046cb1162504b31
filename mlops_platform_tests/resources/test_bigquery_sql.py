"""SQL of DuckDB's dialect as BigQuery gets it; what the results are, the tests on the emulator say."""

from __future__ import annotations

import pytest

from mlops_platform.resources.warehouse.bigquery.dialect import to_bigquery
from mlops_platform.sql import literal, sql


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('SELECT "at" FROM t WHERE a = ? AND b < ?', "SELECT `at` FROM t WHERE a = ? AND b < ?"),
        ("SELECT CAST(x AS VARCHAR), f.at FROM f", "SELECT CAST(x AS STRING), f.`at` FROM f"),
        ("SELECT a FROM t ORDER BY a, b DESC", "SELECT a FROM t ORDER BY a NULLS LAST, b DESC"),
        ("SELECT md5(a) FROM t", "SELECT TO_HEX(MD5(a)) FROM t"),
        (
            "SELECT a FROM t WHERE b >= TIMESTAMP '2026-01-01'",
            "SELECT a FROM t WHERE b >= CAST('2026-01-01' AS TIMESTAMP)",
        ),
        ("SELECT b::TIMESTAMP, b::DATE FROM t", "SELECT CAST(b AS TIMESTAMP), CAST(b AS DATE) FROM t"),
        ("DROP TABLE a; DROP TABLE b", "DROP TABLE a;\nDROP TABLE b"),
    ],
)
def test_duckdbs_dialect_becomes_bigquerys(query: str, expected: str) -> None:
    assert to_bigquery(query) == expected


@pytest.mark.parametrize("query", ["SELECT a FROM (select `a` from `p`.`d`.`t`) AS failing LIMIT 5", "SELEC 1"])
def test_what_is_no_sql_of_duckdb_is_left_to_bigquery(query: str) -> None:
    assert to_bigquery(query) == query


def test_names_and_values_are_quoted_for_bigquery() -> None:
    query = sql("SELECT {name} FROM t WHERE a = {value}", name="a`b", value=literal("it's a \\ and a `"))
    assert to_bigquery(query) == r"SELECT `a\`b` FROM t WHERE a = 'it\'s a \\ and a `'"
