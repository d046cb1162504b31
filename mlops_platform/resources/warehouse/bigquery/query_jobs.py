"""Jobs on one BigQuery dataset: queries and loads, waited for, retried and cancelled by Google's client.

The labels, the time-out and the byte limit of each job are defaults of the client, which somebody else has opened.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud import bigquery
    from google.cloud.bigquery.table import RowIterator

_HTTP_SECONDS = 60.0
_PARAMETER_TYPES = (  # in this order: a bool is an int, a datetime a date
    (bool, "BOOL"),
    (int, "INT64"),
    (float, "FLOAT64"),
    (datetime.datetime, "TIMESTAMP"),
    (datetime.date, "DATE"),
)


@dataclass(frozen=True)
class Jobs:
    """Runs jobs and reads table definitions on one dataset.

    Attributes:
        client: An open client.
        dataset: Full name of the dataset, `project.dataset`.
        retry_seconds: How long a passing failure is retried.
        timeout: Seconds that a job may take.
    """

    client: bigquery.Client
    dataset: str
    retry_seconds: float
    timeout: float

    @property
    def retry(self) -> Retry:
        """What Google's client retries: 429, 5xx, rate limits, broken connections."""
        from google.cloud.bigquery import DEFAULT_RETRY

        return DEFAULT_RETRY.with_timeout(self.retry_seconds)

    def table_id(self, table: str) -> str:
        """Return the full name of a table."""
        return f"{self.dataset}.{table}"

    def columns(self, table: str) -> list[tuple[str, str]]:
        """Return a table's columns as (name, BigQuery type)."""
        schema = self.client.get_table(self.table_id(table), retry=self.retry, timeout=_HTTP_SECONDS).schema
        return [(field.name, field.field_type) for field in schema]

    def create(self, table: bigquery.Table) -> None:
        """Create a table unless it exists."""
        self.client.create_table(table, exists_ok=True, retry=self.retry, timeout=_HTTP_SECONDS)

    def drop(self, table: str) -> None:
        """Drop a table if it exists."""
        self.client.delete_table(self.table_id(table), not_found_ok=True, retry=self.retry, timeout=_HTTP_SECONDS)

    def query(self, query: str, params: Sequence[object] | None = None) -> RowIterator:
        """Run a query of BigQuery's dialect and wait for it."""
        from google.cloud.bigquery import QueryJobConfig
        from google.cloud.bigquery.retry import DEFAULT_JOB_RETRY

        config = QueryJobConfig(query_parameters=[_parameter(value) for value in params or ()])
        # job_retry belongs to result(): with one here, the client retries a refused insert for ten minutes
        job = self.client.query(query, config, retry=self.retry, job_retry=None, timeout=_HTTP_SECONDS)
        with _cancelled_on_error(job):
            job_retry = DEFAULT_JOB_RETRY.with_timeout(self.retry_seconds)
            return job.result(retry=self.retry, job_retry=job_retry, timeout=self._wait_seconds)

    def load(self, table: str, file: Path, config: bigquery.LoadJobConfig) -> None:
        """Load a Parquet file into a table in one job, which replaces what the table holds or leaves it."""
        from google.cloud.bigquery import WriteDisposition

        config.write_disposition = WriteDisposition.WRITE_TRUNCATE

        def load() -> None:
            job = self._upload(table, file, config, None)
            with _cancelled_on_error(job):
                job.result(retry=self.retry, timeout=self._wait_seconds)

        self.retry(load)()  # a load that replaces may run twice

    def load_once(
        self, table: str, file: Path, config: bigquery.LoadJobConfig, name: str, failed: MutableMapping[str, int]
    ) -> None:
        """Append a Parquet file to a table: once, however often and from however many processes this is called.

        A job id can be used once in a project and location. The id consists of the table, the name of the rows and
        the number of the attempt (in `failed`, kept up to date): an attempt that exists is waited for, and the next
        one starts only after it has failed.
        """
        from google.api_core.exceptions import Conflict, GoogleAPICallError
        from google.cloud.bigquery import WriteDisposition

        config.write_disposition = WriteDisposition.WRITE_APPEND

        def load() -> None:
            for attempt in itertools.count(failed.get(name, 0)):
                job_id, exists = f"{table}_{name}_{attempt}", False
                try:
                    job = self._upload(table, file, config, job_id)
                except Conflict:
                    exists = True
                    job = self.client.get_job(job_id, retry=self.retry, timeout=_HTTP_SECONDS)
                try:
                    # not cancelled on an error: the next call waits for it
                    job.result(retry=self.retry, timeout=self._wait_seconds)
                except GoogleAPICallError:
                    if job.state != "DONE" or not job.error_result:
                        raise  # the outcome is unknown
                    failed[name] = attempt + 1
                    if not exists:
                        raise
                else:
                    failed.pop(name, None)
                    return

        self.retry(load)()

    @property
    def _wait_seconds(self) -> float:
        # BigQuery stops a job itself after `timeout`; the client stops waiting if it does not
        return self.timeout + _HTTP_SECONDS

    def _upload(self, table: str, file: Path, config: bigquery.LoadJobConfig, job_id: str | None) -> Any:
        from google.cloud.bigquery import SourceFormat

        config.source_format = SourceFormat.PARQUET
        with file.open("rb") as stream:
            return self.client.load_table_from_file(
                stream, self.table_id(table), job_id=job_id, job_config=config, timeout=_HTTP_SECONDS
            )


@contextmanager
def _cancelled_on_error(job: Any) -> Iterator[None]:
    """Cancel a job that is no longer waited for, so that a run that timed out or was terminated stops paying."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            job.cancel(retry=None, timeout=5.0)
        raise


def _parameter(value: Any) -> bigquery.ScalarQueryParameter:
    from google.cloud.bigquery import ScalarQueryParameter

    type_name = next((name for kind, name in _PARAMETER_TYPES if isinstance(value, kind)), "STRING")
    return ScalarQueryParameter(None, type_name, value)
