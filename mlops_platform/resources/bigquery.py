"""The warehouse of production: a BigQuery dataset, with the same operations and results as the DuckDB file.

A CSV is read by the embedded warehouse's own loader and arrives here as Parquet, so that rows, rejects and their
reasons are the same on both. How BigQuery is reached is in ``bigquery_client``, its SQL in ``bigquery_sql``; nothing
connects before the first operation.
"""

import datetime
import tempfile
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
from pydantic import Field, PrivateAttr, SecretStr

from mlops_platform.errors import WarehouseError
from mlops_platform.resources import bigquery_sql
from mlops_platform.resources.bigquery_sql import quoted
from mlops_platform.resources.csv_loading import REJECT_COLUMNS, LoadResult
from mlops_platform.resources.job_labels import job_labels
from mlops_platform.resources.partitions import Partition, bigquery_partitions
from mlops_platform.resources.table_loading import META, require_columns
from mlops_platform.resources.table_version import literal, quote
from mlops_platform.resources.validation_sources import BigQuerySource
from mlops_platform.resources.warehouse import DuckDBWarehouse
from mlops_platform.resources.warehouse_base import Warehouse, written_whole

if TYPE_CHECKING:
    import pyarrow as pa
    from google.api_core.retry import Retry
    from google.cloud import bigquery
    from google.cloud.bigquery.table import RowIterator
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient

    from mlops_platform.resources.bigquery_client import Place

T = TypeVar("T")

PARTITIONED_BY, CLUSTERED_BY, REJECTS = "created_on", "id", "rejects"
_HTTP_SECONDS = 60.0
_STAGING_HOURS = 6  # what a killed load leaves goes away by itself


@dataclass(frozen=True)
class BigQueryKey:
    """A service-account key, as base64 or as a file; neither means Application Default Credentials.

    An object and no field of the resource, because Dagster shows the fields of a resource in its UI.
    """

    encoded: SecretStr | None = None
    file: Path | None = None


class BigQueryWarehouse(Warehouse):
    """A dataset of a Google Cloud project; the schema is the dataset."""

    project: str = Field(description="The Google Cloud project that holds the dataset and pays for the jobs.")
    location: str = Field(description="Location of the dataset and of each job.")
    key: dg.ResourceDependency[BigQueryKey]
    endpoint: str | None = Field(default=None, description="Address of the API, if it isn't Google's.")
    storage_endpoint: str | None = Field(default=None, description="host:port of its Storage API.")
    timeout: float = Field(default=300.0, gt=0, description="Seconds that a job may take.")
    max_bytes: int = Field(default=10 * 1024**3, gt=0, description="Bytes that a query may bill.")
    retry_seconds: float = Field(default=120.0, gt=0, description="Seconds to try again after a passing failure.")

    _held: threading.local = PrivateAttr(default_factory=threading.local)

    @contextmanager
    def connect(self) -> Iterator["bigquery.Client"]:
        """Holds one client for what the block does in this thread.

        Its jobs carry the run and the asset as labels, the job timeout and the limit of bytes billed.

        Raises:
            WarehouseError: If there are no credentials.
        """
        held = getattr(self._held, "client", None)
        if held is not None:
            yield held
            return
        if not self.project:
            raise WarehouseError("There is no project for BigQuery: set MLOPS_BIGQUERY_PROJECT.")
        from google.cloud import bigquery

        from mlops_platform.resources.bigquery_client import PlatformBigQuery

        labels, timeout_ms = job_labels(), int(self.timeout * 1000)
        queries = bigquery.QueryJobConfig(
            default_dataset=f"{self.project}.{self.schema_name}",
            labels=labels,
            job_timeout_ms=timeout_ms,
            maximum_bytes_billed=self.max_bytes,
        )
        loads = bigquery.LoadJobConfig(labels=labels, job_timeout_ms=timeout_ms)
        platform = PlatformBigQuery(project=self.project, location=self.location, endpoint=self.endpoint)
        with platform.client(self.key, default_query_job_config=queries, default_load_job_config=loads) as client:
            self._held.client = client
            try:
                yield client
            finally:
                self._held.client = None

    def load_csv(self, table: str, path: Path, columns: Mapping[str, str], source: str) -> LoadResult:
        """Replaces a table by the rows of a CSV file, then its entries in `rejects`.

        Each of the two is replaced as a whole; the rejects come last, so that a failure in between leaves the old
        ones beside the new table until the load runs again.

        Raises:
            SourceError: If the file can't be loaded; the old table stays.
            WarehouseError: If BigQuery can't take it; the old table stays.
        """
        with tempfile.TemporaryDirectory(prefix="mlops-bigquery-") as name, self._working():
            local = DuckDBWarehouse(path=str(Path(name) / "load.duckdb"), schema_name=self.schema_name)
            with local.connect():
                result = local.load_csv(table, path, columns, source)
                self._upload(local, Path(name), table, columns, result.rejected)
        return result

    def load_table(self, table: str, landing: str, columns: Mapping[str, str], source: str) -> int:
        """Replaces a table by the typed rows of another one, then its entries in `rejects`.

        As with a CSV, the embedded warehouse's own loader does it.

        Raises:
            SourceError: If the landing table lacks a column or has no row that can be read; the old table stays.
            WarehouseError: If the landing table doesn't exist, or BigQuery can't take the rows.
        """
        with tempfile.TemporaryDirectory(prefix="mlops-bigquery-") as name, self._working():
            found = {column.lower(): (column, kind) for column, kind in self._columns(landing)}
            require_columns(landing, found, columns, source)
            wanted = [found[column] for column in (*columns, META) if column in found]
            file = Path(name) / "landing.parquet"
            self.export_parquet(bigquery_sql.landing_sql(landing, wanted), file)
            local = DuckDBWarehouse(path=str(Path(name) / "load.duckdb"), schema_name=self.schema_name)
            with local.connect():
                local.execute(f"CREATE TABLE {quote(landing)} AS FROM read_parquet({literal(str(file))})")
                rejected = local.load_table(table, landing, columns, source)
                self._upload(local, Path(name), table, columns, rejected)
        return rejected

    def clear_rejects(self, table: str) -> None:
        """Removes a table's entries from `rejects`, which is made when missing."""
        self._replace_rejects(table, None)

    def has_table(self, table: str) -> bool:
        """Says whether the table (or view) exists."""
        from google.api_core.exceptions import NotFound

        from mlops_platform.resources.bigquery_client import names_dataset

        with self._working() as client:
            try:
                client.get_table(self._id(table), retry=self._retry(), timeout=_HTTP_SECONDS)
            except NotFound as error:
                if names_dataset(error):
                    raise
                return False
            return True

    def row_count(self, table: str) -> int:
        """Counts the rows of a table.

        Raises:
            WarehouseError: If the table doesn't exist.
        """
        return int(self.fetch_rows(f"SELECT COUNT(*) FROM {quoted(table)}")[0][0])  # noqa: S608

    def describe(self, table: str) -> list[tuple[str, str]]:
        """Lists a table's columns as (name, DuckDB type), in their order.

        Raises:
            WarehouseError: If the table doesn't exist.
        """
        return [(name, bigquery_sql.DUCKDB_TYPES.get(kind, kind)) for name, kind in self._columns(table)]

    def content_version(self, table: str, columns: Collection[str] | None = None) -> str:
        """Digests a table's content in BigQuery: for the same rows the same as `table_version` on DuckDB.

        Raises:
            WarehouseError: If the table doesn't exist.
        """
        with self.connect():
            counted = [each for each in self._columns(table) if columns is None or each[0] in columns]
            return bigquery_sql.version(counted, self.fetch_rows(bigquery_sql.version_sql(table, counted))[0])

    def partitions(self, tables: Sequence[str]) -> list[Partition]:
        """Lists the partitions of tables as they are now (see `bigquery_partitions`).

        Args:
            tables: Names of tables; one that doesn't exist gives no partition.

        Raises:
            WarehouseError: If BigQuery refuses the query or can't be reached.
        """
        return bigquery_partitions(self.fetch_rows, f"{self.project}.{self.schema_name}", tables)

    def export_parquet(self, query: str, path: Path) -> int:
        """Writes a query's rows to a Parquet file, as the embedded warehouse would.

        Returns:
            Number of rows.
        """
        with written_whole(path) as partial:
            return self._read(query, None, lambda rows, reader: _write_parquet(rows, reader, partial))

    def fetch_arrow(self, query: str, params: Sequence[object] | None = None) -> "pa.Table":
        """Returns a query's rows as an Arrow table, read through the Storage API."""
        return self._read(query, params, _arrow_table)

    def fetch_rows(self, query: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Returns a query's rows as tuples; for few rows."""
        with self._working() as client:
            return [tuple(_plain(value) for value in row.values()) for row in self._run(client, query, params)]

    def execute(self, query: str, params: Sequence[object] | None = None) -> None:
        """Runs a statement; several in one string share no transaction unless they say so."""
        with self._working() as client:
            self._run(client, query, params)

    def split_sql(self, id_column: str, test_share: float) -> str:
        """Writes `ml.splits.assign_splits` in BigQuery's SQL."""
        from mlops_platform.ml.splits import split_sql

        return split_sql(id_column, test_share, "to_hex(md5({}))").replace('"', "`")

    @contextmanager
    def validation_source(self) -> Iterator[BigQuerySource]:
        """Lends the tables to a validation that happens where they are."""
        with self._working():
            yield BigQuerySource(self)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Turns an error that wraps one of BigQuery's into its sentence: SQLAlchemy's, Great Expectations'.

        Raises:
            WarehouseError: BigQuery's error is among the causes.
        """
        from google.api_core.exceptions import GoogleAPICallError

        from mlops_platform.resources.bigquery_client import one_sentence

        try:
            yield
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, GoogleAPICallError):
                cause = cause.__cause__ or cause.__context__
            if cause is None:
                raise
            with one_sentence(self._place()):
                raise cause from None

    def refusal(self, said: str) -> str | None:
        """The sentence for what BigQuery refused to another tool; see `Warehouse.refusal`."""
        from mlops_platform.resources.bigquery_client import refusal

        return refusal(said, self._place())

    @contextmanager
    def _working(self) -> Iterator["bigquery.Client"]:
        """A client whose errors come out as one sentence."""
        from mlops_platform.resources.bigquery_client import one_sentence

        with self.connect() as client, one_sentence(self._place()):
            yield client

    def _place(self) -> "Place":
        from mlops_platform.resources.bigquery_client import Place

        return Place(self.project, self.schema_name, self.location, self.endpoint, self.timeout)

    def _retry(self) -> "Retry":
        from mlops_platform.resources.bigquery_client import retrying

        return retrying(self.retry_seconds)

    def _id(self, table: str) -> str:
        return f"{self.project}.{self.schema_name}.{table}"

    def _columns(self, table: str) -> list[tuple[str, str]]:
        with self._working() as client:
            found = client.get_table(self._id(table), retry=self._retry(), timeout=_HTTP_SECONDS)
            return [(field.name, field.field_type) for field in found.schema]

    def _run(self, client: "bigquery.Client", query: str, params: Sequence[object] | None = None) -> "RowIterator":
        """Runs a query as a job and waits for it; what interrupts the waiting cancels the job."""
        from google.cloud import bigquery

        config = bigquery.QueryJobConfig(query_parameters=[_parameter(value) for value in params or ()])

        def run() -> "RowIterator":
            # with a job_retry, Google's client tries a refused insert again for ten minutes, whatever it is told
            job = client.query(query, config, retry=self._retry(), job_retry=None, timeout=_HTTP_SECONDS)
            with _cancelled_if_left(job):
                # BigQuery stops the job itself after `timeout`: this is for the case that it doesn't
                return job.result(retry=self._retry(), job_retry=None, timeout=self.timeout + _HTTP_SECONDS)

        return self._retry()(run)()  # a job that failed has done nothing, and may run anew

    def _read(
        self, query: str, params: Sequence[object] | None, take: Callable[["RowIterator", "BigQueryReadClient"], T]
    ) -> T:
        """Runs a query and takes its rows through the Storage API, again from its result if that breaks."""
        with self._working() as client, self._reader() as reader:
            rows = self._run(client, query, params)

            def again() -> "RowIterator":
                job: Any = client.get_job(
                    str(rows.job_id), location=rows.location, retry=self._retry(), timeout=_HTTP_SECONDS
                )
                return job.result(retry=self._retry())

            readings = chain([rows], iter(again, None))
            # Google's client tries a session of the Storage API once
            return self._retry()(lambda: take(next(readings), reader))()

    def _upload(
        self, local: DuckDBWarehouse, folder: Path, table: str, columns: Mapping[str, str], rejected: int
    ) -> None:
        """Replaces a table and its entries in `rejects` by those of an embedded warehouse."""
        files = {each: folder / f"{each}.parquet" for each in (table, REJECTS)}
        for each, kinds in ((table, columns), (REJECTS, REJECT_COLUMNS)):
            # BigQuery takes a time for a TIMESTAMP only if it says that it is UTC
            values = ", ".join(
                f"{quote(column)}::TIMESTAMPTZ AS {quote(column)}" if kind == "TIMESTAMP" else quote(column)
                for column, kind in kinds.items()
            )
            local.export_parquet(f"SELECT {values} FROM {quote(each)}", files[each])  # noqa: S608
        with self._staged_rejects(files[REJECTS] if rejected else None) as staging:
            self._load(table, files[table], columns)
            self._replace_rejects(table, staging)

    def _load(self, table: str, file: Path, columns: Mapping[str, str]) -> None:
        """Replaces a table by a Parquet file in one load job: the old table stays if it fails."""
        from google.cloud import bigquery

        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            schema=_schema(columns),
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        )
        if PARTITIONED_BY in columns:
            config.time_partitioning = bigquery.TimePartitioning(bigquery.TimePartitioningType.DAY, PARTITIONED_BY)
        if CLUSTERED_BY in columns:
            config.clustering_fields = [CLUSTERED_BY]

        def load() -> None:
            with file.open("rb") as stream:
                job = client.load_table_from_file(
                    stream, self._id(table), job_config=config, num_retries=0, timeout=_HTTP_SECONDS
                )
            with _cancelled_if_left(job):
                job.result(retry=self._retry(), timeout=self.timeout + _HTTP_SECONDS)

        with self._working() as client:
            self._retry()(load)()  # a load that replaces may run twice

    @contextmanager
    def _staged_rejects(self, file: Path | None) -> Iterator[str | None]:
        """A table of its own with the new rejects while they are needed; none for none."""
        if file is None:
            yield None
            return
        from google.cloud import bigquery

        staging = f"{REJECTS}_{uuid.uuid4().hex}"
        with self._working() as client:
            table = bigquery.Table(self._id(staging), schema=_schema(REJECT_COLUMNS))
            table.expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=_STAGING_HOURS)
            client.create_table(table, exists_ok=True, retry=self._retry(), timeout=_HTTP_SECONDS)
            try:
                self._load(staging, file, REJECT_COLUMNS)
                yield staging
            finally:
                client.delete_table(table, not_found_ok=True, retry=self._retry(), timeout=_HTTP_SECONDS)

    def _replace_rejects(self, table: str, staging: str | None) -> None:
        from google.cloud import bigquery

        with self._working() as client:
            rejects = bigquery.Table(self._id(REJECTS), schema=_schema(REJECT_COLUMNS))
            client.create_table(rejects, exists_ok=True, retry=self._retry(), timeout=_HTTP_SECONDS)
        if staging is None:
            self.execute(f"DELETE FROM {REJECTS} WHERE source_table = ?", [table])  # noqa: S608
            return
        # one statement, so that nobody sees the table without its rejects
        self.execute(
            f"MERGE {REJECTS} AS kept USING {quoted(staging)} AS new ON FALSE "
            "WHEN NOT MATCHED BY SOURCE AND kept.source_table = ? THEN DELETE "
            "WHEN NOT MATCHED THEN INSERT ROW",
            [table],
        )

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        from mlops_platform.resources.bigquery_client import storage_reader

        reader = storage_reader(self.key, self.storage_endpoint)
        try:
            yield reader
        finally:
            reader.transport.close()


@contextmanager
def _cancelled_if_left(job: Any) -> Iterator[None]:
    """Cancels a job that is no longer waited for: a run that is terminated pays for nothing more."""
    from google.api_core.exceptions import GoogleAPICallError

    try:
        yield
    except GoogleAPICallError:
        raise  # it has ended
    except BaseException:
        try:
            job.cancel(retry=None, timeout=5.0)
        except Exception as error:
            dg.get_dagster_logger().warning(f"BigQuery job {job.job_id} could not be cancelled: {error!r}")
        raise


def _parameter(value: Any) -> "bigquery.ScalarQueryParameter":
    from google.cloud.bigquery import ScalarQueryParameter

    for kind, name in (
        (bool, "BOOL"),
        (int, "INT64"),
        (float, "FLOAT64"),
        (datetime.datetime, "TIMESTAMP"),
        (datetime.date, "DATE"),
    ):
        if isinstance(value, kind):
            return ScalarQueryParameter(None, name, value)
    return ScalarQueryParameter(None, "STRING", value)


def _schema(columns: Mapping[str, str]) -> "list[bigquery.SchemaField]":
    from google.cloud.bigquery import SchemaField

    return [SchemaField(name, bigquery_sql.BIGQUERY_TYPES[kind]) for name, kind in columns.items()]


def _plain(value: Any) -> Any:
    """A time in UTC without its zone, as DuckDB gives it."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value


def _arrow_schema(rows: "RowIterator") -> "pa.Schema":
    """What a query's columns are in Arrow, with times in UTC without a zone."""
    import pyarrow as pa

    kinds = {
        "BIGINT": pa.int64(),
        "VARCHAR": pa.string(),
        "TIMESTAMP": pa.timestamp("us"),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "DATE": pa.date32(),
    }
    named = [(field.name, bigquery_sql.DUCKDB_TYPES.get(field.field_type)) for field in rows.schema]
    strange = [name for name, kind in named if kind is None]
    if strange:
        raise WarehouseError(f"BigQuery's column {strange[0]} has a type that the platform doesn't read: cast it.")
    return pa.schema([(name, kinds[str(kind)]) for name, kind in named])


def _arrow_table(rows: "RowIterator", reader: "BigQueryReadClient") -> "pa.Table":
    return rows.to_arrow(bqstorage_client=reader, create_bqstorage_client=False).cast(_arrow_schema(rows))


def _write_parquet(rows: "RowIterator", reader: "BigQueryReadClient", path: Path) -> int:
    """Writes rows as they come; what breaks while they come is raised as it is, and not as an error of DuckDB's."""
    import duckdb
    import pyarrow as pa

    schema = _arrow_schema(rows)
    broken: list[Exception] = []

    def batches() -> "Iterator[pa.RecordBatch]":
        try:
            for each in rows.to_arrow_iterable(bqstorage_client=reader):
                yield _without_zones(each, schema)
        except Exception as error:
            broken.append(error)
            raise

    with duckdb.connect() as connection:
        connection.register("fetched", pa.RecordBatchReader.from_batches(schema, batches()))
        try:
            (count,) = connection.execute(
                f"COPY (FROM fetched) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)"
            ).fetchall()[0]
        except duckdb.Error:
            if broken:
                raise broken[0] from None
            raise
    return int(count)


def _without_zones(batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    return pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)], schema=schema
    )
