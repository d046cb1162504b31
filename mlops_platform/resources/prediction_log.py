"""The predictions and feedback that the service logged, in the event log on this disk or in a table of BigQuery.

On a laptop the service and the graph share a disk. In production the service uploads its event log to the table
(``serving.log_uploader``), and the graph reads the table. Both return the same rows.
"""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.resources.event_log import Event, EventLog
from mlops_platform.sql import SQL, identifiers, literal, sql

if TYPE_CHECKING:
    from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
    from mlops_platform.settings import WarehouseSettings

TABLE = "prediction_log"
PREDICTION, FEEDBACK = "prediction", "feedback"
# a text and its prediction, in the log and in the table `predictions`
ANSWER_COLUMNS = {
    "title": "VARCHAR",
    "description": "VARCHAR",
    "tag": "VARCHAR",
    "probability": "DOUBLE",
    "probabilities": "VARCHAR",
    "model_version": "VARCHAR",
}
# `segment` is the name of the upload that inserted the row
LOG_COLUMNS = {"kind": "VARCHAR", "id": "VARCHAR", "at": "TIMESTAMP", **ANSWER_COLUMNS, "segment": "VARCHAR"}
_BATCH_ROWS = 4096


class LocalLog:
    """The event log on this disk."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def days(self, first: dt.date, after: dt.date) -> list[dt.date]:
        """Return the days (UTC) from `first` up to, not including, `after` that have rows."""
        return self._log.days((PREDICTION, FEEDBACK), first, after)

    def rows(self, kind: str, day: dt.date) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of a kind and a day with the columns `LOG_COLUMNS`; memory holds a batch of them."""
        return (log_row(event) for event in self._log.read_day(kind, day))


class BigQueryLog:
    """The table `prediction_log`: partitioned by day of `at`, clustered by id."""

    def __init__(self, warehouse: BigQueryWarehouse) -> None:
        self._warehouse = warehouse
        self._failed: dict[str, int] = {}

    def days(self, first: dt.date, after: dt.date) -> list[dt.date]:
        """See `LocalLog`."""
        if not self._warehouse.has_table(TABLE):
            return []
        rows = self._warehouse.fetch_rows(
            sql('SELECT DISTINCT CAST("at" AS DATE) FROM {table} WHERE "at" >= ? AND "at" < ?', table=TABLE),
            [dt.datetime.combine(day, dt.time()) for day in (first, after)],
        )
        return sorted(day for (day,) in rows)

    def rows(self, kind: str, day: dt.date) -> Iterator[Mapping[str, Any]]:
        """See `LocalLog`; a record that a person loaded twice is returned once."""
        import pyarrow.parquet as pq

        query = sql(
            'SELECT {columns} FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY id, "at", tag ORDER BY segment) AS turn '
            'FROM {table} WHERE kind = {kind} AND "at" >= {start} AND "at" < {end}) AS numbered '
            'WHERE turn = 1 ORDER BY "at", id',
            columns=identifiers(LOG_COLUMNS),
            table=TABLE,
            kind=literal(kind),
            start=_timestamp(day),
            end=_timestamp(day + dt.timedelta(days=1)),
        )
        with tempfile.TemporaryDirectory(prefix="mlops-log-") as folder:
            file = Path(folder) / "log.parquet"
            self._warehouse.export_parquet(query, file)
            with pq.ParquetFile(file) as rows:
                for batch in rows.iter_batches(_BATCH_ROWS):
                    yield from batch.to_pylist()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Hold one connection during the block."""
        with self._warehouse.connect():
            yield

    def take(self, name: str, events: Iterable[Event]) -> None:
        """Load events, once however often it is repeated: the id of the job is derived from their name."""
        from mlops_platform.resources.warehouse.parquet_writer import write_rows

        with tempfile.TemporaryDirectory(prefix="mlops-upload-") as folder:
            file = Path(folder) / "events.parquet"
            # BigQuery loads a time from a file only if its type has a time zone
            rows = ({**log_row(event, name), "at": event.at} for event in events)
            write_rows(file, {**LOG_COLUMNS, "at": "TIMESTAMPTZ"}, rows)
            self._warehouse.append_once(TABLE, file, LOG_COLUMNS, name, self._failed)


LogStore = LocalLog | BigQueryLog


def log_store(settings: WarehouseSettings) -> LogStore:
    """Return the store of the environment."""
    if settings.env == "production":
        from mlops_platform.resources.factory import bigquery_warehouse

        return BigQueryLog(bigquery_warehouse(settings))
    return LocalLog(EventLog(settings.event_log_path))


def log_row(event: Event, segment: str | None = None) -> dict[str, Any]:
    """Return a prediction or feedback as a row of `LOG_COLUMNS`, whose `at` is in UTC without a zone."""
    row = {name: event.body.get(name) for name in LOG_COLUMNS}
    probabilities = None if row["probabilities"] is None else json.dumps(row["probabilities"])
    at = event.at.astimezone(dt.UTC).replace(tzinfo=None)
    return {**row, "kind": event.kind, "at": at, "probabilities": probabilities, "segment": segment}


def _timestamp(day: dt.date) -> SQL:
    return SQL(f"TIMESTAMP '{day.isoformat()} 00:00:00+00'")
