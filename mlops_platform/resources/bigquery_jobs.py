"""Jobs on one BigQuery dataset: how they are started, waited for, tried again and cancelled.

Needs a client that somebody else has opened; its defaults hold for each job.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from pathlib import Path

    from google.api_core.retry import Retry
    from google.cloud import bigquery
    from google.cloud.bigquery.table import RowIterator

_HTTP_SECONDS = 60.0


@dataclass(frozen=True)
class Jobs:
    """Starts jobs, and asks for tables, on one dataset.

    Attributes:
        client: An open client.
        dataset: Its full name, `project.dataset`.
        retry: What is tried again, and for how long.
        timeout: Seconds that a job may take.
    """

    client: bigquery.Client
    dataset: str
    retry: Retry
    timeout: float

    def id(self, table: str) -> str:
        """Full name of a table."""
        return f"{self.dataset}.{table}"

    def columns(self, table: str) -> list[tuple[str, str]]:
        """Lists a table's columns as (name, BigQuery type)."""
        found = self.client.get_table(self.id(table), retry=self.retry, timeout=_HTTP_SECONDS)
        return [(field.name, field.field_type) for field in found.schema]

    def create(self, table: bigquery.Table) -> None:
        """Makes a table unless it is there."""
        self.client.create_table(table, exists_ok=True, retry=self.retry, timeout=_HTTP_SECONDS)

    def drop(self, table: str) -> None:
        """Removes a table if it is there."""
        self.client.delete_table(self.id(table), not_found_ok=True, retry=self.retry, timeout=_HTTP_SECONDS)

    def query(self, query: str, params: Sequence[object] | None = None) -> RowIterator:
        """Runs a query as a job and waits for it; what interrupts the waiting cancels the job."""
        from google.cloud import bigquery

        config = bigquery.QueryJobConfig(query_parameters=[_parameter(value) for value in params or ()])

        def run() -> RowIterator:
            # with a job_retry, Google's client tries a refused insert again for ten minutes, whatever it is told
            job = self.client.query(query, config, retry=self.retry, job_retry=None, timeout=_HTTP_SECONDS)
            with _cancelled_if_left(job):
                # BigQuery stops the job itself after `timeout`: this is for the case that it doesn't
                return job.result(retry=self.retry, job_retry=None, timeout=self.timeout + _HTTP_SECONDS)

        return self.retry(run)()  # a job that failed has done nothing, and may run anew

    def result_again(self, rows: RowIterator) -> RowIterator:
        """Opens the result of a query's job once more."""
        job: Any = self.client.get_job(
            str(rows.job_id), location=rows.location, retry=self.retry, timeout=_HTTP_SECONDS
        )
        return job.result(retry=self.retry)

    def load(self, table: str, file: Path, config: bigquery.LoadJobConfig) -> None:
        """Loads a file into a table in one job; the config says that it replaces what is there."""

        def load() -> None:
            with file.open("rb") as stream:
                job = self.client.load_table_from_file(
                    stream, self.id(table), job_config=config, num_retries=0, timeout=_HTTP_SECONDS
                )
            with _cancelled_if_left(job):
                job.result(retry=self.retry, timeout=self.timeout + _HTTP_SECONDS)

        self.retry(load)()  # a load that replaces may run twice

    def load_once(
        self, table: str, file: Path, config: bigquery.LoadJobConfig, name: str, failed: MutableMapping[str, int]
    ) -> None:
        """Appends a file to a table, once however often, and from wherever, it is asked to.

        A job's id can be used once in a project and location. The id is made from the name and the number of the
        try: a try that is there already is waited for, and the next is begun only when it has failed, having loaded
        nothing.

        Args:
            table: Name of the table.
            file: The rows.
            config: Of the load job.
            name: Of the rows: letters, digits, `_` and `-`.
            failed: Name to the number of tries that are known to have failed; it is kept up to date.
        """
        from google.api_core.exceptions import Conflict, GoogleAPICallError

        def load() -> None:
            while True:
                job_id = f"{table}_{name}_{failed.get(name, 0)}"
                try:
                    with file.open("rb") as stream:
                        job: Any = self.client.load_table_from_file(
                            stream,
                            self.id(table),
                            job_id=job_id,
                            job_config=config,
                            num_retries=0,
                            timeout=_HTTP_SECONDS,
                        )
                    found = False
                except Conflict:
                    job = self.client.get_job(job_id, retry=self.retry, timeout=_HTTP_SECONDS)
                    found = True
                try:
                    # not cancelled when it is left: whoever comes next finds it
                    job.result(retry=self.retry, timeout=self.timeout + _HTTP_SECONDS)
                except GoogleAPICallError:
                    if job.state != "DONE" or not job.error_result:
                        raise  # it could not be asked
                    failed[name] = failed.get(name, 0) + 1
                    if not found:
                        raise
                else:
                    failed.pop(name, None)
                    return

        self.retry(load)()


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


def _parameter(value: Any) -> bigquery.ScalarQueryParameter:
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
