"""Evaluation in two passes: its outcomes are those of a single pass with examples, with fewer queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import duckdb
import pytest

from mlops_platform.resources.validation.suite import Expectation, Outcome, read_suite
from mlops_platform.resources.warehouse.duckdb_validation import DuckDBSource
from mlops_platform_tests.checks.corruptions import CORRUPTIONS, ROWS, TABLES

GOOD = "select 1"


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries that Great Expectations has sent."""
    from great_expectations.execution_engine import SqlAlchemyExecutionEngine

    sent: list[str] = []
    execute = SqlAlchemyExecutionEngine.execute_query

    def recorded(self: SqlAlchemyExecutionEngine, query: object) -> object:
        sent.append(str(query.compile(self.engine, compile_kwargs={"literal_binds": True})))  # type: ignore[attr-defined]
        return execute(self, query)

    monkeypatch.setattr(SqlAlchemyExecutionEngine, "execute_query", recorded)
    return sent


def _outcomes(
    connection: duckdb.DuckDBPyConnection, rules: list[Expectation], table: str, *, with_ids: bool = True
) -> dict[str, Outcome]:
    from mlops_platform.resources.validation.suite_runner import evaluate

    _, outcomes = evaluate("suite", rules, DuckDBSource(connection, "main"), table, with_ids=with_ids)
    return outcomes


def _outcomes_of_one_pass(
    connection: duckdb.DuckDBPyConnection, rules: list[Expectation], table: str, *, with_ids: bool = True
) -> dict[str, Outcome]:
    """Evaluate every rule with its examples at once."""
    from mlops_platform.resources.validation import suite_runner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite_runner, "_allows_no_row", lambda _: False)
        outcomes = _outcomes(connection, rules, table, with_ids=with_ids)
    # the library has no count for a table without rows
    return {
        name: replace(outcome, offending_rows=0) if outcome.rows == 0 else outcome for name, outcome in outcomes.items()
    }


def _fill(connection: duckdb.DuckDBPyConnection, suite: str, change: str) -> None:
    connection.execute(f"create or replace table {suite} as {TABLES[suite]}")
    connection.execute(change.format(table=suite))


@pytest.mark.parametrize(
    ("suite", "change"),
    [
        *((suite, change) for suite in TABLES for change in (GOOD, *CORRUPTIONS[suite].values())),
        # no row, no value, and what cannot be compared with texts
        ("labeled_projects", "delete from {table} where true"),
        ("labeled_projects", "update {table} set title = null, description = null, tag = null"),
        ("tags", "create or replace table {table} as select id, id as tag from {table}"),
    ],
)
def test_outcomes_are_those_of_one_pass(connection: duckdb.DuckDBPyConnection, suite: str, change: str) -> None:
    _fill(connection, suite, change)
    rules = read_suite(suite)
    assert _outcomes(connection, rules, suite) == _outcomes_of_one_pass(connection, rules, suite)


def _damage(random: Random, columns: list[str]) -> str:
    """Return a statement that changes some rows of `{table}`."""
    column, other = random.choice(columns), random.choice(columns)
    some = random.choice(
        [f"id % {random.randint(2, 30)} = 0", f"id <= {random.randint(1, 59)}", f"id = {random.randint(1, 59)}", "true"]
    )
    values = {
        "id": ["null", "id + 1", "id // 2", "1"],
        "created_on": ["null", "timestamp '2024-01-01'"],
        "tag": ["null", "'robotics'", "upper(tag)", "''"],
    }.get(column, ["null", "''", "'same'", f"lower({column})", f"{column} || ' '", "title", "nullif(title, 'title 3')"])
    changes = [
        f"update {{table}} set {column} = {random.choice(values)} where {some}",
        f"delete from {{table}} where {some}",
        f"insert into {{table}} select * from {{table}} where {some}",
        f"insert into {{table}} select * replace (id + 100 as id) from {{table}} where {some}",
        f"insert into {{table}} select * replace (id + 200 as id, null as {other}) from {{table}} where {some}",
    ]
    return random.choice([changes[0], *changes])


@pytest.mark.parametrize("suite", sorted(TABLES))
@pytest.mark.parametrize("seed", range(12))
def test_outcomes_on_a_randomly_damaged_table_are_those_of_one_pass(
    connection: duckdb.DuckDBPyConnection, suite: str, seed: int
) -> None:
    random = Random(f"{suite} {seed}")  # noqa: S311
    _fill(connection, suite, GOOD)
    columns = [name for name, *_ in connection.execute(f"describe {suite}").fetchall()]
    for _ in range(random.randint(1, 4)):
        connection.execute(_damage(random, columns).format(table=suite))
    rules = read_suite(suite)
    assert _outcomes(connection, rules, suite) == _outcomes_of_one_pass(connection, rules, suite)


@pytest.mark.parametrize("with_ids", [True, False])
def test_a_rule_that_tolerates_some_rows_still_shows_them(
    connection: duckdb.DuckDBPyConnection, *, with_ids: bool
) -> None:
    kwargs = {"column": "tag", "value_set": ["mlops"], "mostly": 0.1}
    rules = [Expectation("mostly", "expect_column_values_to_be_in_set", kwargs, critical=True, description="")]
    _fill(connection, "tags", GOOD)
    outcome = _outcomes(connection, rules, "tags", with_ids=with_ids)["mostly"]
    assert outcome.passed
    assert (outcome.rows, outcome.offending_rows, len(outcome.examples)) == (ROWS, 45, 5)


def test_a_rule_about_some_rows_counts_those(connection: duckdb.DuckDBPyConnection) -> None:
    kwargs = {
        "column": "tag",
        "value_set": ["mlops"],
        "row_condition": 'col("id") > 50',
        "condition_parser": "great_expectations",
    }
    rule = Expectation("some", "expect_column_values_to_be_in_set", kwargs, critical=True, description="")
    _fill(connection, "tags", "update {table} set tag = 'mlops' where id > 50")
    outcome = _outcomes(connection, [rule], "tags")["some"]
    assert (outcome.passed, outcome.rows, outcome.offending_rows) == (True, 10, 0)


@pytest.mark.parametrize(("suite", "most"), [("projects", 6), ("tags", 4), ("labeled_projects", 6)])
def test_a_good_table_is_not_searched_for_examples(
    connection: duckdb.DuckDBPyConnection, queries: list[str], suite: str, most: int
) -> None:
    _fill(connection, suite, GOOD)
    _outcomes(connection, read_suite(suite), suite)
    assert 0 < len(queries) <= most
    queries.clear()
    _outcomes_of_one_pass(connection, read_suite(suite), suite)
    assert len(queries) > 2 * most


@pytest.mark.parametrize("column", ["id", "tag"])
def test_a_refused_query_is_an_error_of_its_own_rules_alone(connection: duckdb.DuckDBPyConnection, column: str) -> None:
    _fill(connection, "tags", f"create table raw as select * replace (tag as {column}) from {{table}}")
    connection.execute(
        f"create or replace view broken as select * replace (cast({column} as bigint) as {column}) from raw"
    )
    outcomes = _outcomes(connection, read_suite("tags"), "broken")
    refused = {name for name, outcome in outcomes.items() if outcome.error is not None}
    assert refused == {name for name in outcomes if name.startswith(f"{column}_") and not name.endswith("type_list")}
    assert all("Conversion Error" in str(outcomes[name].error) for name in refused)
    passed = {name for name, outcome in outcomes.items() if outcome.passed}
    assert passed == set(outcomes) - refused - {f"{column}_to_be_in_type_list"}
