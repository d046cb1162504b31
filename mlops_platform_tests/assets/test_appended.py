"""From grown files to a grown snapshot: after each run all is what one run over the same files makes of it."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from mlops_platform.assets.dataset import build_dataset_asset
from mlops_platform.assets.ingest import build_ingest_assets
from mlops_platform.assets.transform import build_transform_assets
from mlops_platform.resources import datasets as store
from mlops_platform.resources.datasets import DatasetStore
from mlops_platform.resources.dbt import DbtRunner
from mlops_platform.resources.dbt_manifest import PreparedProject
from mlops_platform.resources.warehouse import DuckDBWarehouse
from mlops_platform.settings import DBT_PROJECT_DIR
from mlops_platform_tests.dbt_projects import prepared_project

TABLES = ("projects", "tags", "labeled_projects", "unlabeled_projects")
NEVER = 10**9
CLASSES = ("mlops", "other", "computer-vision", "natural-language-processing")


class Pipeline:
    """Ingest, dbt and dataset in a warehouse of their own."""

    def __init__(self, project: PreparedProject, sources: Path, append_above: int) -> None:
        self.project, path = project, Path(project.variables["warehouse_path"])
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        self.warehouse = DuckDBWarehouse(path=str(path), schema_name="mlops_course", append_above_rows=append_above)
        self.datasets = DatasetStore(base_dir=str(path.parent / "datasets"))
        self.assets = [
            *build_ingest_assets(str(sources / "projects.csv"), str(sources / "tags.csv"), 30),
            build_transform_assets(self.project),
            build_dataset_asset(0.2),
        ]
        self.sql: dict[str, str] = {}
        self.version = ""

    def run(self, config: dict[str, Any] | None = None) -> dict[str, Any]:
        """Materialize all; what can be told of it without naming the tables' places."""
        resources = {
            "warehouse": self.warehouse,
            "datasets": self.datasets,
            "dbt": DbtRunner.of(self.project),
        }
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                self.assets, resources=resources, instance=instance, raise_on_error=False, run_config=config
            )
        made = {
            event.asset_key.to_user_string(): event
            for each in result.all_events
            if each.event_type_value == "ASSET_MATERIALIZATION"
            for event in [each.step_materialization_data.materialization]
        }
        self.sql = {name: str(event.metadata["sql"].value) for name, event in made.items() if "sql" in event.metadata}
        self.version = str((made["validated_dataset"].tags or {})["dagster/data_version"]) if result.success else ""
        checks = {
            each.check_name: (each.passed, each.metadata["failing_rows"].value)
            for each in result.get_asset_check_evaluations()
        }
        versions = {name: (event.tags or {})["dagster/data_version"] for name, event in made.items()}
        rows = {name: self.warehouse.fetch_rows(f"select * from {name} order by all") for name in TABLES}
        snapshot = self.snapshot() if self.version else []
        return {"success": result.success, "checks": checks, "versions": versions, "rows": rows, "snapshot": snapshot}

    def snapshot(self) -> list[tuple[Any, ...]]:
        with self.datasets.view(self.version, "snapshot", "main") as connection:
            return connection.execute("select * from snapshot order by all").fetchall()

    @property
    def appended(self) -> set[str]:
        """The models that the last run appended to."""
        return {name for name, sql in self.sql.items() if "-- merge:" in sql}


class World:
    """Two files that grow, a pipeline that appends and one that never does."""

    def __init__(self, folder: Path, projects: list[PreparedProject]) -> None:
        self.sources = folder
        self.projects, self.tags = "id,created_on,title,description\n", "id,tag\n"
        self.growing = Pipeline(projects[0], folder, 1)
        self.whole = Pipeline(projects[1], folder, NEVER)

    def add(self, projects: list[object], tags: list[tuple[object, str]]) -> None:
        self.projects += "".join(f"{each},2026-01-01,title {each},\n" for each in projects)
        self.tags += "".join(f"{each},{tag}\n" for each, tag in tags)

    def write(self) -> None:
        (self.sources / "projects.csv").write_text(self.projects)
        (self.sources / "tags.csv").write_text(self.tags)

    def run(self, config: dict[str, Any] | None = None) -> None:
        """Run both, which must tell the same."""
        self.write()
        assert self.growing.run(config) == self.whole.run()
        assert self.whole.appended == set()


@pytest.fixture(scope="module")
def dbt_projects(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedProject]:
    folder = tmp_path_factory.mktemp("appended")
    return [
        prepared_project(
            DBT_PROJECT_DIR,
            folder / f"{name}-dbt",
            {"warehouse_path": str(folder / name / "warehouse.duckdb"), "schema_name": "mlops_course"},
        )
        for name in ("growing", "whole")
    ]


@pytest.fixture
def world(tmp_path: Path, dbt_projects: list[PreparedProject]) -> World:
    world = World(tmp_path, dbt_projects)
    world.add(list(range(1, 41)), [(each, CLASSES[each % 4]) for each in range(1, 31)])
    world.run()
    assert world.growing.appended == set()
    return world


def test_what_comes_is_appended_and_what_is_labeled_moves(world: World) -> None:
    first = world.growing.version
    world.add([41, 42, 43], [(41, "mlops"), (35, "other"), (36, ""), (99, "mlops")])
    world.run()
    assert world.growing.appended == {"labeled_projects", "unlabeled_projects"}
    path = world.growing.datasets.path(world.growing.version)
    assert [file.name for file in world.growing.datasets.files(world.growing.version)] == [
        "0000.parquet",
        "0001.parquet",
    ]
    assert (path / "0000.parquet").samefile(world.growing.datasets.path(first))
    # its project comes after the tag, and a label for what an earlier run has left unlabeled
    world.add([99], [(36, "mlops")])
    world.run()
    assert world.growing.appended == {"labeled_projects", "unlabeled_projects"}
    world.run()
    assert world.growing.appended == {"labeled_projects", "unlabeled_projects"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("projects", "tags"),
    [
        ([7], []),  # an id that is there
        ([""], []),
        ([], [(3, "mlops")]),  # a second tag of a project
        ([50], [(50, "cooking")]),
        ([51, 51], [(51, "mlops")]),
        ([], [("", "mlops")]),
    ],
)
def test_a_test_that_new_rows_fail_fails_as_in_a_whole_build_and_still_does_in_the_next_run(
    world: World, projects: list[object], tags: list[tuple[object, str]]
) -> None:
    world.add(projects, tags)
    world.run()
    world.add([60], [(60, "mlops")])
    world.run()


def test_a_build_that_was_not_remembered_is_not_trusted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # one row leaves unlabeled_projects and one comes: their number tells nothing
    world.add([41], [(35, "mlops")])
    world.write()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken off")

    with monkeypatch.context() as patch:
        patch.setattr(DuckDBWarehouse, "remember_built", fail)
        assert not world.growing.run()["success"]
    world.run()


@pytest.mark.long
def test_random_growth(world: World) -> None:
    draw = random.Random(7)  # noqa: S311
    for _ in range(5):
        ids = [draw.randrange(1, 120) if draw.random() < 0.1 else draw.randrange(200, 900) for _ in range(9)]
        tagged = [(draw.randrange(1, 900), draw.choice((*CLASSES, ""))) for _ in range(9)]
        world.add(list(ids), [*tagged, *((each, draw.choice(CLASSES)) for each in ids[:5])])
        world.run()


@pytest.mark.long
def test_a_full_refresh_builds_whole_and_growth_goes_on_from_there(world: World) -> None:
    world.add([41], [(41, "mlops")])
    world.run({"ops": {"transform": {"config": {"full_refresh": True}}}})
    assert world.growing.appended == set()
    world.add([42], [(42, "mlops")])
    world.run()
    assert world.growing.appended == {"labeled_projects", "unlabeled_projects"}


@pytest.mark.long
@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_another_program_has_changed_is_made_whole(world: World, table: str) -> None:
    with duckdb.connect(world.growing.warehouse.path) as connection:
        connection.execute(f"update mlops_course.{table} set id = id + 1000 where id % 5 = 0")
    world.add([41], [(41, "mlops")])
    world.run()
    raw = table in ("projects", "tags")
    assert world.growing.appended == (set() if raw else {"labeled_projects", "unlabeled_projects"} - {table})


@pytest.mark.long
@pytest.mark.parametrize("table", ["labeled_projects", "unlabeled_projects"])
def test_a_model_that_is_gone_is_built_whole(world: World, table: str) -> None:
    world.growing.warehouse.execute(f"drop table {table}")
    world.add([41], [(41, "mlops")])
    world.run()
    assert world.growing.appended == {"labeled_projects", "unlabeled_projects"} - {table}


@pytest.mark.long
def test_a_snapshot_whose_forerunner_is_damaged_or_gone_is_written_whole(world: World) -> None:
    old = world.growing.datasets.path(world.growing.version)
    old.write_bytes(old.read_bytes()[:-9])
    world.add([41], [(41, "mlops")])
    world.run()
    assert len(world.growing.datasets.files(world.growing.version)) == 1
    world.growing.datasets.path(world.growing.version).unlink()
    world.add([42], [(42, "mlops")])
    world.run()
    assert len(world.growing.datasets.files(world.growing.version)) == 1


@pytest.mark.long
def test_a_part_that_is_damaged_is_healed_by_the_next_run(world: World) -> None:
    world.add([41], [(41, "mlops")])
    world.run()
    part = world.growing.datasets.files(world.growing.version)[1]
    part.write_bytes(part.read_bytes()[:40])
    world.run()
    assert len(world.growing.datasets.files(world.growing.version)) == 1


@pytest.mark.long
def test_without_hard_links_the_files_are_copied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    world.add([41], [(41, "mlops")])
    world.run()
    assert len(world.growing.datasets.files(world.growing.version)) == 2


@pytest.mark.long
def test_a_snapshot_has_no_more_parts_than_so_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_PARTS", 3)
    counts = []
    for number in range(41, 44):
        world.add([number], [(number, "mlops")])
        world.run()
        counts.append(len(world.growing.datasets.files(world.growing.version)))
    assert counts == [2, 3, 3]  # the last one continues the one before


@pytest.mark.long
def test_a_kill_while_parts_are_put_together_leaves_no_snapshot_and_the_next_run_makes_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add([41], [(41, "mlops")])
    world.write()
    left = Path(world.growing.datasets.base_dir) / ".left.parquet.parts"  # by a process that was killed
    left.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError("full")))
        assert not world.growing.run()["success"]
    assert not any(path.name.startswith(".") for path in Path(world.growing.datasets.base_dir).iterdir())
    world.run()
    assert len(world.growing.datasets.files(world.growing.version)) == 2
