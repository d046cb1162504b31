"""Where `predictions` reads what the service has answered: the sealed segments, or a table of BigQuery.

On a laptop the service and the graph share a disk, so the segments are the store. In production they need not: the
service ships each segment to the table (``shipping``), and the graph reads that. Both give the same rows.
"""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlops_platform.serving.prediction_log import LogError, records, seal_abandoned, segments, started

if TYPE_CHECKING:
    from mlops_platform.resources.bigquery import BigQueryWarehouse
    from mlops_platform.settings import Settings

TABLE = "prediction_log"
PREDICTION, FEEDBACK = "prediction", "feedback"
# a text and what a model says of it, in the log as in the table `predictions`
ANSWER_COLUMNS = {
    "title": "VARCHAR",
    "description": "VARCHAR",
    "tag": "VARCHAR",
    "probability": "DOUBLE",
    "probabilities": "VARCHAR",
    "model_version": "VARCHAR",
}
LOG_COLUMNS = {"kind": "VARCHAR", "id": "VARCHAR", "at": "TIMESTAMP", **ANSWER_COLUMNS, "segment": "VARCHAR"}
_MAX_LAG = dt.timedelta(days=1)  # between the start of a segment and its last record
_BATCH_ROWS = 4096


class LogStore(Protocol):
    """What is asked of the log once it is written."""

    def prepare(self) -> None:
        """See that all that can be read is there to read."""

    def days(self, first: dt.date, after: dt.date) -> list[dt.date]:
        """List the days (UTC) from `first` up to, not including, `after` that may have records."""

    def rows(self, kind: str, day: dt.date) -> Iterator[Mapping[str, Any]]:
        """Read the records of a kind and a day as rows of `LOG_COLUMNS`; memory holds a batch."""


class LocalSegments:
    """The segments on this disk."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet.

        Args:
            folder: Of the log; it may be missing.
        """
        self._folder = folder

    def prepare(self) -> None:
        """Seal what killed workers have left."""
        seal_abandoned(self._folder)

    def days(self, first: dt.date, after: dt.date) -> list[dt.date]:
        """See `LogStore`."""
        begun = {started(segment).date() for segment in segments(self._folder)}
        found = {day + dt.timedelta(days=late) for day in begun for late in (0, 1)}
        return sorted(day for day in found if first <= day < after)

    def rows(self, kind: str, day: dt.date) -> Iterator[Mapping[str, Any]]:
        """See `LogStore`."""
        for segment in segments(self._folder):
            if not day - _MAX_LAG <= started(segment).date() <= day:
                continue
            for row in segment_rows(segment):
                if row["kind"] == kind and row["at"].date() == day:
                    yield row


class BigQueryLog:
    """The table `prediction_log`: partitioned by day of `at`, clustered by id."""

    def __init__(self, warehouse: BigQueryWarehouse) -> None:
        """Open nothing yet.

        Args:
            warehouse: Has the table.
        """
        self._warehouse = warehouse
        self._failed: dict[str, int] = {}

    def prepare(self) -> None:
        """Do nothing: a row in the table is there."""

    def days(self, first: dt.date, after: dt.date) -> list[dt.date]:
        """See `LogStore`."""
        if not self._warehouse.has_table(TABLE):
            return []
        found = self._warehouse.fetch_rows(
            f"SELECT DISTINCT CAST(`at` AS DATE) FROM {TABLE} WHERE `at` >= ? AND `at` < ?",  # noqa: S608
            [_midnight(first), _midnight(after)],
        )
        return sorted(day for (day,) in found)

    def rows(self, kind: str, day: dt.date) -> Iterator[Mapping[str, Any]]:
        """See `LogStore`; the same record twice, which only a hand can bring about, comes once."""
        import pyarrow.parquet as pq

        # BigQuery reserves the word `at`; the emulator does not
        query = (
            f"SELECT {', '.join(f'`{name}`' for name in LOG_COLUMNS)} FROM (SELECT *, ROW_NUMBER() OVER "  # noqa: S608 - names, a kind, days
            f"(PARTITION BY id, `at`, tag ORDER BY segment) AS turn FROM {TABLE} WHERE kind = '{kind}' "
            f"AND `at` >= TIMESTAMP '{day.isoformat()} 00:00:00+00' "
            f"AND `at` < TIMESTAMP '{(day + dt.timedelta(days=1)).isoformat()} 00:00:00+00') AS numbered "
            "WHERE turn = 1 ORDER BY `at`, id"
        )
        with tempfile.TemporaryDirectory(prefix="mlops-log-") as name:
            file = Path(name) / "log.parquet"
            self._warehouse.export_parquet(query, file)
            with pq.ParquetFile(file) as read:
                for batch in read.iter_batches(_BATCH_ROWS):
                    yield from batch.to_pylist()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Hold one connection for what the block takes."""
        with self._warehouse.connect():
            yield

    def take(self, segment: Path) -> int:
        """Load a sealed segment, in one job that can succeed once only, whoever asks for it and how often.

        Args:
            segment: The segment; its name makes the id of the job.

        Returns:
            Number of its records.

        Raises:
            PlatformError: It is not in the table.
        """
        from mlops_platform.resources.parquet_rows import write_rows

        count = 0

        def counted() -> Iterator[Mapping[str, Any]]:
            nonlocal count
            for row in segment_rows(segment):
                count += 1
                yield {**row, "at": row["at"].replace(tzinfo=dt.UTC)}

        with tempfile.TemporaryDirectory(prefix="mlops-segment-") as name:
            file = Path(name) / "segment.parquet"
            # BigQuery takes a time of a file only if that says that it is UTC
            write_rows(file, {**LOG_COLUMNS, "at": "TIMESTAMPTZ"}, counted())
            self._warehouse.append_once(TABLE, file, LOG_COLUMNS, segment.stem, self._failed)
        return count


def log_store(settings: Settings) -> LocalSegments | BigQueryLog:
    """The store of the environment.

    Args:
        settings: Which environment, and where the store is.
    """
    if settings.env == "production":
        from mlops_platform.resources.assembly import bigquery_warehouse

        return BigQueryLog(bigquery_warehouse(settings))
    return LocalSegments(settings.prediction_log_dir)


def segment_rows(segment: Path) -> Iterator[dict[str, Any]]:
    """Read a sealed segment as rows.

    Args:
        segment: The segment.

    Yields:
        Rows of `LOG_COLUMNS`; `at` is in UTC, without a zone.

    Raises:
        LogError: A line is none that the service writes.
    """
    for number, record in enumerate(records(segment), start=1):
        try:
            at = dt.datetime.fromisoformat(record["at"]).astimezone(dt.UTC).replace(tzinfo=None)
            row = {**{name: record.get(name) for name in LOG_COLUMNS}, "kind": record["kind"], "id": record["id"]}
        except (KeyError, TypeError, ValueError):
            raise LogError(
                f"{segment}, line {number}, is no record of the service: mend the line, or move the file away."
            ) from None
        probabilities = None if record.get("probabilities") is None else json.dumps(record["probabilities"])
        yield {**row, "at": at, "probabilities": probabilities, "segment": segment.stem}


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time())
