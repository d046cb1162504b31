"""The reject checks, evaluated in runs."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.assets.ingest import build_ingest_assets
from mlops_platform.checks.rejects import build_ingest_checks
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse

GOOD = "".join(f"{n},mlops\n" for n in range(9))


@dg.asset(deps=["tags"])
def downstream() -> None:
    """Stands for the transform stage."""


class Graph:
    """Assets, checks and an asset behind them; the projects file is sound."""

    def __init__(self, folder: Path, limit: float) -> None:
        self.tags, projects = folder / "tags.csv", folder / "projects.csv"
        projects.write_text("id,created_on,title,description\n1,2026-01-01,a,b\n")
        self.warehouse = DuckDBWarehouse(path=str(folder / "w.duckdb"))
        self.assets = build_ingest_assets(str(projects), str(self.tags), 5.0)
        self.checks = build_ingest_checks(limit)

    def run(self, tags: str) -> dg.ExecuteInProcessResult:
        self.tags.write_text("id,tag\n" + tags)
        return dg.materialize(
            [*self.assets, *self.checks, downstream],
            resources={"warehouse": self.warehouse},
            raise_on_error=False,
        )

    def run_checks_only(self) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [*self.assets, *self.checks],
            selection=dg.AssetSelection.checks(*self.checks),
            resources={"warehouse": self.warehouse},
            raise_on_error=False,
        )


def outcomes(result: dg.ExecuteInProcessResult, table: str = "tags") -> dict[str, bool]:
    return {
        check.check_name: check.passed
        for check in result.get_asset_check_evaluations()
        if check.asset_key == dg.AssetKey(table)
    }


def materialized(result: dg.ExecuteInProcessResult, key: str) -> bool:
    return bool(result.asset_materializations_for_node(key))


def test_sound_files_pass(tmp_path: Path) -> None:
    result = Graph(tmp_path, 0.01).run(GOOD)
    passed = {"no_rejected_rows": True, "reject_share_within_limit": True}
    assert result.success
    assert outcomes(result, "tags") == outcomes(result, "projects") == passed


def test_a_reject_within_the_limit_warns_and_shows_itself(tmp_path: Path) -> None:
    result = Graph(tmp_path, 0.1).run(GOOD + "x,<b>\n")
    assert result.success
    assert outcomes(result) == {"no_rejected_rows": False, "reject_share_within_limit": True}
    assert outcomes(result, "projects")["no_rejected_rows"]
    assert materialized(result, "downstream")
    (check,) = (c for c in result.get_asset_check_evaluations() if not c.passed)
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.metadata["rejected_lines"].value == 1
    assert check.metadata["share"].value == pytest.approx(0.1)
    assert str(check.metadata["first_rejects"].value).splitlines()[2] == (
        r'| 11 | id | "x" is not a whole number that fits BIGINT | x,\<b\> |'
    )


def test_a_share_above_the_limit_holds_back_what_comes_next(tmp_path: Path) -> None:
    result = Graph(tmp_path, 0.09).run(GOOD + "x,other\n")
    assert not result.success
    assert outcomes(result) == {"no_rejected_rows": False, "reject_share_within_limit": False}
    assert not materialized(result, "downstream")
    (check,) = (c for c in result.get_asset_check_evaluations() if "share" in c.check_name and not c.passed)
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert check.metadata["share"].value == pytest.approx(0.1)
    assert check.metadata["limit"].value == pytest.approx(0.09)


def test_repair_is_seen(tmp_path: Path) -> None:
    graph = Graph(tmp_path, 0.01)
    assert not graph.run(GOOD + "x,other\n").success
    result = graph.run(GOOD)
    assert result.success
    assert all(outcomes(result).values())


def test_a_quote_that_swallows_rows_counts_with_its_lines(tmp_path: Path) -> None:
    swallowed = "".join(f"{n},mlops\n" for n in range(50, 60))
    result = Graph(tmp_path, 0.5).run(GOOD + '49,"\n' + swallowed + '60,"\n')
    assert not outcomes(result)["reject_share_within_limit"]


def test_one_row_with_two_reasons_counts_once(tmp_path: Path) -> None:
    graph = Graph(tmp_path, 0.5)
    assert graph.run(GOOD).success
    graph.warehouse.execute("INSERT INTO rejects SELECT 'tags', 'f', 5, c, 'r', 't' FROM (VALUES ('id'), ('tag')) v(c)")
    result = graph.run_checks_only()
    (check,) = (c for c in result.get_asset_check_evaluations() if not c.passed)
    assert check.metadata["rejected_lines"].value == 1


@pytest.mark.parametrize("missing", ["tags", "rejects"])
def test_a_missing_table_is_an_error_and_no_pass(tmp_path: Path, missing: str) -> None:
    graph = Graph(tmp_path, 0.5)
    assert graph.run(GOOD).success
    graph.warehouse.execute(f"DROP TABLE {missing}")
    result = graph.run_checks_only()
    assert not result.success
    assert outcomes(result) == {}
    descriptions = [
        str(event.step_failure_data.user_failure_data.description)
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    ]
    assert len(descriptions) == (1 if missing == "tags" else 2)
    assert all("no table" in text and "materialize" in text for text in descriptions)
