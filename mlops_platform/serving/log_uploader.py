"""Uploads of the event log's predictions and feedback to the warehouse, in a background thread.

An upload is a range of row ids, which is recorded before it begins and never changes: repeated after a lost response or
a kill, it is the same upload, and the destination ignores it. Uploaded events are deleted some days later. The table
that receives them belongs in ``resources.prediction_log``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from filelock import FileLock, Timeout

from mlops_platform.errors import first_line
from mlops_platform.resources.event_log import EventLog, among
from mlops_platform.resources.prediction_log import FEEDBACK, PREDICTION, BigQueryLog
from mlops_platform.sql import sql

KEPT_SECONDS, KEPT_BYTES = 7 * 86400.0, 256 * 1024**2
UPLOAD_EVENTS = 100_000
LONGEST_PAUSE_SECONDS, STOP_SECONDS = 300.0, 10.0
_KINDS = (PREDICTION, FEEDBACK)
# the next events to upload, at most a number of them; `+` makes SQLite use the row id, not the index on the kind
_NEW = sql(
    "SELECT id, body FROM events WHERE id > (SELECT coalesce(max(last), 0) FROM uploads) AND +{is_uploaded} "
    "ORDER BY id LIMIT ?",
    is_uploaded=among(_KINDS),
)
_log = logging.getLogger(__name__)


@dataclass
class UploadResult:
    """The result of a try: events that were uploaded, uploads that failed, and why the last of them did."""

    events: int = 0
    errors: int = 0
    problem: str | None = None


class LogUploader:
    """Uploads in a thread; of several processes with the same log, one uploads at a time.

    Attributes:
        problem: Why the last try failed; None if it succeeded.
    """

    def __init__(
        self, log: EventLog, destination: BigQueryLog, seconds: float, report: Callable[[UploadResult], None]
    ) -> None:
        """Start nothing yet.

        Args:
            log: The event log.
            destination: The table that receives the uploads.
            seconds: Pause between two tries; it doubles with each failure, up to five minutes.
            report: Called with the result of each try.
        """
        self.problem: str | None = None
        self._log, self._destination, self._seconds, self._report = log, destination, seconds, report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-upload", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Upload once more, and stop; events that take longer are uploaded after the next start."""
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def waiting(self) -> int:
        """Return the number of events that are not uploaded."""
        with self._log.transaction() as connection:
            ((pending,),) = connection.execute("SELECT total(events) FROM uploads WHERE uploaded_at IS NULL")
            no_limit = -1
            ((new,),) = connection.execute(sql("SELECT count(*) FROM ({new})", new=_NEW), (*_KINDS, no_limit))
        return int(pending) + int(new)

    def upload(self, wait_seconds: float = 0.0) -> UploadResult:
        """Try each pending upload once, whether or not others fail; wait a time while another process uploads."""
        result = UploadResult()
        with suppress(Timeout), self._recording_errors(result):
            self._log.path.parent.mkdir(parents=True, exist_ok=True)
            # the operating system releases the lock of a killed process
            with FileLock(f"{self._log.path}.upload.lock", timeout=wait_seconds):
                if uploads := self._record():
                    with self._destination.connected():
                        for first, last, events in uploads:
                            with self._recording_errors(result):
                                self._upload(first, last)
                                result.events += events
                self._prune()
        self.problem = result.problem
        return result

    def _record(self) -> list[tuple[int, int, int]]:
        """Record uploads of the new events, and return all pending ones as (first row, last row, events)."""
        insert = sql(
            "INSERT INTO uploads (first, last, events, bytes) "
            "SELECT min(id), max(id), count(*), total(length(body)) FROM ({new}) HAVING count(*) > 0",
            new=_NEW,
        )
        with self._log.transaction() as connection:
            while connection.execute(insert, (*_KINDS, UPLOAD_EVENTS)).rowcount:
                pass
            return connection.execute(
                "SELECT first, last, events FROM uploads WHERE uploaded_at IS NULL ORDER BY first"
            ).fetchall()

    def _upload(self, first: int, last: int) -> None:
        name = f"{self._log.identity()}-{first}-{last}"
        self._destination.take(name, self._log.read_rows(_KINDS, first, last))
        with self._log.transaction() as connection:
            connection.execute("UPDATE uploads SET uploaded_at = ? WHERE first = ?", (time.time(), first))

    def _prune(self) -> None:
        """Delete what was uploaded over seven days ago, and the oldest of more than 256 MiB."""
        old = (
            "SELECT first, last FROM (SELECT *, sum(bytes) OVER (ORDER BY first DESC) AS newer_bytes FROM uploads "
            "WHERE uploaded_at IS NOT NULL) WHERE uploaded_at < ? OR newer_bytes > ?"
        )
        delete = sql("DELETE FROM events WHERE id BETWEEN ? AND ? AND +{is_uploaded}", is_uploaded=among(_KINDS))
        with self._log.transaction() as connection:
            for first, last in connection.execute(old, (time.time() - KEPT_SECONDS, KEPT_BYTES)).fetchall():
                connection.execute(delete, (first, last, *_KINDS))
                connection.execute("DELETE FROM uploads WHERE first = ?", (first,))

    @contextmanager
    def _recording_errors(self, result: UploadResult) -> Iterator[None]:
        """Record what the block raises; whatever a client library raises, the thread continues."""
        try:
            yield
        except Timeout:
            raise
        except Exception as error:
            result.errors += 1
            result.problem = first_line(error)
            if result.problem != self.problem:
                _log.warning("Predictions wait on the disk for their upload: %s", result.problem)
                self.problem = result.problem

    def _run(self) -> None:
        pause = 0.0  # start with what the last process did not upload
        while not self._stop.wait(pause):
            self._report(self.upload())
            pause = min(max(pause, self._seconds) * 2, LONGEST_PAUSE_SECONDS) if self.problem else self._seconds
        self._report(self.upload(STOP_SECONDS))
