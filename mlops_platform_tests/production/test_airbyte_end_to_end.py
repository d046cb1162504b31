"""`mlops run` with Airbyte (a double) as loader and BigQuery (the emulator) as warehouse: the whole graph."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_platform.resources.factory import build_resources
from mlops_platform.settings import SAMPLE_DIR, Settings
from mlops_platform_tests.conftest import run_mlops
from mlops_platform_tests.production.airbyte_double import (
    CLIENT_ID,
    CLIENT_SECRET,
    CONNECTIONS,
    WORKSPACE,
    AirbyteDouble,
)
from mlops_platform_tests.production.bigquery_emulator import PROJECT, Emulator

TABLES = ("projects", "tags", "labeled_projects", "unlabeled_projects", "rejects")
DATASETS = {"airbyte": "through_airbyte", "csv": "through_csv"}
META = {
    "_airbyte_raw_id": "STRING",
    "_airbyte_extracted_at": "TIMESTAMP",
    "_airbyte_meta": "JSON",
    "_airbyte_generation_id": "INTEGER",
}
KINDS = {"projects": {"id": "INTEGER", "created_on": "TIMESTAMP"}, "tags": {"id": "INTEGER"}}


class Platform:
    """A production platform with its own dataset and home."""

    def __init__(self, emulator: Emulator, loader: str, home: Path, **settings: str) -> None:
        self.home = home
        self.settings = {**emulator.env(DATASETS[loader], home), "MLOPS_LOADER": loader, **settings}
        self.settings.pop("MLOPS_HOME")

    def run(self) -> subprocess.CompletedProcess[str]:
        return run_mlops(self.home, "run", **self.settings)

    def assets(self) -> dict[str, Any]:
        answer = run_mlops(self.home, "status", "--json", **self.settings)
        assert answer.returncode == 0, answer.stderr
        assets: dict[str, Any] = json.loads(answer.stdout)["assets"]
        return assets

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        values = {name.removeprefix("MLOPS_").lower(): value for name, value in self.settings.items()}
        warehouse = build_resources(Settings(_env_file=None, **{**values, "home": self.home}))["warehouse"]  # type: ignore[arg-type]
        names = sorted(name for name, _ in warehouse.describe(table))
        return sorted(warehouse.fetch_rows(f"select {', '.join(names)} from {table}"), key=repr)


def _load(emulator: Emulator, name: str) -> int:
    """Write a table as Airbyte's destination does: a full refresh, with its own columns beside the data."""
    from google.cloud import bigquery

    with (SAMPLE_DIR / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    kinds = {**META, **{column: KINDS[name].get(column, "STRING") for column in rows[0]}}
    for number, row in enumerate(rows):
        row |= {
            "_airbyte_raw_id": f"{name}-{number}",
            "_airbyte_extracted_at": "2026-01-31T12:00:00Z",
            "_airbyte_meta": {"sync_id": 1, "changes": []},
            "_airbyte_generation_id": 1,
        }
    config = bigquery.LoadJobConfig(
        schema=[bigquery.SchemaField(column, kind) for column, kind in kinds.items()],
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
    )
    with emulator.client() as client:
        client.load_table_from_json(rows, f"{PROJECT}.{DATASETS['airbyte']}.airbyte_{name}", job_config=config).result()
    return len(rows)


@pytest.fixture(scope="module")
def double(bigquery_emulator: Emulator) -> Iterator[AirbyteDouble]:
    double = AirbyteDouble(lambda name: _load(bigquery_emulator, name))
    yield double
    double.stop()


@pytest.fixture(scope="module")
def airbyte(
    bigquery_emulator: Emulator, double: AirbyteDouble, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    from google.cloud import bigquery

    with bigquery_emulator.client() as client:
        for dataset in DATASETS.values():
            client.create_dataset(bigquery.Dataset(f"{PROJECT}.{dataset}"), exists_ok=True)
        yield Platform(
            bigquery_emulator,
            "airbyte",
            tmp_path_factory.mktemp("airbyte") / "home",
            MLOPS_AIRBYTE_URL=double.url,
            MLOPS_AIRBYTE_WORKSPACE_ID=WORKSPACE,
            MLOPS_AIRBYTE_CLIENT_ID=CLIENT_ID,
            MLOPS_AIRBYTE_CLIENT_SECRET=CLIENT_SECRET,
            MLOPS_AIRBYTE_PROJECTS_CONNECTION=CONNECTIONS["projects"],
            MLOPS_AIRBYTE_TAGS_CONNECTION=CONNECTIONS["tags"],
            MLOPS_AIRBYTE_POLL_INTERVAL="0.1",
        )
        for dataset in DATASETS.values():
            client.delete_dataset(f"{PROJECT}.{dataset}", delete_contents=True, not_found_ok=True)


def test_the_same_rows_by_csv_and_by_airbyte_give_the_same_graph(
    airbyte: Platform, bigquery_emulator: Emulator, tmp_path: Path
) -> None:
    by_csv = Platform(bigquery_emulator, "csv", tmp_path / "home")
    for platform in (airbyte, by_csv):
        answer = platform.run()
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert CLIENT_SECRET not in answer.stdout + answer.stderr
    for table in TABLES:
        assert airbyte.rows(table) == by_csv.rows(table), table
    assert len(airbyte.rows("projects")) > 100
    here, there = airbyte.assets(), by_csv.assets()
    for name, asset in here.items():
        assert asset["data_version"] == there[name]["data_version"], name
        assert asset["checks"] == there[name]["checks"], name
    assert {outcome for name in ("projects", "tags") for outcome in here[name]["checks"].values()} == {"passed"}


def test_the_job_and_its_figures_are_on_the_asset(airbyte: Platform, double: AirbyteDouble) -> None:
    with dg.DagsterInstance.from_config(str(airbyte.home / "dagster")) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("projects"))
    assert event is not None
    assert event.asset_materialization is not None
    shown = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    (job,) = [job for job in double.jobs.values() if job.number == shown["airbyte_job_id"]]
    assert job.connection == CONNECTIONS["projects"]
    assert (shown["airbyte_rows"], shown["airbyte_bytes"]) == (job.rows, 100 * (job.rows or 0))
    assert shown["dagster/row_count"] == len(airbyte.rows("projects"))
    assert str(job.number) in str(shown["airbyte_job"])


def test_a_second_run_with_the_same_rows_changes_no_version(airbyte: Platform) -> None:
    before = airbyte.assets()
    answer = airbyte.run()
    assert answer.returncode == 0, answer.stdout + answer.stderr
    after = airbyte.assets()
    assert {name: asset["data_version"] for name, asset in after.items()} == {
        name: asset["data_version"] for name, asset in before.items()
    }


def test_a_sync_that_fails_ends_the_command_and_leaves_the_tables(airbyte: Platform, double: AirbyteDouble) -> None:
    before = {table: airbyte.rows(table) for table in TABLES}
    double.script = ["running", "failed"]
    try:
        answer = airbyte.run()
    finally:
        double.script = ["pending", "running", "succeeded"]
    printed = answer.stdout + answer.stderr
    assert answer.returncode == 1, printed
    assert "did not sync connection" in printed
    assert "Job failed" in printed
    assert "Traceback" not in printed
    assert {table: airbyte.rows(table) for table in TABLES} == before
