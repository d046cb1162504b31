"""The assets `projects` and `tags`, loaded by Airbyte: one connection per table.

Keys, declaration and checks are those of ``ingest``. Airbyte owns the landing tables `airbyte_projects` and
`airbyte_tags` (the connection's table prefix is `airbyte_`), to which it adds columns that its next sync needs; the raw
table is a copy of the declared columns in their declared types.
"""

from pathlib import Path

import dagster as dg

from mlops_platform.assets.ingest import TABLES, apply_labels, declaration, read_labels, table_metadata
from mlops_platform.assets.label_tables import TAGS
from mlops_platform.errors import AirbyteError, platform_errors_as_failures
from mlops_platform.resources.airbyte.workspace import Airbyte
from mlops_platform.resources.warehouse.base import Warehouse

LANDING_PREFIX = "airbyte_"


def build_airbyte_assets(
    projects_connection: str, tags_connection: str, event_log_path: Path | None = None
) -> list[dg.AssetsDefinition]:
    """Build the assets `projects` and `tags`; Airbyte is first contacted when they are materialized.

    Args:
        projects_connection: Id of the connection that loads projects.
        tags_connection: Id of the connection that loads tags.
        event_log_path: The log of people's labels, which `tags` ingests.
    """
    return [
        _airbyte_asset("projects", projects_connection, None),
        _airbyte_asset("tags", tags_connection, event_log_path),
    ]


def _airbyte_asset(table: str, connection_id: str, event_log_path: Path | None) -> dg.AssetsDefinition:
    @dg.asset(**declaration(table), kinds={"airbyte", "duckdb"})
    def ingest(
        context: dg.AssetExecutionContext, airbyte: dg.ResourceParam[Airbyte], warehouse: Warehouse
    ) -> dg.MaterializeResult:
        with platform_errors_as_failures():
            if not connection_id:
                raise AirbyteError(
                    f"No Airbyte connection is set for {table}: set MLOPS_AIRBYTE_{table.upper()}_CONNECTION to its id."
                )
            log = read_labels(event_log_path)
            sync = airbyte.sync(connection_id)
            rejected = _copy_landing_table(table, f"Airbyte job {sync.job_id}", warehouse)
            labels = apply_labels(log, warehouse) if table == TAGS else {}
            rows = warehouse.row_count(table)
            context.log.info(f"Airbyte job {sync.job_id}: {rows:,} rows in {table}, {rejected:,} rejected.")
            if sync.rows is not None and sync.rows > rows + rejected:
                context.log.warning(
                    f"Airbyte reports {sync.rows:,} rows, more than arrived in {table}: check that the connection's "
                    "destination is this warehouse."
                )
            return dg.MaterializeResult(
                data_version=dg.DataVersion(warehouse.content_version(table, list(TABLES[table]))),
                metadata={
                    **table_metadata(table, rows, warehouse),
                    "rejected_rows": rejected,
                    "airbyte_rows": sync.rows,
                    "airbyte_bytes": sync.bytes,
                    "airbyte_job_id": sync.job_id,
                    "airbyte_job": dg.MetadataValue.url(sync.url),
                    "airbyte_joined": sync.joined,
                    **labels,
                },
            )

    return ingest


def _copy_landing_table(table: str, source: str, warehouse: Warehouse) -> int:
    """Copy the landing table into the raw table, and return the number of rejected rows."""
    columns = {name: column.kind for name, column in TABLES[table].items()}
    landing = LANDING_PREFIX + table
    if warehouse.has_table(landing):
        return warehouse.load_table(table, landing, columns, source)
    # without the prefix, Airbyte owns the raw table itself: rewriting it would break the next sync
    present = {name for name, _ in warehouse.describe(table)} if warehouse.has_table(table) else set()
    missing = [name for name in columns if name not in present]
    if missing:
        raise AirbyteError(
            f"{source} left no table {landing}, and {table} has no column {', '.join(missing)}: point the connection "
            f"at the schema of the warehouse, with the table prefix {LANDING_PREFIX}."
        )
    warehouse.clear_rejects(table)
    return 0
