"""Tables that assets of a user take and return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from mlops_platform.build import build_definitions
from mlops_platform.errors import PlatformError, WarehouseError
from mlops_platform.resources.table_io_manager import TableIOManager
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.settings import Settings
from mlops_platform_tests.resources.table_assets import passes_tables_and_values


def test_tables_and_values_pass(tmp_path: Path) -> None:
    passes_tables_and_values(DuckDBWarehouse(path=str(tmp_path / "w.duckdb")), tmp_path)


def test_an_asset_beside_the_graph_takes_its_tables(tmp_path: Path) -> None:
    @dg.asset
    def mine(labeled_projects: pd.DataFrame, tags: pd.DataFrame) -> dict[str, int]:
        return {"labeled": len(labeled_projects), "tags": len(tags)}

    defs = build_definitions(Settings(home=tmp_path, _env_file=None))
    assets: list[Any] = list(defs.assets or [])
    names = ("projects", "tags", "labeled_projects", "unlabeled_projects", "mine")
    result = dg.materialize([*assets, mine], selection=list(names), resources=defs.resources)
    assert result.success
    assert result.output_for_node("mine") == {"labeled": 565, "tags": 565}


def test_a_table_that_is_missing_is_named(tmp_path: Path) -> None:
    @dg.asset
    def mine(labeled_projects: pd.DataFrame) -> None: ...

    warehouse = DuckDBWarehouse(path=str(tmp_path / "w.duckdb"))
    manager = TableIOManager(base_dir=str(tmp_path), warehouse=warehouse)
    with pytest.raises(WarehouseError, match=r"has no table mlops_course\.labeled_projects"):
        _run(mine, manager)


def test_a_partitioned_asset_does_not_replace_its_table(tmp_path: Path) -> None:
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    def parts() -> pd.DataFrame:
        return pd.DataFrame({"n": [1]})

    warehouse = DuckDBWarehouse(path=str(tmp_path / "w.duckdb"))
    manager = TableIOManager(base_dir=str(tmp_path), warehouse=warehouse)
    with pytest.raises(PlatformError, match=r"^Asset parts is partitioned"):
        _run(parts, manager, partition_key="a")
    assert not warehouse.has_table("parts")


def _run(asset: dg.AssetsDefinition, manager: TableIOManager, partition_key: str | None = None) -> None:
    specs = [dg.AssetSpec(key) for key in asset.dependency_keys]
    try:
        dg.materialize([*specs, asset], resources={"io_manager": manager}, partition_key=partition_key)
    except dg.DagsterError as error:
        raise error.__cause__ or error from None
