"""Jobs on one BigQuery dataset: queries and loads, retried by Google's client. Loads are Parquet files.

Importing this imports Google's libraries, which takes seconds: import it where a client is open.
"""

from __future__ import annotations

import datetime
import itertools
import tempfile
import uuid
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from google.api_core.exceptions import Conflict, GoogleAPICallError, NotFound
from google.api_core.retry import Retry
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_JOB_RETRY, DEFAULT_RETRY
from google.cloud.bigquery.table import RowIterator

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.csv_ingest.landing_table import require_same_columns
from mlops_platform.resources.csv_ingest.typed_table import REJECT_COLUMNS
from mlops_platform.resources.warehouse.bigquery.dialect import BIGQUERY_TYPES, DUCKDB_TYPES, to_bigquery
from mlops_platform.sql import SQL, identifier, literal, sql

_HTTP_SECONDS = 60.0
_REJECTS = "rejects"
_PARTITION_COLUMNS, _CLUSTER_COLUMN = ("day", "created_on", "at"), "id"
_STAGING_LIFETIME = datetime.timedelta(hours=6)  # what a killed load leaves expires
_PARAMETER_TYPES = (  # in this order: a bool is an int, a datetime a date
    (bool, "BOOL"),
    (int, "INT64"),
    (float, "FLOAT64"),
    (datetime.datetime, "TIMESTAMP"),
    (datetime.date, "DATE"),
)


@dataclass(frozen=True)
class Dataset:
    """The tables of a dataset; columns are given as name to DuckDB type.

    Attributes:
        client: An open client, whose defaults label and limit each job.
        name: `project.dataset`.
        retry_seconds: How long a passing failure is retried.
        timeout: Seconds that a job may take.
    """

    client: bigquery.Client
    name: str
    retry_seconds: float
    timeout: float

    def columns(self, table: str) -> dict[str, str]:
        """Return the columns of a table, in their order."""
        schema = self.client.get_table(f"{self.name}.{table}", **self._request).schema
        return {field.name: DUCKDB_TYPES.get(field.field_type, field.field_type) for field in schema}

    def query(self, query: str, params: Sequence[object] | None = None) -> RowIterator:
        """Run a query of DuckDB's dialect and wait for it."""
        config = bigquery.QueryJobConfig(query_parameters=[_parameter(value) for value in params or ()])
        # job_retry belongs to result(): with one here, the client retries a refused insert for ten minutes
        job = self.client.query(to_bigquery(query), config, job_retry=None, **self._request)
        with _canceled_on_error(job):
            return job.result(job_retry=DEFAULT_JOB_RETRY.with_timeout(self.retry_seconds), **self._wait)

    def replace_table(
        self, local: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str], rejected: int
    ) -> None:
        """Replace a table, then its entries in `rejects`, by those of an embedded warehouse with so many rejects.

        Each of the two is replaced as a whole; the old rejects stay beside the new table if the second one fails.
        """
        with tempfile.TemporaryDirectory(prefix="mlops-bigquery-") as folder:
            file = Path(folder) / "table.parquet"
            _export(local, identifier(table), columns, file)
            self._load(table, file, columns)
            if not rejected:
                self.clear_rejects(table)
                return
            _export(local, identifier(_REJECTS), REJECT_COLUMNS, file)
            self._create(_REJECTS, REJECT_COLUMNS)
            self._merge(_REJECTS, file, REJECT_COLUMNS, {"source_table": table})

    def clear_rejects(self, table: str) -> None:
        """Delete a table's entries from `rejects`, which is created when missing."""
        self._create(_REJECTS, REJECT_COLUMNS)
        self.query("DELETE FROM rejects WHERE source_table = ?", [table])

    def replace_rows(self, table: str, file: Path, where: Mapping[str, object]) -> int:
        """Replace some of a table's rows by those of a Parquet file; see `Warehouse.replace_rows`."""
        rows = sql("read_parquet({file})", file=literal(str(file)))
        with tempfile.TemporaryDirectory(prefix="mlops-bigquery-") as folder, duckdb.connect() as local:
            local.execute("SET TimeZone = 'UTC'")
            columns = {name: kind for name, kind, *_ in local.execute(f"DESCRIBE FROM {rows}").fetchall()}
            for name, kind in columns.items():
                if kind not in BIGQUERY_TYPES:
                    raise WarehouseError(f"BigQuery's table {table} cannot take the column {name} ({kind}): cast it.")
            try:
                existing = self.columns(table)
            except NotFound:
                self._create(table, columns)
                existing = columns
            require_same_columns(table, existing, columns)
            typed = Path(folder) / "rows.parquet"
            count = _export(local, rows, existing, typed)
            self._merge(table, typed, existing, where)
        return count

    def append_once(
        self, table: str, file: Path, columns: Mapping[str, str], name: str, failed: MutableMapping[str, int]
    ) -> None:
        """Append a Parquet file to a table: once, however often and from however many processes this is called.

        A job id can be used once in a project and location. The id consists of the dataset, the table, the name of the
        rows and the number of the attempt: an attempt that exists is waited for, and the next one starts only after it
        has failed.

        Args:
            table: Name of the table, which is created when missing.
            file: The rows; a time in it says that it is UTC.
            columns: Name to DuckDB type.
            name: Name of the rows: letters, digits, `_` and `-`.
            failed: Name of rows to the number of failed attempts; the caller keeps it between calls.
        """
        dataset = self.name.rpartition(".")[2]

        def load() -> None:
            for attempt in itertools.count(failed.get(name, 0)):
                job_id, exists = f"{dataset}_{table}_{name}_{attempt}", False
                try:
                    job: Any = self._upload(table, file, columns, "WRITE_APPEND", job_id)
                except Conflict:
                    exists = True
                    job = self.client.get_job(job_id, **self._request)
                try:
                    job.result(**self._wait)  # not canceled on an error: the next call waits for it
                except GoogleAPICallError:
                    if job.state != "DONE" or not job.error_result:
                        raise  # the outcome is unknown
                    failed[name] = attempt + 1
                    if not exists:
                        raise
                else:
                    failed.pop(name, None)
                    return

        self._retry(load)()

    @property
    def _retry(self) -> Retry:
        """What Google's client retries: 429, 5xx, rate limits, broken connections."""
        return DEFAULT_RETRY.with_timeout(self.retry_seconds)

    @property
    def _request(self) -> dict[str, Any]:
        return {"retry": self._retry, "timeout": _HTTP_SECONDS}

    @property
    def _wait(self) -> dict[str, Any]:
        # BigQuery stops a job itself after `timeout`; the client stops waiting if it does not
        return {"retry": self._retry, "timeout": self.timeout + _HTTP_SECONDS}

    def _create(self, table: str, columns: Mapping[str, str], expires: datetime.datetime | None = None) -> None:
        """Create a table unless it exists."""
        config = _load_config(columns)
        new = bigquery.Table(f"{self.name}.{table}", schema=config.schema)
        new.time_partitioning, new.clustering_fields = config.time_partitioning, config.clustering_fields
        new.expires = expires
        self.client.create_table(new, exists_ok=True, **self._request)

    def _load(self, table: str, file: Path, columns: Mapping[str, str]) -> None:
        """Replace a table by a Parquet file."""

        def load() -> None:
            job = self._upload(table, file, columns, "WRITE_TRUNCATE")
            with _canceled_on_error(job):
                job.result(**self._wait)

        self._retry(load)()  # a load that replaces may run twice

    def _merge(self, table: str, file: Path, columns: Mapping[str, str], where: Mapping[str, object]) -> None:
        """Load a file into a staging table, and from there in one statement, so that nobody sees the rows missing."""
        staging = f"{table}_{uuid.uuid4().hex}"
        self._create(staging, columns, datetime.datetime.now(datetime.UTC) + _STAGING_LIFETIME)
        try:
            self._load(staging, file, columns)
            merge = sql(
                "MERGE INTO {table} AS old USING {staging} AS staged ON FALSE "
                "WHEN NOT MATCHED BY SOURCE AND TRUE{conditions} THEN DELETE WHEN NOT MATCHED THEN INSERT ROW",
                table=table,
                staging=staging,
                conditions=SQL("".join(sql(" AND old.{column} = ?", column=column) for column in where)),
            )
            self.query(merge, list(where.values()))
        finally:
            self.client.delete_table(f"{self.name}.{staging}", not_found_ok=True, **self._request)

    def _upload(
        self, table: str, file: Path, columns: Mapping[str, str], disposition: str, job_id: str | None = None
    ) -> bigquery.LoadJob:
        config = _load_config(columns)
        config.source_format, config.write_disposition = "PARQUET", disposition
        with file.open("rb") as stream:
            return self.client.load_table_from_file(
                stream, f"{self.name}.{table}", job_id=job_id, job_config=config, timeout=_HTTP_SECONDS
            )


def _load_config(columns: Mapping[str, str]) -> bigquery.LoadJobConfig:
    """Return how a table with these columns is created and loaded: typed, partitioned by a day, clustered by id."""
    days = [name for name in _PARTITION_COLUMNS if columns.get(name) in ("DATE", "TIMESTAMP")]
    return bigquery.LoadJobConfig(
        schema=[bigquery.SchemaField(name, BIGQUERY_TYPES[kind]) for name, kind in columns.items()],
        time_partitioning=bigquery.TimePartitioning(field=days[0]) if days else None,
        clustering_fields=[_CLUSTER_COLUMN] if _CLUSTER_COLUMN in columns else None,
    )


def _export(local: duckdb.DuckDBPyConnection, rows: SQL, columns: Mapping[str, str], file: Path) -> int:
    """Write rows to a file for BigQuery, which takes a time only if it says that it is UTC."""
    values = ", ".join(
        sql("{name}::TIMESTAMPTZ AS {name}" if kind == "TIMESTAMP" else "{name}", name=name)
        for name, kind in columns.items()
    )
    copy = "COPY (SELECT {values} FROM {rows}) TO {file} (FORMAT parquet, COMPRESSION zstd)"
    ((count,),) = local.execute(sql(copy, values=SQL(values), rows=rows, file=literal(str(file)))).fetchall()
    return int(count)


@contextmanager
def _canceled_on_error(job: Any) -> Iterator[None]:
    """Cancel a job that is no longer waited for, so that a run that timed out or was terminated stops paying."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            job.cancel(retry=None, timeout=5.0)
        raise


def _parameter(value: Any) -> bigquery.ScalarQueryParameter:
    type_name = next((name for kind, name in _PARAMETER_TYPES if isinstance(value, kind)), "STRING")
    return bigquery.ScalarQueryParameter(None, type_name, value)
