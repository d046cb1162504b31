"""The transform stage on real dbt and DuckDB: tables, checks, what stops downstream, what a kill leaves."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.assets.transform import build_transform_assets
from mlops_platform.errors import TransformError
from mlops_platform.resources.dbt.manifest import PreparedProject
from mlops_platform.resources.dbt.runner import DbtRunner
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.settings import DBT_PROJECT_DIR, PROJECT_ROOT
from mlops_platform_tests.dbt_projects import prepared_project

RAW = """
    create or replace table projects (id bigint, created_on timestamp, title varchar, description varchar);
    create or replace table tags (id bigint, tag varchar);
    insert into projects
        select i, timestamp '2020-01-01' + to_days(i::integer), 'title ' || i, 'text ' || i
        from range(1, 11) r(i);
    insert into tags values (1, 'mlops'), (2, 'other'), (3, 'computer-vision'),
        (4, 'natural-language-processing'), (5, null);
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> PreparedProject:
    folder = tmp_path_factory.mktemp("transform")
    variables = {"warehouse_path": str(folder / "warehouse.duckdb"), "schema_name": "mlops_course"}
    return prepared_project(DBT_PROJECT_DIR, folder / "dbt", variables)


@pytest.fixture
def warehouse(project: PreparedProject) -> Iterator[DuckDBWarehouse]:
    path = Path(project.variables["warehouse_path"])
    path.unlink(missing_ok=True)
    warehouse = DuckDBWarehouse(path=str(path), schema_name="mlops_course", lock_timeout=5)
    with warehouse.connect() as connection:
        connection.execute(RAW)
    yield warehouse
    path.unlink()


def _definitions(project: PreparedProject, warehouse: DuckDBWarehouse) -> dg.Definitions:
    @dg.asset(deps=["labeled_projects"])
    def downstream() -> None: ...

    selection = dg.AssetSelection.assets("labeled_projects", "unlabeled_projects", "downstream")
    return dg.Definitions(
        [dg.AssetSpec("projects"), dg.AssetSpec("tags"), build_transform_assets(project), downstream],
        resources={"warehouse": warehouse, "dbt": DbtRunner(options=project.options)},
        jobs=[
            dg.define_asset_job("all", selection),
            dg.define_asset_job("only_labeled", dg.AssetSelection.assets("labeled_projects")),
            dg.define_asset_job("only_checks", dg.AssetSelection.checks_for_assets("labeled_projects")),
        ],
    )


def _run(project: PreparedProject, warehouse: DuckDBWarehouse, job: str = "all") -> dg.ExecuteInProcessResult:
    return _definitions(project, warehouse).resolve_job_def(job).execute_in_process(raise_on_error=False)


def _materialized(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetMaterialization]:
    events = (event.step_materialization_data.materialization for event in _of(result, "ASSET_MATERIALIZATION"))
    return {event.asset_key.to_user_string(): event for event in events}


def _of(result: dg.ExecuteInProcessResult, kind: str) -> list[dg.DagsterEvent]:
    return [event for event in result.all_events if event.event_type_value == kind]


def _failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckSeverity]:
    checks = result.get_asset_check_evaluations()
    return {check.check_name: check.severity for check in checks if not check.passed}


def _error(result: dg.ExecuteInProcessResult) -> str:
    (failure,) = _of(result, "STEP_FAILURE")
    shown = failure.step_failure_data.user_failure_data
    assert shown is not None
    return str(shown.description)


def _versions(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {
        key: (event.tags or {})["dagster/data_version"]
        for key, event in _materialized(result).items()
        if key != "downstream"
    }


def test_every_project_is_labeled_or_unlabeled(project: PreparedProject, warehouse: DuckDBWarehouse) -> None:
    result = _run(project, warehouse)
    assert result.success
    assert set(_materialized(result)) == {"labeled_projects", "unlabeled_projects", "downstream"}
    # a null tag counts as none
    assert warehouse.fetch_rows("select id, tag from labeled_projects order by id") == [
        (1, "mlops"),
        (2, "other"),
        (3, "computer-vision"),
        (4, "natural-language-processing"),
    ]
    assert warehouse.fetch_rows("select id from unlabeled_projects order by id") == [(i,) for i in range(5, 11)]
    assert [name for name, _ in warehouse.describe("labeled_projects")] == [
        "id",
        "created_on",
        "title",
        "description",
        "tag",
    ]
    # no schema beside the one that is set, and nothing left over
    tables = "select table_schema, table_name from information_schema.tables order by all"
    assert warehouse.fetch_rows(tables) == [
        ("mlops_course", name) for name in ("labeled_projects", "projects", "tags", "unlabeled_projects")
    ]


def test_every_declared_check_runs(project: PreparedProject, warehouse: DuckDBWarehouse) -> None:
    declared = {spec.key: spec.blocking for spec in build_transform_assets(project).check_specs}
    tests = [node for node in project.manifest["nodes"].values() if node["resource_type"] == "test"]
    assert len(declared) == len(tests) == 12
    ran = {check.asset_check_key: check for check in _run(project, warehouse).get_asset_check_evaluations()}
    assert ran.keys() == declared.keys()
    for key, blocking in declared.items():
        assert blocking == (ran[key].severity == dg.AssetCheckSeverity.ERROR)
        assert "select" in str(ran[key].metadata["sql"].value)
    assert [key.name for key, blocking in declared.items() if not blocking] == ["every_tag_has_its_project"]


def test_specs_say_what_they_are_and_survive_a_global_pass(
    project: PreparedProject, warehouse: DuckDBWarehouse
) -> None:
    def govern(spec: dg.AssetSpec) -> dg.AssetSpec:
        policy = dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(hours=36))
        return spec.replace_attributes(automation_condition=dg.AutomationCondition.eager(), freshness_policy=policy)

    definitions = _definitions(project, warehouse).map_resolved_asset_specs(func=govern)
    graph = definitions.resolve_asset_graph()
    for name in ("labeled_projects", "unlabeled_projects"):
        node = graph.get(dg.AssetKey(name))
        assert node.group_name == "transform"
        assert node.owners == ["team:data"]
        assert node.kinds == {"dbt", "duckdb"}
        assert node.parent_keys == {dg.AssetKey("projects"), dg.AssetKey("tags")}
        assert node.description
        assert node.automation_condition is not None
        assert node.freshness_policy is not None
        assert node.pools == {"warehouse"}
    assert all(spec.description for spec in build_transform_assets(project).check_specs)
    result = definitions.resolve_job_def("all").execute_in_process(raise_on_error=False)
    assert result.success
    assert len(result.get_asset_check_evaluations()) == 12


def test_materializations_carry_schema_count_and_content_version(
    project: PreparedProject, warehouse: DuckDBWarehouse
) -> None:
    first = _run(project, warehouse)
    labeled = _materialized(first)["labeled_projects"]
    assert labeled.metadata["dagster/row_count"].value == 4
    columns = labeled.metadata["dagster/column_schema"].value
    assert isinstance(columns, dg.TableSchema)
    assert [(column.name, column.type) for column in columns.columns][:2] == [
        ("id", "BIGINT"),
        ("created_on", "TIMESTAMP"),
    ]
    assert all(column.description for column in columns.columns)
    assert _versions(first)["labeled_projects"] == warehouse.content_version("labeled_projects")
    lineage = labeled.metadata["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    assert lineage.deps_by_column == {
        **{name: [dg.TableColumnDep("projects", name)] for name in ("id", "created_on", "title", "description")},
        "tag": [dg.TableColumnDep("tags", "tag")],
    }

    assert _versions(_run(project, warehouse)) == _versions(first)
    warehouse.execute("update tags set tag = 'other' where id = 1")
    changed = _versions(_run(project, warehouse))
    assert changed["labeled_projects"] != _versions(first)["labeled_projects"]
    assert changed["unlabeled_projects"] == _versions(first)["unlabeled_projects"]


def test_a_tag_without_a_project_warns(project: PreparedProject, warehouse: DuckDBWarehouse) -> None:
    warehouse.execute("insert into tags values (999, 'mlops'), (998, null)")
    result = _run(project, warehouse)
    assert result.success
    assert "downstream" in _materialized(result)
    assert _failed_checks(result) == {"every_tag_has_its_project": dg.AssetCheckSeverity.WARN}
    (check,) = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert check.metadata["examples"].value == [["999"]]
    assert warehouse.row_count("labeled_projects") == 4


@pytest.mark.parametrize(
    ("statement", "failing"),
    [
        (
            "insert into tags values (1, 'other')",
            {"labeled_projects_id_is_unique", "projects_are_labeled_or_unlabeled"},
        ),
        ("insert into projects select * from projects where id = 1", {"labeled_projects_id_is_unique"}),
        ("insert into projects select * from projects where id = 9", {"unlabeled_projects_id_is_unique"}),
        ("insert into tags values (9, 'robots')", {"labeled_projects_tag_is_accepted"}),
        ("update projects set created_on = null where id = 1", {"labeled_projects_created_on_is_not_null"}),
    ],
)
def test_a_failing_test_is_a_failed_check_that_stops_downstream(
    project: PreparedProject, warehouse: DuckDBWarehouse, statement: str, failing: set[str]
) -> None:
    warehouse.execute(statement)
    result = _run(project, warehouse)
    assert not result.success
    assert _failed_checks(result) == dict.fromkeys(failing, dg.AssetCheckSeverity.ERROR)
    assert len(result.get_asset_check_evaluations()) == 12
    assert "downstream" not in _materialized(result)


def test_a_model_that_cannot_be_built_gives_a_sentence_and_leaves_the_old_tables(
    project: PreparedProject, warehouse: DuckDBWarehouse
) -> None:
    before = _versions(_run(project, warehouse))
    warehouse.execute("alter table projects drop column title")
    result = _run(project, warehouse)
    assert not result.success
    assert _materialized(result) == {}
    assert _failed_checks(result) == {}, "an engine's trouble is not bad data"
    message = _error(result)
    assert message.startswith("dbt could not build labeled_projects")
    assert 'does not have a column named "title"' in message
    assert "\n" not in message
    assert {name: warehouse.content_version(name) for name in before} == before


def test_a_missing_table_gives_a_sentence(project: PreparedProject, warehouse: DuckDBWarehouse) -> None:
    warehouse.execute("drop table tags")
    message = _error(_run(project, warehouse))
    assert message == "The warehouse has no table tags: materialize tags first."


def test_a_part_of_the_stage_runs_alone(project: PreparedProject, warehouse: DuckDBWarehouse) -> None:
    only_labeled = _run(project, warehouse, "only_labeled")
    assert only_labeled.success
    assert set(_materialized(only_labeled)) == {"labeled_projects"}
    assert len(only_labeled.get_asset_check_evaluations()) == 7
    assert not warehouse.has_table("unlabeled_projects")
    only_checks = _run(project, warehouse, "only_checks")
    assert only_checks.success
    assert _materialized(only_checks) == {}
    assert len(only_checks.get_asset_check_evaluations()) == 7


def test_a_test_that_belongs_to_no_model_is_refused(project: PreparedProject) -> None:
    name = "test.mlops_course.projects_are_labeled_or_unlabeled"
    stray = {**project.manifest["nodes"][name], "config": {"severity": "error", "meta": {}}, "meta": {}}
    manifest = {**project.manifest, "nodes": {**project.manifest["nodes"], name: stray}}
    changed = dataclasses.replace(project, manifest=manifest)
    with pytest.raises(TransformError, match=r"projects_are_labeled_or_unlabeled belongs to no model"):
        build_transform_assets(changed)


KILLED = """
import json, os, signal, sys
from mlops_platform.resources.dbt import runner as dbt

def kill(event, lines):
    if event.info.name == "SQLQuery" and sys.argv[1] in event.data.sql and "unlabeled" in event.data.sql:
        os.kill(os.getpid(), signal.SIGKILL)

dbt._keep_line = kill
runner = dbt.DbtRunner(options=json.loads(sys.argv[2]))
runner.build(["mlops_course.labeled_projects", "mlops_course.unlabeled_projects"])
"""


@pytest.mark.parametrize(
    ("moment", "rows"),
    [
        # the old table is renamed, the new one has not taken its name
        pytest.param('unlabeled_projects__dbt_tmp" rename', 6, id="mid-swap"),
        # the swap is committed, the old table still there
        pytest.param("drop table if exists", 5, id="before-clean-up"),
    ],
)
def test_a_kill_leaves_a_whole_table_and_the_next_run_heals(
    project: PreparedProject, warehouse: DuckDBWarehouse, moment: str, rows: int
) -> None:
    assert _run(project, warehouse).success
    warehouse.execute("insert into tags values (9, 'mlops')")
    command = [sys.executable, "-c", KILLED, moment, json.dumps(project.options)]
    child = subprocess.run(command, cwd=PROJECT_ROOT, check=False)
    assert child.returncode == -signal.SIGKILL
    assert warehouse.row_count("unlabeled_projects") == rows
    assert warehouse.row_count("labeled_projects") == 5

    assert _run(project, warehouse).success
    assert warehouse.row_count("unlabeled_projects") == 5
    tables = "select table_name from information_schema.tables order by 1"
    names = [name for (name,) in warehouse.fetch_rows(tables)]
    assert names == ["labeled_projects", "projects", "tags", "unlabeled_projects"]
