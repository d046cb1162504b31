"""The warehouse of production: a BigQuery dataset with the operations and results of the DuckDB file.

Queries come in DuckDB's dialect and are transpiled. Nothing connects before the first operation.
"""

import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, PrivateAttr

from mlops_platform.atomic_write import atomic_write
from mlops_platform.errors import WarehouseError
from mlops_platform.resources.content_version import md5_sums, version_of
from mlops_platform.resources.csv_ingest.csv_loader import LoadResult
from mlops_platform.resources.csv_ingest.landing_table import META, require_columns
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.bigquery.credentials import BigQueryKey
from mlops_platform.resources.warehouse.bigquery.dialect import landing_sql, partitions_sql
from mlops_platform.resources.warehouse.bigquery.job_labels import job_labels
from mlops_platform.resources.warehouse.bigquery.validation import BigQuerySource
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.resources.warehouse.partitions import Partition
from mlops_platform.sql import literal, sql

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from google.cloud import bigquery
    from google.cloud.bigquery.table import RowIterator
    from google.cloud.bigquery_storage import BigQueryReadClient

    from mlops_platform.resources.warehouse.bigquery.dataset import Dataset


class BigQueryWarehouse(Warehouse):
    """A dataset of a Google Cloud project; the schema is the dataset."""

    project: str = Field(description="The Google Cloud project that holds the dataset and pays for the jobs.")
    location: str = Field(description="Location of the dataset and of each job.")
    key: dg.ResourceDependency[BigQueryKey]
    endpoint: str | None = Field(default=None, description="Address of the API, if it isn't Google's.")
    storage_endpoint: str | None = Field(default=None, description="host:port of its Storage API.")
    timeout: float = Field(default=300.0, gt=0, description="Seconds that a job may take.")
    max_bytes: int = Field(default=10 * 1024**3, gt=0, description="Bytes that a query may bill.")
    retry_seconds: float = Field(default=120.0, gt=0, description="Seconds for which a passing failure is retried.")

    _thread: threading.local = PrivateAttr(default_factory=threading.local)

    @contextmanager
    def connect(self) -> Iterator["bigquery.Client"]:
        """Hold one client for what the block does in this thread.

        Its jobs carry the run and the asset as labels, the job time-out and the limit of bytes billed.
        """
        open_client = getattr(self._thread, "client", None)
        if open_client is not None:
            yield open_client
            return
        if not self.project:
            raise WarehouseError("There is no project for BigQuery: set MLOPS_BIGQUERY_PROJECT.")
        from google.cloud.bigquery import LoadJobConfig, QueryJobConfig

        from mlops_platform.resources.warehouse.bigquery.connection import BigQueryConnection

        connection = BigQueryConnection(
            project=self.project, location=self.location, key=self.key, endpoint=self.endpoint
        )
        every_job: dict[str, Any] = {"labels": job_labels(), "job_timeout_ms": int(self.timeout * 1000)}
        with connection.get_client() as client:
            client.default_load_job_config = LoadJobConfig(**every_job)
            client.default_query_job_config = QueryJobConfig(
                default_dataset=self._dataset_name, maximum_bytes_billed=self.max_bytes, **every_job
            )
            self._thread.client = client
            try:
                yield client
            finally:
                self._thread.client = None

    def load_csv(self, table: str, path: Path, columns: Mapping[str, str], source: str) -> LoadResult:
        """Replace a table by the rows of a CSV file as the embedded warehouse reads it, then its `rejects`."""
        with self._dataset() as dataset, _embedded() as (local, connection):
            result = local.load_csv(table, path, columns, source)
            dataset.replace_table(connection, table, columns, result.rejected)
        return result

    def load_table(self, table: str, landing: str, columns: Mapping[str, str], source: str) -> int:
        """Replace a table by the rows of another one as the embedded warehouse types them, then its `rejects`."""
        with self._dataset() as dataset, _embedded() as (local, connection):
            present = {name.lower(): (name, kind) for name, kind in dataset.columns(landing).items()}
            require_columns(landing, present, columns, source)
            landed = [present[column] for column in (*columns, META) if column in present]
            file = Path(local.path).with_name("landing.parquet")
            self.export_parquet(landing_sql(landing, landed), file)
            rows = literal(str(file))
            connection.execute(sql("CREATE TABLE {landing} AS FROM read_parquet({rows})", landing=landing, rows=rows))
            rejected = local.load_table(table, landing, columns, source)
            dataset.replace_table(connection, table, columns, rejected)
        return rejected

    def replace_rows(self, table: str, file: Path, where: Mapping[str, object]) -> int:
        """Replace some of a table's rows by those of a Parquet file, in one statement."""
        with self._dataset() as dataset:
            return dataset.replace_rows(table, file, where)

    def append_once(
        self, table: str, file: Path, columns: Mapping[str, str], name: str, failed: MutableMapping[str, int]
    ) -> None:
        """Append a Parquet file to a table, once, however often this is called; see `Dataset.append_once`."""
        with self._dataset() as dataset:
            dataset.append_once(table, file, columns, name, failed)

    def clear_rejects(self, table: str) -> None:
        """Delete a table's entries from `rejects`, which is created when missing."""
        with self._dataset() as dataset:
            dataset.clear_rejects(table)

    def has_table(self, table: str) -> bool:
        """Return whether the table (or view) exists."""
        from google.api_core.exceptions import NotFound

        from mlops_platform.resources.warehouse.bigquery.error_messages import names_dataset

        with self._dataset() as dataset:
            try:
                dataset.columns(table)
            except NotFound as error:
                if names_dataset(error):
                    raise
                return False
            return True

    def describe(self, table: str) -> list[tuple[str, str]]:
        """Return a table's columns as (name, DuckDB type), in their order."""
        with self._dataset() as dataset:
            return list(dataset.columns(table).items())

    def content_version(self, table: str, columns: Collection[str] | None = None) -> str:
        """Return the digest of a table's content, computed in BigQuery, as DuckDB gives it for a small table."""
        with self.connect():
            counted = [column for column in self.describe(table) if columns is None or column[0] in columns]
            (sums,) = self.fetch_rows(md5_sums(table, counted))
        return version_of(counted, sums)

    def partitions(self, tables: Sequence[str]) -> list[Partition]:
        """List the partitions of tables as they are now, in one query that reads no table."""
        partitions = []
        for table, created, listed in self.fetch_rows(partitions_sql(self.schema_name, tables)):
            for partition in listed.split(";"):
                partition_id, modified, rows = partition.split(" ")
                partitions.append(Partition(table, partition_id, modified, int(rows), str(created)))
        return partitions

    def export_parquet(self, query: str, path: Path) -> int:
        """Write a query's rows to a Parquet file; return their number."""
        import pyarrow.parquet as pq

        with self._rows(query) as (rows, storage), atomic_write(path) as partial:
            batches = rows.to_arrow_iterable(bqstorage_client=storage, timeout=self.timeout)
            first = next(batches, None)
            if first is None:
                pq.write_table(self.fetch_arrow(query), partial)
                return 0
            schema, count = _zoneless(first.schema), 0
            with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
                for batch in chain([first], batches):
                    writer.write_batch(batch.cast(schema))
                    count += batch.num_rows
        return count

    def fetch_arrow(self, query: str, params: Sequence[object] | None = None) -> "pa.Table":
        """Return a query's rows as an Arrow table, read through the Storage API."""
        with self._rows(query, params) as (rows, storage):
            table = rows.to_arrow(bqstorage_client=storage, timeout=self.timeout)
        return table.cast(_zoneless(table.schema))

    def fetch_rows(self, query: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Return a query's rows as tuples; for few rows."""
        with self._dataset() as dataset:
            return [tuple(map(_without_zone, row.values())) for row in dataset.query(query, params)]

    @contextmanager
    def validation_source(self) -> Iterator[BigQuerySource]:
        """Lend the tables to a validation that happens where they are."""
        with self.connect():
            yield BigQuerySource(self)

    def refusal(self, message: str) -> str | None:
        """Return the sentence for what BigQuery refused to another tool; see `Warehouse.refusal`."""
        from mlops_platform.resources.warehouse.bigquery.error_messages import refusal

        return refusal(message, self)

    @contextmanager
    def _dataset(self) -> Iterator["Dataset"]:
        """Yield the dataset, whose errors become one sentence."""
        from mlops_platform.resources.warehouse.bigquery.dataset import Dataset
        from mlops_platform.resources.warehouse.bigquery.error_messages import as_warehouse_error

        with self.connect() as client, as_warehouse_error(self):
            yield Dataset(client, self._dataset_name, self.retry_seconds, self.timeout)

    @contextmanager
    def _rows(
        self, query: str, params: Sequence[object] | None = None
    ) -> Iterator[tuple["RowIterator", "BigQueryReadClient | None"]]:
        """Run a query; yield its result and the client of the Storage API to read it with."""
        from mlops_platform.resources.warehouse.bigquery.connection import storage_client

        with self._dataset() as dataset, storage_client(self.storage_endpoint) as storage:
            yield dataset.query(query, params), storage

    @property
    def _dataset_name(self) -> str:
        return f"{self.project}.{self.schema_name}"


@contextmanager
def _embedded() -> Iterator[tuple[DuckDBWarehouse, "duckdb.DuckDBPyConnection"]]:
    """Yield an empty embedded warehouse in a temporary folder, and its open connection."""
    with tempfile.TemporaryDirectory(prefix="mlops-bigquery-") as folder:
        local = DuckDBWarehouse(path=str(Path(folder) / "load.duckdb"))
        with local.connect() as connection:
            yield local, connection


def _zoneless(schema: "pa.Schema") -> "pa.Schema":
    """Return a schema whose times are in UTC without a zone, as DuckDB gives them."""
    import pyarrow as pa

    time = pa.timestamp("us")
    return pa.schema([(field.name, time if pa.types.is_timestamp(field.type) else field.type) for field in schema])


def _without_zone(value: Any) -> Any:
    """Return a time in UTC without its zone, as DuckDB gives it."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value
