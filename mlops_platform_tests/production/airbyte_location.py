"""A code location of the Airbyte assets alone, for tests that run it in a subprocess."""

from __future__ import annotations

import dagster as dg

from mlops_platform.assets.airbyte import build_airbyte_assets
from mlops_platform.checks.rejects import build_ingest_checks
from mlops_platform.resources.airbyte.workspace import Airbyte
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.settings import Settings

settings = Settings()
defs = dg.Definitions(
    assets=build_airbyte_assets(settings.airbyte_projects_connection, settings.airbyte_tags_connection),
    asset_checks=build_ingest_checks(settings.max_reject_share),
    jobs=[dg.define_asset_job("load")],
    resources={"airbyte": Airbyte.of(settings), "warehouse": DuckDBWarehouse(path=str(settings.warehouse_path))},
    executor=dg.in_process_executor,
)
