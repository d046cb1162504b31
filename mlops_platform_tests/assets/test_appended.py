"""Files that have grown since the last run: the next run gives what one run in an empty home gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_platform.assets.dataset import build_dataset_asset
from mlops_platform.assets.ingest import build_ingest_assets
from mlops_platform.assets.transform import build_transform_assets
from mlops_platform.resources.datasets import DatasetStore
from mlops_platform.resources.dbt import DbtRunner
from mlops_platform.resources.dbt_manifest import PreparedProject
from mlops_platform.resources.warehouse import DuckDBWarehouse
from mlops_platform.settings import DBT_PROJECT_DIR
from mlops_platform_tests.dbt_projects import prepared_project

TABLES = ("projects", "tags", "labeled_projects", "unlabeled_projects")
CLASSES = ("mlops", "other", "computer-vision", "natural-language-processing")


class Pipeline:
    """Ingest, dbt and dataset on two files, in a home of their own."""

    def __init__(self, project: PreparedProject, sources: Path) -> None:
        self.project, path = project, Path(project.variables["warehouse_path"])
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        self.warehouse = DuckDBWarehouse(path=str(path), schema_name="mlops_course")
        self.datasets = DatasetStore(base_dir=str(path.parent / "datasets"))
        self.sources = sources

    def run(self) -> dict[str, Any]:
        """Materialize all; return checks, data versions, and the rows of each table and of the snapshot."""
        resources = {"warehouse": self.warehouse, "datasets": self.datasets, "dbt": DbtRunner.of(self.project)}
        assets = [
            *build_ingest_assets(str(self.sources / "projects.csv"), str(self.sources / "tags.csv"), 30),
            build_transform_assets(self.project),
            build_dataset_asset(0.2),
        ]
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(assets, resources=resources, instance=instance, raise_on_error=False)
        events = [
            event.step_materialization_data.materialization
            for event in result.all_events
            if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION
        ]
        outcome: dict[str, Any] = {
            "success": result.success,
            "checks": {check.check_name: check.passed for check in result.get_asset_check_evaluations()},
            "versions": {
                event.asset_key.to_user_string(): (event.tags or {})["dagster/data_version"] for event in events
            },
            "rows": {name: self.warehouse.fetch_rows(f"select * from {name} order by all") for name in TABLES},
        }
        if result.success:
            version = outcome["versions"]["validated_dataset"]
            with self.datasets.view(version, "snapshot", "main") as connection:
                outcome["snapshot"] = connection.execute("select * from snapshot order by all").fetchall()
        return outcome


@pytest.fixture(scope="module")
def dbt_projects(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedProject]:
    folder = tmp_path_factory.mktemp("appended")
    return [
        prepared_project(
            DBT_PROJECT_DIR,
            folder / f"{name}-dbt",
            {"warehouse_path": str(folder / name / "warehouse.duckdb"), "schema_name": "mlops_course"},
        )
        for name in ("grown", "fresh")
    ]


def _write(folder: Path, projects: list[int], tags: list[tuple[int, str]]) -> None:
    rows = "".join(f"{key},2026-01-01,title {key},\n" for key in projects)
    (folder / "projects.csv").write_text(f"id,created_on,title,description\n{rows}")
    (folder / "tags.csv").write_text("id,tag\n" + "".join(f"{key},{tag}\n" for key, tag in tags))


def test_a_run_after_rows_were_appended_equals_a_run_in_an_empty_home(
    tmp_path: Path, dbt_projects: list[PreparedProject]
) -> None:
    projects, tags = list(range(1, 41)), [(key, CLASSES[key % 4]) for key in range(1, 31)]
    grown = Pipeline(dbt_projects[0], tmp_path)
    _write(tmp_path, projects, tags)
    first = grown.run()
    assert first["success"]
    assert grown.run() == first

    projects += [41, 42, 43]
    tags += [(41, "mlops"), (35, "other"), (36, "")]
    _write(tmp_path, projects, tags)
    second = grown.run()
    assert second["success"]
    assert second["versions"].keys() == first["versions"].keys()
    assert all(second["versions"][name] != version for name, version in first["versions"].items())
    assert second == Pipeline(dbt_projects[1], tmp_path).run()
    assert len(second["snapshot"]) == 32

    _write(tmp_path, [*projects, 7], tags)  # a second row of an id fails a test, in each run
    assert grown.run() == Pipeline(dbt_projects[1], tmp_path).run()
    assert not grown.run()["success"]
