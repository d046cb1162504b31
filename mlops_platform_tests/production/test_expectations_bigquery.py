"""Suites on BigQuery (the emulator): the same outcomes as on DuckDB, from a few queries that return a few rows.

Plain local-bigquery, which bills no bytes: the cost of a validation is counted in queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlops_platform.resources.validation.suite import Outcome
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform_tests.checks.corruptions import CORRUPTIONS, TABLES, retyped
from mlops_platform_tests.checks.suite_graph import Graph, Ran, suite_in
from mlops_platform_tests.production.bigquery_emulator import Emulator

if TYPE_CHECKING:
    from google.cloud.bigquery import QueryJob

EXAMPLES = 5  # that a check shows
BYTES = "tag_to_be_in_type_list"  # how its corruption breaks the rule


@pytest.fixture
def graphs(bigquery: BigQueryWarehouse, tmp_path: Path) -> tuple[Graph, Graph]:
    """The same small graph on DuckDB and on BigQuery."""
    homes = [tmp_path / name for name in ("duckdb", "bigquery")]
    for home in homes:
        home.mkdir()
    return Graph(homes[0]), Graph(homes[1], bigquery)


def _outcomes(graph: Graph, suite: str) -> list[Outcome]:
    with graph.warehouse.validation_source() as source:
        return list(graph.expectations.validate_table(suite, source, suite).outcomes)


def _failed(outcomes: list[Outcome]) -> set[str]:
    return {each.name for each in outcomes if not each.passed}


# ---- the same as on DuckDB


@pytest.mark.parametrize("suite", sorted(TABLES))
def test_a_good_table_has_the_same_outcomes(graphs: tuple[Graph, Graph], suite: str) -> None:
    for graph in graphs:
        graph.fill(suite)
    here, there = (_outcomes(graph, suite) for graph in graphs)
    assert here == there
    assert {each.name for each in there} == set(CORRUPTIONS[suite])
    assert _failed(there) == set()


@pytest.mark.parametrize(
    ("suite", "rule"),
    [(suite, rule) for suite in sorted(TABLES) for rule in CORRUPTIONS[suite] if rule != BYTES],
)
def test_a_corruption_breaks_its_own_rule_with_the_same_outcomes(
    graphs: tuple[Graph, Graph], suite: str, rule: str
) -> None:
    for graph in graphs:
        graph.fill(suite, CORRUPTIONS[suite][rule])
    here, there = (_outcomes(graph, suite) for graph in graphs)
    assert here == there
    assert _failed(there) == {rule}
    assert all(each.error is None for each in there)


@pytest.mark.parametrize("suite", ["labeled_projects", "tags"])
def test_bytes_are_no_text_and_not_compared_with_the_classes(graphs: tuple[Graph, Graph], suite: str) -> None:
    """DuckDB compares bytes with texts; BigQuery refuses to."""
    for graph in graphs:
        graph.fill(suite, CORRUPTIONS[suite][BYTES])
    here, there = ({each.name: each for each in _outcomes(graph, suite)} for graph in graphs)
    assert there.pop("tag_to_be_in_set").error
    assert here.pop("tag_to_be_in_set").passed
    assert here == there
    assert [name for name, each in there.items() if not each.passed] == [BYTES]
    assert there[BYTES].observed == "BLOB"


def test_an_empty_table_breaks_the_rule_about_rows_alone(graphs: tuple[Graph, Graph]) -> None:
    for graph in graphs:
        graph.fill("labeled_projects", "delete from {table} where true")
    here, there = (_outcomes(graph, "labeled_projects") for graph in graphs)
    assert here == there
    assert _failed(there) == {"table_row_count_to_be_between"}


def test_the_checks_of_a_run_say_the_same(graphs: tuple[Graph, Graph]) -> None:
    told = []
    for graph in graphs:
        graph.fill("labeled_projects", "update {table} set title = 'same', description = 'same' where id < 9")
        ran = graph.run("labeled_projects")
        assert ran.failed == {"title_description_to_be_unique"}
        assert ran.downstream == []
        told.append(_told(ran))
    assert told[0] == told[1]
    metadata = told[1]["title_description_to_be_unique"][2]
    assert (metadata["rows"], metadata["offending_rows"], metadata["offending_ids"]) == (60, 8, "1, 2, 3, 4, 5")
    assert told[1]["id_to_be_unique"][2]["offending_rows"] == 0


def _told(ran: Ran) -> dict[str, tuple[bool, str | None, dict[str, Any]]]:
    dated = {"data_docs", "data_docs_file"}
    return {
        name: (each.passed, each.description, {k: v.value for k, v in each.metadata.items() if k not in dated})
        for name, each in ran.checks.items()
    }


# ---- errors are errors, and no verdicts


def _drop_tag(graph: Graph) -> None:
    graph.warehouse.execute("alter table tags drop column tag")


def _number_tag(graph: Graph) -> None:
    graph.warehouse.execute(retyped("tag", "id").format(table="tags"))


def _broken_view(graph: Graph) -> None:
    graph.warehouse.execute("create table raw as select * from tags")
    graph.warehouse.execute("drop table tags")
    graph.warehouse.execute("create view tags as select cast(tag as int64) as id, tag from raw")


@pytest.mark.parametrize(
    ("damage", "failed", "erroneous", "said"),
    [
        (
            _drop_tag,
            set(),
            {"tag_to_not_be_null", "tag_to_be_in_type_list", "tag_to_be_in_set"},
            "has no column tag",
        ),
        (_number_tag, {"tag_to_be_in_type_list"}, {"tag_to_be_in_set"}, "tag_to_be_in_set: "),
        (_broken_view, set(), {"id_to_be_unique", "id_to_not_be_null"}, "id_to_be_unique: "),
    ],
)
def test_what_cannot_be_evaluated_is_an_error_on_both(
    graphs: tuple[Graph, Graph],
    damage: Callable[[Graph], None],
    failed: set[str],
    erroneous: set[str],
    said: str,
) -> None:
    for graph in graphs:
        graph.fill("tags")
        damage(graph)
        ran = graph.run("tags")
        assert ran.failed == failed
        assert set(ran.checks) == set(CORRUPTIONS["tags"]) - erroneous
        assert said in ran.sentence
        assert len(ran.sentence.splitlines()) == 1
        assert not ran.result.success
        assert ran.downstream == []


def test_a_missing_table_is_an_error_that_names_it(graphs: tuple[Graph, Graph]) -> None:
    for graph in graphs:
        ran = graph.run("tags")
        assert ran.checks == {}
        schema = graph.warehouse.schema_name
        assert ran.sentence == f"Table {schema}.tags does not exist: materialize tags first."
        assert ran.downstream == []


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"type": "expect_tags_to_rhyme", "kwargs": {"column": "tag"}}, "expect_tags_to_rhyme not found"),
        (
            {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "tag", "value_set": 7}},
            "expect_column_values_to_be_in_set does not take these arguments (value_set: ",
        ),
        (
            {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "tag", "regex": "("}},
            "tag_to_match_regex: ",
        ),
    ],
)
def test_a_rule_that_great_expectations_cannot_run_is_an_error_on_both(
    graphs: tuple[Graph, Graph], tmp_path: Path, rule: dict[str, Any], said: str
) -> None:
    good = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}}
    root = suite_in(tmp_path, good, rule)
    for graph in graphs:
        graph.fill("tags")
        ran = graph.run("tags", root=root)
        assert set(ran.checks) == {"id_to_be_unique"}
        assert ran.failed == set()
        assert said in ran.sentence
        assert len(ran.sentence.splitlines()) == 1
        assert ran.downstream == []


# ---- what it costs


@pytest.mark.parametrize(
    ("suite", "most", "with_texts"), [("projects", 8, 3), ("tags", 6, 0), ("labeled_projects", 8, 3)]
)
def test_a_good_table_costs_few_queries_of_one_row_and_no_table(
    bigquery_emulator: Emulator, bigquery: BigQueryWarehouse, tmp_path: Path, suite: str, most: int, with_texts: int
) -> None:
    graph = Graph(tmp_path, bigquery)
    graph.fill(suite)
    with _watched(bigquery_emulator, bigquery) as jobs:
        assert _failed(_outcomes(graph, suite)) == set()
    # three of them count the rows of the table, for which BigQuery reads no column
    assert 0 < len(jobs) <= most
    assert {job.statement_type for job in jobs} == {"SELECT"}
    assert all(job.result().total_rows == 1 for job in jobs)
    # the counts of nulls, of repeated texts, and of the rows that have one
    assert sum("`description`" in job.query for job in jobs) == with_texts
    with bigquery_emulator.client() as client:
        assert [table.table_id for table in client.list_tables(bigquery.schema_name)] == [suite]


def test_only_broken_rules_return_rows_and_few_of_them(
    bigquery_emulator: Emulator, bigquery: BigQueryWarehouse, tmp_path: Path
) -> None:
    graph = Graph(tmp_path, bigquery)
    graph.fill("tags", "update {table} set tag = 'robotics' where id < 50")
    with _watched(bigquery_emulator, bigquery) as jobs:
        (broken,) = (each for each in _outcomes(graph, "tags") if not each.passed)
    assert (broken.offending_rows, len(broken.examples)) == (49, EXAMPLES)
    assert sorted(job.result().total_rows for job in jobs) == [1] * 7 + [EXAMPLES, EXAMPLES]


def test_the_queries_of_a_check_carry_the_labels_and_limits_of_the_warehouse(
    bigquery_emulator: Emulator, bigquery: BigQueryWarehouse, tmp_path: Path
) -> None:
    graph = Graph(tmp_path, bigquery)
    graph.fill("tags")
    with _watched(bigquery_emulator, bigquery) as jobs:
        ran = graph.run("tags")
    assert ran.result.success
    assert jobs
    for job in jobs:
        assert job.labels == {"dagster_run_id": ran.result.run_id, "asset_key": "tags"}
        assert job.maximum_bytes_billed == bigquery.max_bytes


@contextmanager
def _watched(emulator: Emulator, warehouse: BigQueryWarehouse) -> Iterator[list[QueryJob]]:
    """The jobs that what the block does has made in the warehouse's dataset, once it has ended."""
    jobs: list[QueryJob] = []
    with emulator.client() as client:
        before = {job.job_id for job in client.list_jobs()}
        yield jobs
        made = (job for job in client.list_jobs() if job.job_id not in before)
        jobs += [job for job in made if job.default_dataset.dataset_id == warehouse.schema_name]
