"""The same rows through `end_to_end` on DuckDB and on BigQuery (the emulator): nothing that follows differs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mlops_platform.resources.factory import build_resources
from mlops_platform.settings import PROJECT_ROOT, SAMPLE_DIR, Settings
from mlops_platform_tests.conftest import run_mlops
from mlops_platform_tests.production.bigquery_emulator import PROJECT, Emulator

REAL_DATA = PROJECT_ROOT.parent / "shared" / "data" / "made_with_ml"
DATA = REAL_DATA if REAL_DATA.is_dir() else SAMPLE_DIR  # who has no copy of the real rows compares on the sample
TABLES = ("projects", "tags", "labeled_projects", "unlabeled_projects", "rejects")
DATASET = "parity"
DAMAGED = 50


class Side:
    """A platform on one of the warehouses, with its own home and sources."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.home, self.folder, self.settings = folder / "home", folder, settings
        folder.mkdir()
        for name in ("projects", "tags"):
            (folder / f"{name}.csv").write_bytes((DATA / f"{name}.csv").read_bytes())

    def _environment(self) -> dict[str, str]:
        sources = {f"MLOPS_{name.upper()}_URI": str(self.folder / f"{name}.csv") for name in ("projects", "tags")}
        return {**self.settings, **sources}

    def run(self) -> tuple[int, str]:
        answer = run_mlops(self.home, "run", **self._environment())
        return answer.returncode, answer.stdout + answer.stderr

    def state(self) -> dict[str, Any]:
        answer = run_mlops(self.home, "status", "--json", **self._environment())
        assert answer.returncode == 0, answer.stderr
        state = json.loads(answer.stdout)
        champion = state["champion"] or {"version": None, "metrics": {}}
        return {
            "versions": {name: each["data_version"] for name, each in state["assets"].items()},
            "checks": {name: each["checks"] for name, each in state["assets"].items()},
            "champion": champion["version"],
            "metrics": champion["metrics"],
        }

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        values = {name.removeprefix("MLOPS_").lower(): value for name, value in self.settings.items()}
        warehouse = build_resources(Settings(_env_file=None, **{**values, "home": self.home}))["warehouse"]  # type: ignore[arg-type]
        source_of_the_file = {"file"} if table == "rejects" else set()
        names = sorted({name for name, _ in warehouse.describe(table)} - source_of_the_file)
        return sorted(warehouse.fetch_rows(f"select {', '.join(names)} from {table}"), key=repr)

    def snapshots(self) -> dict[str, list[tuple[Any, ...]]]:
        return {
            path.name: duckdb.execute(f"from read_parquet('{path}')").fetchall()
            for path in sorted((self.home / "datasets").glob("*.parquet"))
        }


@pytest.fixture(scope="module")
def sides(bigquery_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    from google.cloud import bigquery

    folder = tmp_path_factory.mktemp("parity")
    there = bigquery_emulator.env(DATASET, folder / "bigquery" / "home")
    there.pop("MLOPS_HOME")
    with bigquery_emulator.client() as client:
        client.create_dataset(bigquery.Dataset(f"{PROJECT}.{DATASET}"), exists_ok=True)
        yield Side(folder / "duckdb", {}), Side(folder / "bigquery", there)
        client.delete_dataset(f"{PROJECT}.{DATASET}", delete_contents=True, not_found_ok=True)


def test_the_real_rows_give_the_same_tables_dataset_checks_and_metrics(sides: tuple[Side, Side]) -> None:
    for side in sides:
        code, printed = side.run()
        assert code == 0, printed
    here, there = sides
    for table in TABLES:
        assert here.rows(table) == there.rows(table), table
    assert len(here.rows("labeled_projects")) > 500
    ours, theirs = here.state(), there.state()
    assert ours["versions"]["validated_dataset"] is not None
    assert ours == theirs
    assert here.snapshots() == there.snapshots()


def test_damaged_rows_fail_the_same_checks(sides: tuple[Side, Side]) -> None:
    for side in sides:
        with (side.folder / "projects.csv").open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            for number in range(DAMAGED):
                key = ("no number", 900_000 + number, 900_000)[number % 3]
                made_on = ("2021-01-02 03:04:05", "someday", "")[number % 3]
                writer.writerow([key, made_on, "" if number % 4 == 0 else "The same title", "the same description"])
        code, printed = side.run()
        assert code == 1, printed
    here, there = (side.state() for side in sides)
    failed = {name for name, outcome in here["checks"]["projects"].items() if outcome == "failed"}
    assert {"no_rejected_rows", "reject_share_within_limit", "title_to_not_be_null"} <= failed
    assert here == there
    for table in ("projects", "rejects"):
        assert sides[0].rows(table) == sides[1].rows(table)
