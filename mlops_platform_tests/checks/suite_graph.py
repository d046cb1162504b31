"""A table, the checks of its suite and what comes downstream: a graph that is small, of the real parts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.checks.expectations import suite_checks
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.json_io_manager import JsonValues
from mlops_platform.resources.validation.resource import ExpectationsEngine
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.settings import GX_ROOT_DIR
from mlops_platform_tests.checks.corruptions import TABLES

VERSION = "v1"


@dataclass
class Ran:
    """A run of: table -> checks -> what comes downstream."""

    result: dg.ExecuteInProcessResult
    downstream: list[str] = field(default_factory=list)

    @property
    def checks(self) -> dict[str, dg.AssetCheckEvaluation]:
        return {each.check_name: each for each in self.result.get_asset_check_evaluations()}

    @property
    def failed(self) -> set[str]:
        return {name for name, each in self.checks.items() if not each.passed}

    @property
    def sentence(self) -> str:
        """What the failed step says."""
        (event,) = (each for each in self.result.all_events if each.is_step_failure)
        failure = event.step_failure_data.user_failure_data
        assert failure is not None
        assert failure.description is not None
        return failure.description


class Graph:
    """A table, the checks of its suite and an asset downstream, on a warehouse (by default one of their own)."""

    def __init__(self, home: Path, warehouse: Warehouse | None = None) -> None:
        self.home = home
        self.warehouse = warehouse or DuckDBWarehouse(path=str(home / "warehouse.duckdb"))
        self.datasets = DatasetStore(base_dir=str(home / "datasets"))
        self.expectations = ExpectationsEngine(docs_dir=str(home / "docs"), docs_url="http://127.0.0.1:3080")
        self.resources = {
            "warehouse": self.warehouse,
            "expectations": self.expectations,
            "datasets": self.datasets,
            "io_manager": JsonValues(base_dir=str(home / "values")),
        }

    def fill(self, table: str, corruption: str = "select 1") -> None:
        self.warehouse.execute(f"create table {table} as {TABLES[table]}")
        self.warehouse.execute(corruption.format(table=table))

    def run(
        self, suite: str, *, snapshot: bool = False, root: Path = GX_ROOT_DIR, only: list[str] | None = None
    ) -> Ran:
        asset = "validated_dataset" if snapshot else suite
        downstream: list[str] = []

        @dg.asset(name=asset)
        def upstream() -> dict[str, str]:
            if snapshot:
                self.warehouse.export_parquet(f"select * from {suite} order by id", self.datasets.path(VERSION))
            return {"version": VERSION}

        @dg.asset(deps=[asset])
        def next_stage() -> None:
            downstream.append(asset)

        checks = suite_checks(suite, asset, snapshot=snapshot, root=root)
        chosen = [dg.AssetCheckKey(dg.AssetKey(asset), name) for name in only or ()]
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [upstream, next_stage, checks],
                resources=self.resources,
                instance=instance,
                selection=dg.AssetSelection.checks(*chosen) if chosen else None,
                raise_on_error=False,
            )
        return Ran(result, downstream)


def suite_in(root: Path, *rules: dict[str, Any]) -> Path:
    """Write a suite `tags` of these rules into a folder of its own."""
    path = root / "suites" / "expectations" / "tags.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"name": "tags", "expectations": rules}), encoding="utf-8")
    return path.parent.parent
