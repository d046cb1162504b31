"""Which dbt project, target and variables the settings ask for.

This imports no Dagster unless the warehouse is BigQuery: what loads the graph calls it before all else.
"""

from __future__ import annotations

from mlops_platform.packages import require_packages
from mlops_platform.resources.dbt_manifest import Preparation
from mlops_platform.settings import DBT_PROJECT_DIR, Settings


def prepare_dbt(settings: Settings) -> Preparation:
    """Begin to make the manifest of the dbt project, if there is none that fits.

    Args:
        settings: Where the warehouse is, and where dbt may write.

    Returns:
        The preparation; leaving its block ends it.

    Raises:
        PlatformError: Packages of production are missing.
        TransformError: There is no project, or its folder cannot be written.
    """
    require_packages(settings)
    if settings.env == "production":
        from mlops_platform.resources.dbt_bigquery import bigquery_variables

        variables = bigquery_variables(settings) | merge_choices(settings)
        return Preparation(DBT_PROJECT_DIR, settings.home / "dbt", variables, "bigquery")
    variables = {"warehouse_path": str(settings.warehouse_path), "schema_name": settings.schema_name}
    return Preparation(DBT_PROJECT_DIR, settings.home / "dbt", variables, "duckdb")


def merge_choices(settings: Settings) -> dict[str, str]:
    """The variable that says from which size on a table is merged.

    Args:
        settings: Has the size.
    """
    return {"merge_above_mb": str(settings.dbt_merge_above_mb)}
