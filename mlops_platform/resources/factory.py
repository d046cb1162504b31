"""All resources of the graph, built from the settings; what the settings mean belongs to each resource."""

from typing import Any

from mlops_platform.optional_dependencies import require_production_packages
from mlops_platform.resources.airbyte.workspace import Airbyte
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.datasets.evaluation_set_store import EvaluationSetStore
from mlops_platform.resources.dbt.bigquery_profile import bigquery_secrets, bigquery_variables
from mlops_platform.resources.dbt.manifest import PreparedProject, prepare_project
from mlops_platform.resources.dbt.runner import Dbt, DbtRunner
from mlops_platform.resources.encoders.encoder_store import EncoderStore
from mlops_platform.resources.registry.model_registry import MlflowTracking
from mlops_platform.resources.study_store import StudyStore
from mlops_platform.resources.table_io_manager import TableIOManager
from mlops_platform.resources.validation.resource import ExpectationsEngine
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.bigquery.credentials import BigQueryKey
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.settings import DBT_PROJECT_DIR, DbtSettings, RegistrySettings, Settings, WarehouseSettings


def dbt_project(settings: DbtSettings) -> PreparedProject:
    """Return the dbt project for the warehouse of the settings, with its manifest."""
    require_production_packages(settings)
    if settings.env == "production":
        return prepare_project(DBT_PROJECT_DIR, settings.home / "dbt", bigquery_variables(settings), "bigquery")
    variables = {"warehouse_path": str(settings.warehouse_path), "schema_name": settings.schema_name}
    return prepare_project(DBT_PROJECT_DIR, settings.home / "dbt", variables, "duckdb")


def dbt_resource(settings: DbtSettings, project: PreparedProject) -> Dbt:
    """Return the resource that runs dbt, here or in dbt Cloud."""
    if settings.dbt_runner == "cloud":
        from mlops_platform.resources.dbt.cloud import dbt_cloud_runner

        return dbt_cloud_runner(settings)
    secrets = bigquery_secrets(settings.bigquery_credentials if settings.env == "production" else None)
    return DbtRunner(options=project.options, secrets=secrets)


def duckdb_warehouse(settings: WarehouseSettings) -> DuckDBWarehouse:
    """Return the embedded warehouse."""
    return DuckDBWarehouse(
        path=str(settings.warehouse_path),
        schema_name=settings.schema_name,
        lock_timeout=settings.lock_timeout,
        memory_mb=settings.duckdb_memory_mb,
        compress_texts=settings.duckdb_compress,
    )


def bigquery_warehouse(settings: WarehouseSettings) -> BigQueryWarehouse:
    """Return the warehouse of production."""
    return BigQueryWarehouse(
        project=settings.bigquery_project,
        schema_name=settings.schema_name,
        location=settings.bigquery_location,
        key=BigQueryKey(settings.bigquery_credentials, settings.bigquery_keyfile),
        endpoint=settings.bigquery_endpoint,
        storage_endpoint=settings.bigquery_storage_endpoint,
        timeout=settings.bigquery_timeout,
        max_bytes=settings.bigquery_max_bytes,
    )


def build_warehouse(settings: WarehouseSettings) -> Warehouse:
    """Return the warehouse of the environment."""
    return bigquery_warehouse(settings) if settings.env == "production" else duckdb_warehouse(settings)


def build_registry(settings: RegistrySettings) -> MlflowTracking:
    """Return the model registry."""
    return MlflowTracking(
        tracking_uri=settings.tracking_uri, store_dir=str(settings.mlflow_dir), ui_url=settings.mlflow_url
    )


def build_resources(settings: Settings) -> dict[str, Any]:
    """Return the resources of the graph by key, except `dbt`; none opens a connection before its first use."""
    resources: dict[str, Any] = {
        "warehouse": build_warehouse(settings),
        "expectations": ExpectationsEngine(docs_dir=str(settings.data_docs_dir), docs_url=settings.data_docs_url),
        "datasets": DatasetStore(base_dir=str(settings.datasets_dir), memory_mb=settings.duckdb_memory_mb),
        "encoders": EncoderStore(
            features=settings.features, model=settings.sentence_model, base_dir=str(settings.encoders_dir)
        ),
        "evaluation_sets": EvaluationSetStore(base_dir=str(settings.evaluation_sets_dir)),
        "studies": StudyStore(url=settings.optuna_storage),
        "tracking": build_registry(settings),
    }
    resources["io_manager"] = TableIOManager(base_dir=str(settings.values_dir), warehouse=resources["warehouse"])
    if settings.source_loader == "airbyte":
        resources["airbyte"] = Airbyte.of(settings)
    return resources
