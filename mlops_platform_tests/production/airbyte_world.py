"""The platform with a double of Airbyte's server, and readers of a run's events, for the tests of the loader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_platform.assets.airbyte import build_airbyte_assets
from mlops_platform.checks.rejects import build_ingest_checks
from mlops_platform.resources.airbyte.workspace import Airbyte
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.settings import SAMPLE_DIR
from mlops_platform_tests.production.airbyte_double import (
    CONNECTIONS,
    AirbyteDouble,
    airbyte,
)

PROJECTS = CONNECTIONS["projects"]
META = (
    "uuid()::VARCHAR AS _airbyte_raw_id, now() AS _airbyte_extracted_at, "
    'json(\'{"sync_id": 1, "changes": []}\') AS _airbyte_meta, 1::BIGINT AS _airbyte_generation_id'
)


class World:
    """A server double that loads the sample into a warehouse, and the platform's side of it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.warehouse: Warehouse = DuckDBWarehouse(path=str(folder / "warehouse.duckdb"))
        self.double = AirbyteDouble(self.load)
        # how the destination writes: a table of its own, a time with its zone, Airbyte's columns
        self.target = "airbyte_{name}"
        self.rows = "true"  # a condition on the rows that the source has
        self.afterwards = ""  # SQL that the sync of projects also runs

    def load(self, name: str) -> int:
        table, path = self.target.format(name=name), SAMPLE_DIR / f"{name}.csv"
        typed = "REPLACE (created_on::TIMESTAMPTZ AS created_on)" if name == "projects" else ""
        self.warehouse.execute(
            f"CREATE OR REPLACE TABLE {table} AS SELECT {META}, * {typed} "
            f"FROM read_csv('{path}', header=true) WHERE {self.rows}"
        )
        if name == "projects" and self.afterwards:
            self.warehouse.execute(self.afterwards)
        return self.warehouse.row_count(table)

    def airbyte(self, **changes: Any) -> Airbyte:
        return airbyte(self.double, **changes)

    def materialize(self, checks: bool = True, **changes: Any) -> dg.ExecuteInProcessResult:
        assets = build_airbyte_assets(CONNECTIONS["projects"], CONNECTIONS["tags"])
        return dg.materialize(
            [*assets, *(build_ingest_checks(0.01) if checks else [])],
            resources={"warehouse": self.warehouse, "airbyte": self.airbyte(**changes)},
            raise_on_error=False,
        )

    @property
    def starts(self) -> int:
        return self.double.count("POST .*/jobs")

    @property
    def cancels(self) -> int:
        return self.double.count("DELETE .*")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.double.stop()


def metadata(result: dg.ExecuteInProcessResult, key: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(key)
    return {name: value.value for name, value in event.metadata.items()}


def failure(result: dg.ExecuteInProcessResult, key: str) -> str:
    (event,) = [event for event in result.get_step_failure_events() if event.step_key == key]
    data = event.step_failure_data
    assert data.user_failure_data is not None
    return str(data.user_failure_data.description)


def passed(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], bool]:
    return {
        (check.asset_key.to_user_string(), check.check_name): check.passed
        for check in result.get_asset_check_evaluations()
    }


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
