"""Assets that a user adds downstream of a table; the same are run against both warehouses."""

from __future__ import annotations

import datetime
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa

from mlops_platform.resources.table_io_manager import TableIOManager
from mlops_platform.resources.warehouse.base import Warehouse


def rows(folder: Path) -> Path:
    """Write a Parquet file of three labeled projects."""
    file = folder / "labeled.parquet"
    created_on = [datetime.datetime(2026, 1, day, 12) for day in (1, 2, 3)]
    frame = pd.DataFrame({"id": [1, 2, 3], "created_on": created_on, "tag": ["mlops", "other", "mlops"]})
    frame.to_parquet(file, index=False, coerce_timestamps="us")
    return file


def passes_tables_and_values(warehouse: Warehouse, folder: Path) -> None:
    """Run assets that take a table as pandas and as Arrow, and return a data frame and a small value."""
    warehouse.replace_rows("labeled_projects", rows(folder), {})

    @dg.asset
    def newest(labeled_projects: pd.DataFrame) -> pd.DataFrame:
        assert labeled_projects["created_on"].dt.hour.tolist() == [12, 12, 12]
        return labeled_projects.groupby("tag", as_index=False)[["created_on"]].max()

    @dg.asset
    def summary(labeled_projects: pa.Table, newest) -> dict[str, int]:  # type: ignore[no-untyped-def]
        return {"rows": labeled_projects.num_rows, "classes": len(newest)}

    @dg.asset
    def after(summary: dict[str, int]) -> None:
        assert summary == {"rows": 3, "classes": 2}

    values = folder / "values"
    for _ in range(2):
        result = dg.materialize(
            [dg.AssetSpec("labeled_projects"), newest, summary, after],
            resources={"io_manager": TableIOManager(base_dir=str(values), warehouse=warehouse)},
        )
        assert result.success
    assert warehouse.describe("newest") == [("tag", "VARCHAR"), ("created_on", "TIMESTAMP")]
    assert warehouse.fetch_rows("SELECT * FROM newest ORDER BY tag") == [
        ("mlops", datetime.datetime(2026, 1, 3, 12)),
        ("other", datetime.datetime(2026, 1, 2, 12)),
    ]
    assert [file.name for file in values.iterdir()] == ["summary.json"]
