"""Tables that assets of a user take and return, on BigQuery."""

from __future__ import annotations

from pathlib import Path

from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform_tests.resources.table_assets import passes_tables_and_values


def test_tables_and_values_pass(bigquery: BigQueryWarehouse, tmp_path: Path) -> None:
    passes_tables_and_values(bigquery, tmp_path)
