"""Suites as asset checks: what is held back when a rule is broken, and what the checks say about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_platform.resources.validation.suite import read_suite
from mlops_platform.settings import GX_ROOT_DIR
from mlops_platform_tests.checks.corruptions import CORRUPTIONS, ROWS, retyped
from mlops_platform_tests.checks.suite_graph import VERSION, Graph, Ran, suite_in


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return Graph(tmp_path)


def test_every_rule_of_every_suite_has_its_corruption() -> None:
    suites = {path.stem for path in (GX_ROOT_DIR / "expectations").glob("*.json")}
    assert suites == set(CORRUPTIONS)
    for suite in suites:
        names = {each.name for each in read_suite(suite)}
        assert names == set(CORRUPTIONS[suite])
        assert all(each.critical for each in read_suite(suite))


@pytest.mark.parametrize("suite", sorted(CORRUPTIONS))
@pytest.mark.parametrize("snapshot", [False, True])
def test_a_good_table_passes_and_lets_downstream_run(graph: Graph, suite: str, snapshot: bool) -> None:
    graph.fill(suite)
    ran = graph.run(suite, snapshot=snapshot)
    assert ran.result.success
    assert set(ran.checks) == set(CORRUPTIONS[suite])
    assert ran.failed == set()
    assert len(ran.downstream) == 1


@pytest.mark.parametrize(
    ("suite", "rule", "snapshot"),
    [
        *((suite, rule, False) for suite in sorted(CORRUPTIONS) for rule in CORRUPTIONS[suite]),
        *(("labeled_projects", rule, True) for rule in CORRUPTIONS["labeled_projects"]),
    ],
)
def test_a_broken_rule_fails_its_check_alone_and_holds_back_downstream(
    graph: Graph, suite: str, rule: str, snapshot: bool
) -> None:
    graph.fill(suite, CORRUPTIONS[suite][rule])
    ran = graph.run(suite, snapshot=snapshot)
    assert ran.failed == {rule}
    assert set(ran.checks) == set(CORRUPTIONS[suite])
    assert ran.checks[rule].severity is dg.AssetCheckSeverity.ERROR
    assert ran.checks[rule].description
    assert not ran.result.success
    assert ran.downstream == []


def test_a_check_tells_counts_share_ids_and_its_page(graph: Graph) -> None:
    graph.fill("projects", "update {table} set title = 'same', description = 'same' where id in (3, 5, 8)")
    ran = graph.run("projects")
    check = ran.checks["title_description_to_be_unique"]
    metadata: dict[str, Any] = {key: value.value for key, value in check.metadata.items()}
    assert (metadata["rows"], metadata["offending_rows"]) == (ROWS, 3)
    assert metadata["offending_share"] == pytest.approx(0.05)
    assert metadata["offending_ids"] == "3, 5, 8"
    assert metadata["examples"][0] == {"id": 3, "title": "same", "description": "same"}
    assert check.description == "3 of 60 rows (5.00%) violate the rule."
    page = Path(metadata["data_docs_file"])
    assert page.is_file()
    address = page.relative_to(graph.home / "docs").as_posix()
    assert metadata["data_docs"] == f"http://127.0.0.1:3080/{address}"
    count = ran.checks["table_row_count_to_be_between"].metadata
    assert count["observed"].value == ROWS
    assert "offending_ids" not in count


def test_a_rule_about_the_whole_table_tells_what_it_saw_and_what_it_asks_for(graph: Graph) -> None:
    graph.fill("labeled_projects", "delete from {table} where id > 20")
    check = graph.run("labeled_projects").checks["table_row_count_to_be_between"]
    assert check.description == "The table has 20, but the rule requires min_value 50."


def test_one_check_runs_by_itself(graph: Graph) -> None:
    graph.fill("tags", "update {table} set tag = null where id < 3")
    ran = graph.run("tags", only=["id_to_be_unique"])
    assert set(ran.checks) == {"id_to_be_unique"}
    assert ran.result.success


def test_the_same_table_gets_the_same_verdicts_twice(graph: Graph) -> None:
    graph.fill("tags", "update {table} set tag = 'robotics' where id < 9")
    first, second = (graph.run("tags") for _ in range(2))
    dated = {"data_docs", "data_docs_file"}

    def told(ran: Ran) -> dict[str, Any]:
        return {
            name: (each.passed, {k: v.value for k, v in each.metadata.items() if k not in dated})
            for name, each in ran.checks.items()
        }

    assert told(first) == told(second)
    assert first.failed == {"tag_to_be_in_set"}


def _drop_tag(graph: Graph) -> None:
    graph.warehouse.execute("alter table tags drop tag")


def _number_tag(graph: Graph) -> None:
    graph.warehouse.execute(retyped("tag", "id").format(table="tags"))


def _broken_view(graph: Graph) -> None:
    graph.warehouse.execute(
        "alter table tags rename to raw; create view tags as select tag::bigint as id, tag from raw"
    )


@pytest.mark.parametrize(
    ("damage", "failed", "passed", "said"),
    [
        (
            _drop_tag,
            set(),
            {"table_row_count_to_be_between", "id_to_be_unique", "id_to_not_be_null"},
            "has no column tag",
        ),
        (
            _number_tag,
            {"tag_to_be_in_type_list"},
            {"table_row_count_to_be_between", "id_to_be_unique", "id_to_not_be_null", "tag_to_not_be_null"},
            "tag_to_be_in_set: Conversion Error: Could not convert string",
        ),
        (
            _broken_view,
            set(),
            {"table_row_count_to_be_between", "tag_to_not_be_null", "tag_to_be_in_type_list", "tag_to_be_in_set"},
            "id_to_be_unique: Conversion Error: Could not convert string",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_an_error_and_no_verdict(
    graph: Graph, damage: Callable[[Graph], None], failed: set[str], passed: set[str], said: str
) -> None:
    graph.fill("tags")
    damage(graph)
    ran = graph.run("tags")
    assert ran.failed == failed
    assert set(ran.checks) - ran.failed == passed
    assert said in ran.sentence
    assert len(ran.sentence.splitlines()) == 1
    assert not ran.result.success
    assert ran.downstream == []


def test_a_missing_table_is_an_error_that_names_it(graph: Graph) -> None:
    ran = graph.run("tags")
    assert ran.checks == {}
    assert ran.sentence == "Table mlops_course.tags does not exist: materialize tags first."
    assert ran.downstream == []


def test_a_missing_snapshot_is_an_error_that_names_it(graph: Graph) -> None:
    graph.fill("labeled_projects")
    graph.run("labeled_projects", snapshot=True)
    graph.datasets.path(VERSION).unlink()
    ran = graph.run("labeled_projects", snapshot=True, only=["id_to_be_unique"])
    assert ran.checks == {}
    assert str(graph.datasets.path(VERSION)) in ran.sentence


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"type": "expect_tags_to_rhyme", "kwargs": {"column": "tag"}}, "expect_tags_to_rhyme not found"),
        (
            {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "tag", "value_set": 7}},
            "expect_column_values_to_be_in_set does not take these arguments (value_set: ",
        ),
        (  # the library knows no regular expressions of DuckDB's
            {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "tag", "regex": "."}},
            "Regex is not supported for dialect duckdb",
        ),
    ],
)
def test_a_rule_that_great_expectations_cannot_run_is_an_error(
    graph: Graph, tmp_path: Path, rule: dict[str, Any], said: str
) -> None:
    good = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}}
    graph.fill("tags")
    ran = graph.run("tags", root=suite_in(tmp_path, good, rule))
    assert set(ran.checks) == {"id_to_be_unique"}
    assert ran.failed == set()
    assert said in ran.sentence
    assert len(ran.sentence.splitlines()) == 1
    assert ran.downstream == []


def test_a_broken_rule_that_is_not_critical_only_warns(graph: Graph, tmp_path: Path) -> None:
    kwargs = {"column": "id", "min_value": 2}
    rule = {"type": "expect_column_values_to_be_between", "kwargs": kwargs, "severity": "warning"}
    graph.fill("tags")
    ran = graph.run("tags", root=suite_in(tmp_path, rule))
    assert ran.failed == {"id_to_be_between"}
    assert ran.checks["id_to_be_between"].severity is dg.AssetCheckSeverity.WARN
    assert ran.result.success
    assert ran.downstream == ["tags"]
