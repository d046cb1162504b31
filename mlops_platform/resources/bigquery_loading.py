"""How rows get into BigQuery: as Parquet files, each in a load job that replaces a table as a whole.

What replaces only some of a table's rows goes to a staging table first, and from there in one statement.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.bigquery_sql import BIGQUERY_TYPES, DUCKDB_TYPES, quoted
from mlops_platform.resources.csv_loading import REJECT_COLUMNS
from mlops_platform.resources.table_loading import require_same_columns
from mlops_platform.resources.table_version import quote

if TYPE_CHECKING:
    from google.cloud import bigquery

    from mlops_platform.resources.bigquery_jobs import Jobs
    from mlops_platform.resources.warehouse import DuckDBWarehouse

REJECTS = "rejects"
_PARTITIONED_BY, _CLUSTERED_BY = ("day", "created_on", "at"), "id"
_STAGING_HOURS = 6  # what a killed load leaves goes away by itself


def upload(
    jobs: Jobs, local: DuckDBWarehouse, folder: Path, table: str, columns: Mapping[str, str], rejected: int
) -> None:
    """Replaces a table and its entries in `rejects` by those of an embedded warehouse.

    Args:
        jobs: The dataset.
        local: Where both have been loaded.
        folder: Takes the files for the way.
        table: Name of the table.
        columns: Column names and their DuckDB types.
        rejected: Number of entries in `rejects`.
    """
    from google.cloud import bigquery

    file = _exported(local, folder, table, columns)
    rejects = _exported(local, folder, REJECTS, REJECT_COLUMNS) if rejected else None
    with _staged(jobs, REJECTS, rejects, REJECT_COLUMNS) as staging:
        partitioning, clustering = _layout(columns)
        config = bigquery.LoadJobConfig(time_partitioning=partitioning, clustering_fields=clustering)
        _load(jobs, table, file, columns, config)
        _replace_rejects(jobs, table, staging)


def clear_rejects(jobs: Jobs, table: str) -> None:
    """Removes a table's entries from `rejects`, which is made when missing."""
    _replace_rejects(jobs, table, None)


def replace_rows(
    jobs: Jobs, local: DuckDBWarehouse, folder: Path, table: str, file: Path, where: Mapping[str, object]
) -> int:
    """Replaces some of a table's rows by those of a Parquet file, in one statement.

    Args:
        jobs: The dataset.
        local: An empty embedded warehouse, through which the file's types become BigQuery's.
        folder: Takes a file for the way.
        table: Name of the table (see `Warehouse.replace_rows`).
        file: The new rows.
        where: Column to value: which rows go.

    Returns:
        Number of rows that came.

    Raises:
        WarehouseError: If a type is none of BigQuery's, or the columns are not the table's.
    """
    from google.api_core.exceptions import NotFound

    count = local.replace_rows(table, file, {})
    columns = dict(local.describe(table))
    strange = [f"{name} ({kind})" for name, kind in columns.items() if kind not in BIGQUERY_TYPES]
    if strange:
        raise WarehouseError(f"BigQuery's table {table} cannot take the column {strange[0]}: cast it.")
    try:
        there = {name: DUCKDB_TYPES.get(kind, kind) for name, kind in jobs.columns(table)}
    except NotFound:
        _create(jobs, table, columns)
    else:
        require_same_columns(table, there, columns)
        columns = there  # INSERT ROW goes by position
    exported = _exported(local, folder, table, columns) if count else None
    with _staged(jobs, table, exported, columns) as staging:
        _merge(jobs, table, staging, where)
    return count


def append_once(
    jobs: Jobs, table: str, file: Path, columns: Mapping[str, str], name: str, failed: MutableMapping[str, int]
) -> None:
    """Appends a Parquet file to a table, which is made when missing, in a load job that can succeed once only.

    Args:
        jobs: The dataset.
        table: Name of the table.
        file: The rows; a time in it says that it is UTC.
        columns: Column names and their DuckDB types.
        name: Of the rows (see `Jobs.load_once`).
        failed: Tries that are known to have failed, by name.
    """
    from google.cloud import bigquery

    partitioning, clustering = _layout(columns)
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        schema=_schema(columns),
        time_partitioning=partitioning,
        clustering_fields=clustering,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
    )
    jobs.load_once(table, file, config, name, failed)


def _exported(local: DuckDBWarehouse, folder: Path, table: str, columns: Mapping[str, str]) -> Path:
    """A table of the embedded warehouse as a file for BigQuery, which takes a time only if it says that it is UTC."""
    values = ", ".join(
        f"{quote(column)}::TIMESTAMPTZ AS {quote(column)}" if kind == "TIMESTAMP" else quote(column)
        for column, kind in columns.items()
    )
    file = folder / f"{table}.parquet"
    local.export_parquet(f"SELECT {values} FROM {quote(table)}", file)  # noqa: S608
    return file


def _load(jobs: Jobs, table: str, file: Path, columns: Mapping[str, str], config: bigquery.LoadJobConfig) -> None:
    """Replaces a table by a Parquet file in one load job: the old table stays if it fails."""
    from google.cloud import bigquery

    config.source_format = bigquery.SourceFormat.PARQUET
    config.schema = _schema(columns)
    config.write_disposition = bigquery.WriteDisposition.WRITE_TRUNCATE
    jobs.load(table, file, config)


@contextmanager
def _staged(jobs: Jobs, table: str, file: Path | None, columns: Mapping[str, str]) -> Iterator[str | None]:
    """A table of its own with a file's rows while they are needed; none for no file."""
    if file is None:
        yield None
        return
    from google.cloud import bigquery

    staging = f"{table}_{uuid.uuid4().hex}"
    made = bigquery.Table(jobs.id(staging), schema=_schema(columns))
    made.expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=_STAGING_HOURS)
    jobs.create(made)
    try:
        _load(jobs, staging, file, columns, bigquery.LoadJobConfig())
        yield staging
    finally:
        jobs.drop(staging)


def _replace_rejects(jobs: Jobs, table: str, staging: str | None) -> None:
    _create(jobs, REJECTS, REJECT_COLUMNS)
    _merge(jobs, REJECTS, staging, {"source_table": table})


def _merge(jobs: Jobs, table: str, staging: str | None, where: Mapping[str, object]) -> None:
    """Replaces the rows of a table that meet `where` by those of a staging table; by none without one."""
    goes = " AND ".join(f"kept.{quoted(column)} = ?" for column in where) or "TRUE"
    if staging is None:
        jobs.query(f"DELETE FROM {quoted(table)} AS kept WHERE {goes}", list(where.values()))  # noqa: S608
        return
    # one statement, so that nobody sees the table without its new rows
    jobs.query(
        f"MERGE {quoted(table)} AS kept USING {quoted(staging)} AS new ON FALSE "
        f"WHEN NOT MATCHED BY SOURCE AND {goes} THEN DELETE "
        "WHEN NOT MATCHED THEN INSERT ROW",
        list(where.values()),
    )


def _create(jobs: Jobs, table: str, columns: Mapping[str, str]) -> None:
    from google.cloud import bigquery

    made = bigquery.Table(jobs.id(table), schema=_schema(columns))
    made.time_partitioning, made.clustering_fields = _layout(columns)
    jobs.create(made)


def _layout(columns: Mapping[str, str]) -> tuple[bigquery.TimePartitioning | None, list[str] | None]:
    """By what a table is partitioned, by day, and clustered."""
    from google.cloud.bigquery import TimePartitioning, TimePartitioningType

    days = [name for name in _PARTITIONED_BY if columns.get(name) in ("DATE", "TIMESTAMP")]
    partitioning = TimePartitioning(TimePartitioningType.DAY, days[0]) if days else None
    return partitioning, [_CLUSTERED_BY] if _CLUSTERED_BY in columns else None


def _schema(columns: Mapping[str, str]) -> list[bigquery.SchemaField]:
    from google.cloud.bigquery import SchemaField

    return [SchemaField(name, BIGQUERY_TYPES[kind]) for name, kind in columns.items()]
