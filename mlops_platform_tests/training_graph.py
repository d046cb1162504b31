"""The training part of the graph over some of the sample's rows, in a home that costs each test a copy only."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from filelock import FileLock

from mlops_platform.assets.dataset import STREAM_ABOVE_ROWS, build_dataset_asset
from mlops_platform.assets.evaluation import model_evaluation
from mlops_platform.assets.promotion import build_deployment_asset
from mlops_platform.assets.training import build_training_asset
from mlops_platform.assets.tuning import build_tuning_asset
from mlops_platform.cli.run_progress import failure_sentence
from mlops_platform.ml.training_data.resampling import Recipe
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.factory import build_resources
from mlops_platform.resources.registry.model_registry import MlflowTracking
from mlops_platform.resources.study_store import StudyStore
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.settings import SAMPLE_DIR, Settings

ROWS = 240
TEST_SHARE = 0.35
MIN_F1 = 0.3
LATTER = ("trained_model", "model_evaluation", "champion_model")
# the model that `trained` holds, and another that is as good within noise; both are fast to fit and to load
FIRST = {"alpha": 1.0, "word_ngram_max": 1, "char_ngram_max": 3, "min_df": 1, "char_weight": 1.0}
SMALL = {**FIRST, "char_ngram_max": 2, "classifier": "ridge"}
# so few features that it beats the majority and loses significantly against `trained`
WORSE = {**SMALL, "min_df": 30}


class Run:
    """What came of a materialization."""

    def __init__(self, result: dg.ExecuteInProcessResult) -> None:
        self.result = result
        self.success = result.success

    @property
    def failure(self) -> str:
        """The sentence of the one step that failed; only a `dg.Failure` without retries is one."""
        (event,) = [e for e in self.result.all_events if e.event_type is dg.DagsterEventType.STEP_FAILURE]
        stated = event.step_failure_data.user_failure_data
        assert stated is not None, event.step_failure_data.error
        assert stated.description
        return failure_sentence(event).removeprefix(f"{event.step_key}: ")

    def _materialization(self, name: str) -> Any:
        (event,) = self.result.asset_materializations_for_node(name)
        return event

    def metadata(self, name: str) -> dict[str, Any]:
        """Metadata of an asset's materialization, as plain values."""
        return {key: each.value for key, each in self._materialization(name).metadata.items()}

    def table(self, name: str, key: str) -> list[dict[str, Any]]:
        """Rows of a table in an asset's metadata."""
        return [dict(each.data) for each in self._materialization(name).metadata[key].records]

    def data_version(self, name: str) -> str:
        """Data version of an asset's materialization."""
        return str(self._materialization(name).tags["dagster/data_version"])


class TrainingHome:
    """A home with labeled projects, in which the assets of the training part run one by one."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.home = home
        self.settings = Settings(home=home, schema_name="raw", lock_timeout=5.0, **settings)
        self.resources = build_resources(self.settings)
        self.warehouse: DuckDBWarehouse = self.resources["warehouse"]
        self.datasets: DatasetStore = self.resources["datasets"]
        self.studies: StudyStore = self.resources["studies"]
        self.tracking: MlflowTracking = self.resources["tracking"]

    def run(
        self,
        *names: str,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        min_f1: float = MIN_F1,
        test_share: float = TEST_SHARE,
        recipe: Recipe = Recipe(),  # noqa: B008 - frozen
        stream_above_rows: int = STREAM_ABOVE_ROWS,
    ) -> Run:
        """Materialize these assets in a run of their own."""
        assets = [
            build_dataset_asset(test_share, stream_above_rows),
            build_tuning_asset(1),
            build_training_asset(recipe),
            model_evaluation,
            build_deployment_asset(min_f1),
        ]
        with dg.DagsterInstance.ephemeral() as instance:
            return Run(
                dg.materialize(
                    assets,
                    selection=list(names),
                    resources=self.resources,
                    instance=instance,
                    run_config={"ops": {name: {"config": dict(each)} for name, each in (config or {}).items()}},
                    raise_on_error=False,
                )
            )

    def value(self, name: str) -> dict[str, Any]:
        """The latest value of an asset."""
        found: dict[str, Any] = json.loads((self.settings.values_dir / f"{name}.json").read_text(encoding="utf-8"))
        return found

    def put(self, name: str, **changes: Any) -> None:
        """Change the latest value of an asset, as its next materialization could."""
        self.put_value(name, self.value(name) | changes)

    def put_value(self, name: str, value: dict[str, Any]) -> None:
        """Set the latest value of an asset."""
        path = self.settings.values_dir / f"{name}.json"
        path.write_text(json.dumps(value), encoding="utf-8")

    def snapshot(self) -> Path:
        """The Parquet file of the current dataset."""
        return self.datasets.path(self.value("validated_dataset")["version"])

    def client(self) -> Any:
        """MLflow's own client of the store."""
        from mlflow import MlflowClient

        return MlflowClient(self.settings.tracking_uri)

    def model_dir(self, version: str) -> Path:
        """The folder that holds the files of a model version."""
        mlmodels = [path for path in self.settings.mlflow_dir.rglob("MLmodel") if path.is_file()]
        run_id = self.tracking.version(version).run_id
        (found,) = [path.parent for path in mlmodels if run_id in path.read_text(encoding="utf-8")]
        return found


def _make(home: Path) -> None:
    """A warehouse with rows of the sample, an empty MLflow store and an empty study storage."""
    made = TrainingHome(home)
    made.warehouse.execute(
        "create table labeled_projects as select p.id::bigint as id, created_on::timestamp as created_on, title, "
        f"description, tag from read_csv('{SAMPLE_DIR / 'projects.csv'}') p "
        f"join read_csv('{SAMPLE_DIR / 'tags.csv'}') t using (id) order by id limit {ROWS}"
    )
    made.tracking.experiment("baselines")
    made.studies.open("optimization")


def _copied(source: Path, target: Path) -> TrainingHome:
    """Copy a home; MLflow keeps absolute addresses of its artifacts, so these move with it."""
    shutil.copytree(source, target)
    old, new = source.as_uri(), target.as_uri()
    with closing(sqlite3.connect(target / "mlflow" / "mlflow.db")) as store, store:
        for (table,) in store.execute("select name from sqlite_master where type = 'table'").fetchall():
            for _, column, kind, *_ in store.execute(f"pragma table_info({table})").fetchall():
                if kind.upper().startswith(("VARCHAR", "TEXT")):
                    store.execute(
                        f'update {table} set "{column}" = replace("{column}", ?, ?) where "{column}" like ?',
                        [old, new, f"%{old}%"],
                    )
    for path in target.rglob("MLmodel"):
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    return TrainingHome(target)


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Make a folder once in a test session, whichever worker comes first."""
    shared = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    with FileLock(shared / f"{name}.lock"):
        if not (shared / f"{name}.made").exists():
            make(shared / name)
            (shared / f"{name}.made").touch()
    return shared / name


@pytest.fixture(scope="session")
def untouched_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labeled projects and empty stores; only to be copied."""
    return _once(tmp_path_factory, "fresh-home", _make)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory, untouched_home: Path) -> TrainingHome:
    """A home in which the training part ran once: version 1 is the champion. Tests only read it."""

    def train(target: Path) -> None:
        home = _copied(untouched_home, target)
        ran = home.run("validated_dataset", "tuned_params")
        assert ran.success, ran.failure
        home.put("tuned_params", params=FIRST)
        ran = home.run(*LATTER)
        assert ran.success, ran.failure

    return TrainingHome(_once(tmp_path_factory, "trained-home", train))


@pytest.fixture
def fresh(untouched_home: Path, tmp_path: Path) -> TrainingHome:
    """A home of the test's own with labeled projects, in a path that is no plain ASCII."""
    return _copied(untouched_home, tmp_path / "home für tests")


@pytest.fixture
def trained(trained_once: TrainingHome, tmp_path: Path) -> TrainingHome:
    """A home of the test's own in which the training part ran once: version 1 is the champion."""
    return _copied(trained_once.home, tmp_path / "home für tests")
