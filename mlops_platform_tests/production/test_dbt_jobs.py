"""The jobs that dbt inserts in BigQuery: their labels and limits, and what BigQuery refuses them, as one sentence.

The emulator checks no permission: refusals come from a proxy before it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_platform.assets.transform import build_transform_assets
from mlops_platform.resources.dbt.bigquery_profile import bigquery_secrets, bigquery_variables
from mlops_platform.resources.dbt.manifest import PreparedProject
from mlops_platform.resources.dbt.runner import DbtRunner
from mlops_platform.resources.factory import bigquery_warehouse
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform.settings import DBT_PROJECT_DIR, Settings
from mlops_platform_tests.dbt_projects import prepared_project
from mlops_platform_tests.production.bigquery_emulator import LOCATION, PROJECT
from mlops_platform_tests.production.misbehaving import Fault, Proxy, proxy_to

RAW = """
    create table projects as select 1 as id, timestamp '2024-01-01' as created_on, 'a' as title, 'x' as description;
    create table tags as select 1 as id, 'mlops' as tag
"""
LABELS = {"labeled_projects", "unlabeled_projects"}


class Stage:
    """The transform stage on the emulator, through a proxy."""

    def __init__(self, warehouse: BigQueryWarehouse, settings: Settings, proxy: Proxy) -> None:
        for statement in RAW.split(";"):
            warehouse.execute(statement)
        self.proxy = proxy
        self.settings = settings.model_copy(update={"bigquery_endpoint": proxy.url})
        self.project = self.prepared()

    def prepared(self) -> PreparedProject:
        variables = bigquery_variables(self.settings)
        return prepared_project(DBT_PROJECT_DIR, Path(self.settings.home) / "dbt", variables, target="bigquery")

    def run(self) -> dg.ExecuteInProcessResult:
        self.proxy.requests.clear()
        dbt = DbtRunner(options=self.project.options, secrets=bigquery_secrets(self.settings.bigquery_credentials))
        return dg.materialize(
            [build_transform_assets(self.project)],
            resources={"warehouse": bigquery_warehouse(self.settings), "dbt": dbt},
            raise_on_error=False,
        )


@pytest.fixture
def stage(bigquery: BigQueryWarehouse, bigquery_settings: Settings) -> Any:
    with proxy_to(str(bigquery_settings.bigquery_endpoint)) as proxy:
        yield Stage(bigquery, bigquery_settings, proxy)


def sentence(result: dg.ExecuteInProcessResult) -> str:
    (failure,) = result.get_step_failure_events()
    shown = failure.step_failure_data.user_failure_data
    assert shown is not None
    return str(shown.description)


def test_every_job_names_its_run_and_asset_and_has_the_limits(stage: Stage) -> None:
    state = {path: path.stat().st_mtime_ns for path in stage.project.dbt_project.target_path.glob("*.msgpack")}
    for _ in range(2):  # the second run has another number, and dbt parses nothing anew
        result = stage.run()
        assert result.success
        jobs = [job for job in stage.proxy.jobs() if "dbt_invocation_id" in job["configuration"]["labels"]]
        assert len(jobs) >= 14
        for job in jobs:
            labels, query = job["configuration"]["labels"], job["configuration"]["query"]["query"]
            assert labels["dagster_run_id"] == result.run_id
            # models and their tests name the asset; what dbt asks before them is for both
            assert labels["asset_key"] in LABELS | {"labeled_projects__unlabeled_projects"}, query
            assert job["configuration"]["query"]["maximumBytesBilled"] == str(stage.settings.bigquery_max_bytes)
            assert job["jobReference"]["location"] == LOCATION
        by_asset = {key: [job for job in jobs if job["configuration"]["labels"]["asset_key"] == key] for key in LABELS}
        checks = result.get_asset_check_evaluations()
        for key, found in by_asset.items():
            assert len(found) >= 1 + sum(check.asset_key.to_user_string() == key for check in checks)
    assert stage.prepared().dbt_project.target_path == stage.project.dbt_project.target_path
    assert {path: path.stat().st_mtime_ns for path in state} == state
    assert state


@pytest.mark.parametrize(
    ("message", "missing"),
    [
        (
            f"Access Denied: Table {PROJECT}:shop.tags: User does not have permission to query table "
            f"{PROJECT}:shop.tags, or perhaps it does not exist.",
            f"bigquery.tables.getData on {PROJECT}:shop.tags",
        ),
        (
            f"Access Denied: Project {PROJECT}: User does not have bigquery.jobs.create permission in project "
            f"{PROJECT}.",
            "bigquery.jobs.create",
        ),
        (
            f"Access Denied: Dataset {PROJECT}:shop: Permission bigquery.tables.create denied on dataset "
            f"{PROJECT}:shop (or it may not exist).",
            "bigquery.tables.create",
        ),
    ],
)
def test_a_refused_job_is_one_sentence_with_the_permission(stage: Stage, message: str, missing: str) -> None:
    stage.proxy.faults.append(Fault(r"POST /bigquery/\S+/jobs\?", 403, "accessDenied", message, times=99))
    assert sentence(stage.run()) == (
        f"dbt could not build labeled_projects (and 1 more): BigQuery refused access to dataset "
        f"{stage.settings.schema_name} of project {PROJECT}: the permission {missing} is missing; grant the service "
        "account a role that holds it."
    )


def test_a_job_that_would_read_too_much_names_the_limit(stage: Stage) -> None:
    message = "Query exceeded limit for bytes billed: 1000. 10485760 or higher required."
    stage.proxy.faults.append(Fault(r"POST /bigquery/\S+/jobs\?", 400, "bytesBilledLimitExceeded", message, times=99))
    said = sentence(stage.run())
    assert "would read too much (Query exceeded limit for bytes billed" in said
    assert said.endswith("raise MLOPS_BIGQUERY_MAX_BYTES if it is meant to.")
    assert ".sql" not in said


def test_what_is_refused_before_the_first_model_is_one_sentence_too(stage: Stage) -> None:
    message = f"Access Denied: Dataset {PROJECT}:shop: Permission bigquery.datasets.get denied on dataset."
    # dbt alone lists datasets
    stage.proxy.faults.append(Fault(r"GET /bigquery/\S+/datasets/\w+\?", 403, "accessDenied", message, times=99))
    stage.proxy.faults.append(Fault(r"GET /bigquery/\S+/(datasets|tables)\?", 403, "accessDenied", message, times=99))
    said = sentence(stage.run())
    assert "the permission bigquery.datasets.get is missing; grant" in said
    assert ".sql" not in said
    assert json.dumps(said).count("\\n") == 0
