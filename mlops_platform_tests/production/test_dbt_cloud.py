"""The transform stage through dbt Cloud: what it gives is what dbt in this process gives, and faults are sentences.

dbt Cloud is a double over HTTP that runs the real dbt; no real dbt Cloud was reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from mlops_platform.assets.dbt_cloud import build_dbt_cloud_assets
from mlops_platform.assets.transform import build_transform_assets
from mlops_platform.resources.dbt.cloud import dbt_cloud_runner
from mlops_platform.resources.dbt.manifest import PreparedProject
from mlops_platform.resources.dbt.runner import Dbt, DbtRunner
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.settings import DBT_PROJECT_DIR, Settings
from mlops_platform_tests.dbt_projects import prepared_project
from mlops_platform_tests.production.dbt_cloud_double import ACCOUNT, ENVIRONMENT, PROJECT, TOKEN, DbtCloud, serving

RAW = """
    create or replace table projects as
        select i as id, timestamp '2020-01-01' + to_days(i::integer) as created_on, 'title ' || i as title,
            'text ' || i as description
        from range(1, 11) r(i);
    create or replace table tags as
        select * from (values (1, 'mlops'), (2, 'other'), (3, 'computer-vision'), (5, null)) t(id, tag);
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> PreparedProject:
    folder = tmp_path_factory.mktemp("cloud")
    variables = {"warehouse_path": str(folder / "warehouse.duckdb"), "schema_name": "mlops_course"}
    return prepared_project(DBT_PROJECT_DIR, folder / "dbt", variables)


@pytest.fixture
def warehouse(project: PreparedProject) -> DuckDBWarehouse:
    warehouse = DuckDBWarehouse(path=project.variables["warehouse_path"], lock_timeout=5)
    with warehouse.connect() as connection:
        connection.execute("drop table if exists labeled_projects; drop table if exists unlabeled_projects;" + RAW)
    return warehouse


@pytest.fixture
def cloud(project: PreparedProject, tmp_path: Path) -> Iterator[DbtCloud]:
    with serving(DbtCloud(project, tmp_path)) as running:
        yield running


def _settings(url: str, token: str = TOKEN, timeout: float = 60) -> Settings:
    return Settings(
        _env_file=None,
        dbt_runner="cloud",
        dbt_cloud_url=url,
        dbt_cloud_account_id=ACCOUNT,
        dbt_cloud_project_id=PROJECT,
        dbt_cloud_environment_id=ENVIRONMENT,
        dbt_cloud_token=SecretStr(token),
        dbt_cloud_timeout=timeout,
    )


def _run(
    assets: dg.AssetsDefinition, dbt: Dbt, warehouse: DuckDBWarehouse, config: dict[str, Any] | None = None
) -> dg.ExecuteInProcessResult:
    @dg.asset(deps=["labeled_projects"])
    def downstream() -> None: ...

    selection = dg.AssetSelection.assets("labeled_projects", "unlabeled_projects", "downstream")
    defs = dg.Definitions(
        [dg.AssetSpec("projects"), dg.AssetSpec("tags"), assets, downstream],
        resources={"warehouse": warehouse, "dbt": dbt},
        jobs=[dg.define_asset_job("all", selection)],
    )
    ops = {"ops": {"transform": {"config": config or {}}}}
    return defs.resolve_job_def("all").execute_in_process(run_config=ops, raise_on_error=False)


def _through(
    cloud: DbtCloud, warehouse: DuckDBWarehouse, token: str = TOKEN, timeout: float = 60, **config: Any
) -> dg.ExecuteInProcessResult:
    runner = dbt_cloud_runner(_settings(cloud.url, token, timeout))
    return _run(build_dbt_cloud_assets(cloud.project), runner, warehouse, config)


def _story(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What a run says of assets and checks, without times and links."""
    told: dict[str, Any] = {}
    for event in result.get_asset_materialization_events():
        made = event.step_materialization_data.materialization
        rows = made.metadata.get("dagster/row_count")
        version = (made.tags or {})["dagster/data_version"]
        # the asset downstream names no version of its own, so Dagster makes one up for each run
        told[made.asset_key.to_user_string()] = (version, rows.value) if rows else None
    for check in result.get_asset_check_evaluations():
        told[check.check_name] = (check.asset_key, check.passed, check.severity, check.metadata["failing_rows"].value)
    return told


def _error(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    (failure,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    shown = failure.step_failure_data.user_failure_data
    assert shown is not None
    return str(shown.description)


def test_the_assets_are_the_same(project: PreparedProject) -> None:
    def described(assets: dg.AssetsDefinition) -> list[Any]:
        specs = [(s.key, s.group_name, s.owners, s.description, [d.asset_key for d in s.deps]) for s in assets.specs]
        return [specs, [(c.key, c.blocking, c.description) for c in assets.check_specs]]

    there = build_dbt_cloud_assets(project)
    assert described(there) == described(build_transform_assets(project))
    assert {kind for spec in there.specs for kind in spec.kinds} == {"dbtcloud", "duckdb"}


def test_definitions_ask_dbt_cloud_nothing(cloud: DbtCloud) -> None:
    dbt = dbt_cloud_runner(_settings(cloud.url))
    defs = dg.Definitions([build_dbt_cloud_assets(cloud.project)], resources={"dbt": dbt, "warehouse": object()})
    dg.Definitions.validate_loadable(defs)
    assert cloud.requests == []


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "insert into tags values (9, 'robots')",
        "insert into tags values (1, 'other')",
        "insert into tags values (99, 'mlops')",
    ],
)
def test_a_run_tells_what_a_run_in_this_process_tells(cloud: DbtCloud, warehouse: DuckDBWarehouse, damage: str) -> None:
    if damage:
        warehouse.execute(damage)
    here = _run(build_transform_assets(cloud.project), DbtRunner(options=cloud.project.options), warehouse)
    warehouse.execute("drop table labeled_projects; drop table unlabeled_projects")
    there = _through(cloud, warehouse)
    assert len(_story(there)) >= 14
    assert _story(there) == _story(here)
    assert there.success == here.success
    (run,) = cloud.runs
    if not damage:
        made = there.asset_materializations_for_node("transform")[0]
        assert made.metadata["run"].value == f"{cloud.url}/deploy/{ACCOUNT}/projects/{PROJECT}/runs/{run.number}"


def test_one_job_is_kept_and_options_reach_it(cloud: DbtCloud, warehouse: DuckDBWarehouse) -> None:
    assert _through(cloud, warehouse).success
    assert _through(cloud, warehouse, full_refresh=True).success
    assert [job["name"] for job in cloud.jobs] == [f"DAGSTER_ADHOC_JOB__{PROJECT}__{ENVIRONMENT}"]
    first, second = (run.steps[0] for run in cloud.runs)
    assert "--full-refresh" not in first
    assert "--full-refresh" in second


def test_a_model_that_cannot_be_built_is_an_error(cloud: DbtCloud, warehouse: DuckDBWarehouse) -> None:
    warehouse.execute("alter table projects drop column title")
    assert _error(_through(cloud, warehouse)).startswith("dbt could not build labeled_projects")


def test_dbt_cloud_that_is_busy_for_a_moment_is_asked_again(cloud: DbtCloud, warehouse: DuckDBWarehouse) -> None:
    cloud.refuse = [503, 503]
    assert _through(cloud, warehouse).success


def test_faults_are_sentences(cloud: DbtCloud, warehouse: DuckDBWarehouse) -> None:
    def sentence(**options: Any) -> str:
        told = _error(_through(cloud, warehouse, **options))
        assert "\n" not in told
        assert TOKEN not in told
        return told

    assert f"dbt Cloud at {cloud.url} did not answer or refused" in sentence(token="another")  # noqa: S106
    cloud.refuse = [500] * 4
    assert "MLOPS_DBT_CLOUD_TOKEN" in sentence()
    cloud.lose_artifacts = True
    assert "gave no results" in sentence()
    cloud.lose_artifacts = False
    cloud.cancel_at_start = True
    assert "Somebody cancelled the dbt Cloud run" in sentence()
    cloud.cancel_at_start = False
    cloud.hang = True
    assert "took over 2 s and was cancelled" in sentence(timeout=2)
    assert cloud.requests[-1].endswith("/cancel")
    cloud.hang = False
    assert _through(cloud, warehouse).success


def test_another_commit_in_dbt_cloud_is_told(
    cloud: DbtCloud, warehouse: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = cloud.answer

    def older(method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, content = answer(method, path, body)
        if path.endswith("run_results.json"):
            kept = [each for each in content["results"] if "tag_is_accepted" not in each["unique_id"]]
            content = {**content, "results": kept}
        return status, content

    monkeypatch.setattr(cloud, "answer", older)
    assert "has no result for labeled_projects_tag_is_accepted" in _error(_through(cloud, warehouse))
