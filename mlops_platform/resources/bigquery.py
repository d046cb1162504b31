"""The warehouse of production: a BigQuery dataset, with the same operations and results as the DuckDB file.

A CSV is read by the embedded warehouse's own loader and arrives here as Parquet, so that rows, rejects and their
reasons are the same on both. How BigQuery is reached is in ``bigquery_client``, how its jobs run in ``bigquery_jobs``,
how rows go in and come out in ``bigquery_loading`` and ``bigquery_arrow``, its SQL in ``bigquery_sql``; nothing
connects before the first operation.
"""

import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
from pydantic import Field, PrivateAttr, SecretStr

from mlops_platform.errors import WarehouseError
from mlops_platform.resources import bigquery_sql
from mlops_platform.resources.bigquery_arrow import arrow_table, plain, write_parquet
from mlops_platform.resources.bigquery_jobs import Jobs
from mlops_platform.resources.bigquery_loading import append_once, clear_rejects, replace_rows, upload
from mlops_platform.resources.bigquery_sql import quoted
from mlops_platform.resources.bigquery_validation import BigQuerySource
from mlops_platform.resources.csv_loading import LoadResult
from mlops_platform.resources.job_labels import job_labels
from mlops_platform.resources.partitions import Partition, bigquery_partitions
from mlops_platform.resources.table_loading import META, require_columns
from mlops_platform.resources.table_version import literal, quote
from mlops_platform.resources.warehouse import DuckDBWarehouse
from mlops_platform.resources.warehouse_base import Warehouse, written_whole

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud import bigquery
    from google.cloud.bigquery.table import RowIterator
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient

    from mlops_platform.resources.bigquery_client import Place

T = TypeVar("T")


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

        of_run, timeout_ms = job_labels(), int(self.timeout * 1000)
        queries = bigquery.QueryJobConfig(
            default_dataset=f"{self.project}.{self.schema_name}",
            labels=of_run,
            job_timeout_ms=timeout_ms,
            maximum_bytes_billed=self.max_bytes,
        )
        loads = bigquery.LoadJobConfig(labels=of_run, job_timeout_ms=timeout_ms)
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
        with self._embedded() as (jobs, local, folder):
            result = local.load_csv(table, path, columns, source)
            upload(jobs, local, folder, table, columns, result.rejected)
        return result

    def load_table(self, table: str, landing: str, columns: Mapping[str, str], source: str) -> int:
        """Replaces a table by the typed rows of another one, then its entries in `rejects`.

        As with a CSV, the embedded warehouse's own loader does it.

        Raises:
            SourceError: If the landing table lacks a column or has no row that can be read; the old table stays.
            WarehouseError: If the landing table doesn't exist, or BigQuery can't take the rows.
        """
        with self._embedded() as (jobs, local, folder):
            found = {column.lower(): (column, kind) for column, kind in jobs.columns(landing)}
            require_columns(landing, found, columns, source)
            wanted = [found[column] for column in (*columns, META) if column in found]
            file = folder / "landing.parquet"
            self.export_parquet(bigquery_sql.landing_sql(landing, wanted), file)
            local.execute(f"CREATE TABLE {quote(landing)} AS FROM read_parquet({literal(str(file))})")
            rejected = local.load_table(table, landing, columns, source)
            upload(jobs, local, folder, table, columns, rejected)
        return rejected

    def replace_rows(self, table: str, file: Path, where: Mapping[str, object]) -> int:
        """Replaces some of a table's rows by those of a Parquet file, in one statement.

        Raises:
            WarehouseError: If the file's columns are not the table's, or have a type that BigQuery doesn't know.
        """
        with self._embedded() as (jobs, local, folder):
            return replace_rows(jobs, local, folder, table, file, where)

    def append_once(
        self, table: str, file: Path, columns: Mapping[str, str], name: str, failed: MutableMapping[str, int]
    ) -> None:
        """Appends a Parquet file to a table, which is made when missing: once, however often it is asked to.

        Args:
            table: Name of the table.
            file: The rows; a time in it says that it is UTC.
            columns: Column names and their DuckDB types.
            name: Of the rows, from which the job's id is made: letters, digits, `_` and `-`.
            failed: Name to the number of tries that are known to have failed; the caller keeps it between calls.

        Raises:
            WarehouseError: BigQuery can't take it, or doesn't say whether it has.
        """
        with self._working() as jobs:
            append_once(jobs, table, file, columns, name, failed)

    def clear_rejects(self, table: str) -> None:
        """Removes a table's entries from `rejects`, which is made when missing."""
        with self._working() as jobs:
            clear_rejects(jobs, table)

    def has_table(self, table: str) -> bool:
        """Says whether the table (or view) exists."""
        from google.api_core.exceptions import NotFound

        from mlops_platform.resources.bigquery_client import names_dataset

        with self._working() as jobs:
            try:
                jobs.columns(table)
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
        """Digests a table's content in BigQuery, as `table_version` does with a small table on DuckDB.

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
            return self._read(query, None, lambda rows, reader: write_parquet(rows, reader, partial))

    def fetch_arrow(self, query: str, params: Sequence[object] | None = None) -> "pa.Table":
        """Returns a query's rows as an Arrow table, read through the Storage API."""
        return self._read(query, params, arrow_table)

    def fetch_rows(self, query: str, params: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Returns a query's rows as tuples; for few rows."""
        with self._working() as jobs:
            return [tuple(plain(value) for value in row.values()) for row in jobs.query(query, params)]

    def execute(self, query: str, params: Sequence[object] | None = None) -> None:
        """Runs a statement; several in one string share no transaction unless they say so."""
        with self._working() as jobs:
            jobs.query(query, params)

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
    def _working(self) -> Iterator[Jobs]:
        """The dataset's jobs, whose errors come out as one sentence."""
        from mlops_platform.resources.bigquery_client import one_sentence, retrying

        with self.connect() as client, one_sentence(self._place()):
            yield Jobs(client, f"{self.project}.{self.schema_name}", retrying(self.retry_seconds), self.timeout)

    @contextmanager
    def _embedded(self) -> Iterator[tuple[Jobs, DuckDBWarehouse, Path]]:
        """The dataset's jobs, and an embedded warehouse in a folder of its own that prepares what they load."""
        with tempfile.TemporaryDirectory(prefix="mlops-bigquery-") as name, self._working() as jobs:
            local = DuckDBWarehouse(path=str(Path(name) / "load.duckdb"), schema_name=self.schema_name)
            with local.connect():
                yield jobs, local, Path(name)

    def _place(self) -> "Place":
        from mlops_platform.resources.bigquery_client import Place

        return Place(self.project, self.schema_name, self.location, self.endpoint, self.timeout)

    def _columns(self, table: str) -> list[tuple[str, str]]:
        with self._working() as jobs:
            return jobs.columns(table)

    def _read(
        self, query: str, params: Sequence[object] | None, take: Callable[["RowIterator", "BigQueryReadClient"], T]
    ) -> T:
        """Runs a query and takes its rows through the Storage API, again from its result if that breaks."""
        with self._working() as jobs, self._reader() as reader:
            rows = jobs.query(query, params)
            readings = chain([rows], iter(lambda: jobs.result_again(rows), None))
            # Google's client tries a session of the Storage API once
            return jobs.retry(lambda: take(next(readings), reader))()

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        from mlops_platform.resources.bigquery_client import storage_reader

        reader = storage_reader(self.key, self.storage_endpoint)
        try:
            yield reader
        finally:
            reader.transport.close()
