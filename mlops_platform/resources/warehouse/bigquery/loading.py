"""How rows get into BigQuery: DuckDB parses and types them, and a load job takes them as Parquet."""

from __future__ import annotations

import datetime
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.csv_ingest.landing_table import require_same_columns
from mlops_platform.resources.csv_ingest.typed_table import REJECT_COLUMNS
from mlops_platform.resources.warehouse.bigquery.dialect import BIGQUERY_TYPES, DUCKDB_TYPES, to_bigquery
from mlops_platform.sql import SQL, identifier, literal, sql

if TYPE_CHECKING:
    import duckdb
    from google.cloud import bigquery

    from mlops_platform.resources.warehouse.bigquery.query_jobs import Jobs

_REJECTS = "rejects"
_PARTITION_COLUMNS, _CLUSTER_COLUMN = ("day", "created_on", "at"), "id"
_STAGING_LIFETIME = datetime.timedelta(hours=6)  # what a killed load leaves expires


def replace_table(
    jobs: Jobs, local: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str], rejected: int
) -> None:
    """Replace a table, then its entries in `rejects`, by those of an embedded warehouse.

    Each of the two is replaced as a whole; the old rejects stay beside the new table if the second one fails.

    Args:
        jobs: The dataset.
        local: Connection on which both have been loaded.
        table: Name of the table.
        columns: Column names and their DuckDB types.
        rejected: Number of rejected rows.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-bigquery-") as folder:
        file = Path(folder) / "table.parquet"
        _export(local, identifier(table), columns, file)
        jobs.load(table, file, load_config(columns))
        if not rejected:
            clear_rejects(jobs, table)
            return
        _export(local, identifier(_REJECTS), REJECT_COLUMNS, file)
        _create(jobs, _REJECTS, REJECT_COLUMNS)
        _replace_rows(jobs, _REJECTS, file, REJECT_COLUMNS, {"source_table": table})


def clear_rejects(jobs: Jobs, table: str) -> None:
    """Delete a table's entries from `rejects`, which is created when missing."""
    _create(jobs, _REJECTS, REJECT_COLUMNS)
    jobs.query(to_bigquery("DELETE FROM rejects WHERE source_table = ?"), [table])


def replace_rows(jobs: Jobs, table: str, file: Path, where: Mapping[str, object]) -> int:
    """Replace some of a table's rows by those of a Parquet file; see `Warehouse.replace_rows`."""
    import duckdb
    from google.api_core.exceptions import NotFound

    rows = sql("read_parquet({file})", file=literal(str(file)))
    with tempfile.TemporaryDirectory(prefix="mlops-bigquery-") as folder, duckdb.connect() as local:
        local.execute("SET TimeZone = 'UTC'")
        columns = {name: kind for name, kind, *_ in local.execute(f"DESCRIBE FROM {rows}").fetchall()}
        unknown = [f"{name} ({kind})" for name, kind in columns.items() if kind not in BIGQUERY_TYPES]
        if unknown:
            raise WarehouseError(f"BigQuery's table {table} cannot take the column {unknown[0]}: cast it.")
        try:
            existing = {name: DUCKDB_TYPES.get(kind, kind) for name, kind in jobs.columns(table)}
        except NotFound:
            _create(jobs, table, columns)
            existing = columns
        require_same_columns(table, existing, columns)
        typed = Path(folder) / "rows.parquet"
        count = _export(local, rows, existing, typed)
        _replace_rows(jobs, table, typed, existing, where)
    return count


def _export(local: duckdb.DuckDBPyConnection, rows: SQL, columns: Mapping[str, str], file: Path) -> int:
    """Write rows to a file for BigQuery, which takes a time only if it says that it is UTC."""
    values = ", ".join(
        sql("{name}::TIMESTAMPTZ AS {name}" if kind == "TIMESTAMP" else "{name}", name=name)
        for name, kind in columns.items()
    )
    copy = "COPY (SELECT {values} FROM {rows}) TO {file} (FORMAT parquet, COMPRESSION zstd)"
    ((count,),) = local.execute(sql(copy, values=SQL(values), rows=rows, file=literal(str(file)))).fetchall()
    return int(count)


def _replace_rows(jobs: Jobs, table: str, file: Path, columns: Mapping[str, str], where: Mapping[str, object]) -> None:
    """Load a file into a staging table, and from there in one statement, so that nobody sees the rows missing."""
    from google.cloud import bigquery

    staging = f"{table}_{uuid.uuid4().hex}"
    staging_table = bigquery.Table(jobs.table_id(staging), schema=_schema(columns))
    staging_table.expires = datetime.datetime.now(datetime.UTC) + _STAGING_LIFETIME
    jobs.create(staging_table)
    try:
        jobs.load(staging, file, bigquery.LoadJobConfig(schema=_schema(columns)))
        merge = sql(
            "MERGE INTO {table} AS old USING {staging} AS staged ON FALSE "
            "WHEN NOT MATCHED BY SOURCE AND TRUE{conditions} THEN DELETE WHEN NOT MATCHED THEN INSERT ROW",
            table=table,
            staging=staging,
            conditions=SQL("".join(sql(" AND old.{column} = ?", column=column) for column in where)),
        )
        jobs.query(to_bigquery(merge), list(where.values()))
    finally:
        jobs.drop(staging)


def _create(jobs: Jobs, table: str, columns: Mapping[str, str]) -> None:
    from google.cloud import bigquery

    config = load_config(columns)
    new = bigquery.Table(jobs.table_id(table), schema=config.schema)
    new.time_partitioning, new.clustering_fields = config.time_partitioning, config.clustering_fields
    jobs.create(new)


def load_config(columns: Mapping[str, str]) -> bigquery.LoadJobConfig:
    """Return how a table with these columns (name to DuckDB type) is loaded: typed, partitioned and clustered."""
    from google.cloud import bigquery

    days = [name for name in _PARTITION_COLUMNS if columns.get(name) in ("DATE", "TIMESTAMP")]
    return bigquery.LoadJobConfig(
        schema=_schema(columns),
        time_partitioning=bigquery.TimePartitioning(field=days[0]) if days else None,
        clustering_fields=[_CLUSTER_COLUMN] if _CLUSTER_COLUMN in columns else None,
    )


def _schema(columns: Mapping[str, str]) -> list[bigquery.SchemaField]:
    from google.cloud.bigquery import SchemaField

    return [SchemaField(name, BIGQUERY_TYPES[kind]) for name, kind in columns.items()]
