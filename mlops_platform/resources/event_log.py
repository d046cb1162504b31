"""The event log: predictions, feedback and labels in one SQLite file that several processes append to and read.

What an event holds is decided by its writer: ``serving`` for predictions and feedback, ``label_log`` for labels. The
file must be on a local disk: SQLite's WAL mode does not work over a network file system.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock

from mlops_platform.errors import EventLogError
from mlops_platform.sql import SQL, sql

__all__ = ["Event", "EventLog", "EventLogError", "among"]

BUSY_SECONDS = 30.0  # how long a writer waits for the others
_PROBE_BYTES = 16_384
_SCHEMA = """
    BEGIN IMMEDIATE;
    CREATE TABLE log (id TEXT NOT NULL);
    INSERT INTO log VALUES (lower(hex(randomblob(8))));
    -- AUTOINCREMENT: the row id of a deleted event is never given again
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL
    );
    CREATE INDEX events_by_time ON events (kind, at);
    -- ranges of row ids that are on their way to a warehouse, or there
    CREATE TABLE uploads (
        first INTEGER PRIMARY KEY, last INTEGER NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL,
        uploaded_at REAL
    );
    CREATE TABLE probe (content BLOB NOT NULL);
    PRAGMA user_version = 1;
    COMMIT;
"""
_INSERT = "INSERT INTO events (kind, at, body) VALUES (?, ?, ?)"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """A prediction, feedback or a label.

    Attributes:
        at: With a time zone.
        body: JSON values.
        row_id: Its place in the log, counted from 1; 0 for an event that is not in a log yet.
    """

    kind: str
    at: datetime
    body: Mapping[str, Any]
    row_id: int = 0


class EventLog:
    """The log in one file. Threads may share an instance; each process has its own.

    Attributes:
        path: The file. It is created by the first write; to a reader a missing file is an empty log.
        problem: Why the last write failed; None if it succeeded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._lock = threading.RLock()
        self._waiting: deque[tuple[list[tuple[str, str, str]], Future[None]]] = deque()

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        with self._lock:
            self._disconnect()

    def append(self, events: Sequence[Event]) -> None:
        """Append events, all or none; they are on the disk when this returns."""
        committed: Future[None] = Future()
        self._waiting.append(([_row(event) for event in events], committed))
        with self._lock:
            # group commit: the thread that gets the lock writes the events of all waiting threads
            if not committed.done():
                self._commit([self._waiting.popleft() for _ in range(len(self._waiting))])
        committed.result()

    def append_chosen(self, kind: str, choose: Callable[[Sequence[Event]], Sequence[Event]]) -> None:
        """Append the events that a function chooses given those of a kind in the log; other writers wait meanwhile."""
        with self.transaction() as connection:
            connection.executemany(_INSERT, [_row(event) for event in choose(tuple(self.read(kind)))])

    def probe(self) -> None:
        """Write some bytes that are not an event, to set `problem` to the current state of the disk."""
        with suppress(EventLogError), self.transaction() as connection:
            connection.execute("DELETE FROM probe")
            connection.execute("INSERT INTO probe VALUES (zeroblob(?))", (_PROBE_BYTES,))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection inside a transaction that excludes other writers.

        Raises:
            EventLogError: SQLite reports an error; the transaction is rolled back.
        """
        with self._lock:
            try:
                if self._connection is None or not self._is_current():
                    self._disconnect()
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self.path.touch(mode=0o640)  # SQLite gives its other files the same permissions
                    self._connection = _connect(self.path)
                    self._inode = self.path.stat().st_ino
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except (OSError, sqlite3.Error) as error:
                self._disconnect()
                problem = (
                    f"The event log {self.path} cannot be written ({error}): free some space, or check the permissions "
                    "of MLOPS_HOME."
                )
                if self.problem is None:  # logged as it begins, not for each request
                    _log.error("%s", problem)
                self.problem = problem
                raise EventLogError(problem) from error
            except BaseException:
                self._disconnect()
                raise
            self.problem = None

    def identity(self) -> str | None:
        """Return the random name that tells this log from others; None if the log is missing."""
        return next((str(name) for (name,) in self._select("SELECT id FROM log")), None)

    def last_row(self, kind: str) -> int:
        """Return the highest row id of a kind of event; 0 if there is none."""
        rows = self._select("SELECT coalesce(max(+id), 0) FROM events WHERE kind = ?", kind)
        return next((int(row_id) for (row_id,) in rows), 0)

    def read(self, kind: str) -> Iterator[Event]:
        """Yield all events of a kind by row id."""
        # `+` keeps SQLite from reading the whole table in this order
        return self._events(SQL("kind = ? ORDER BY +id"), kind)

    def read_day(self, kind: str, day: date) -> Iterator[Event]:
        """Yield the events of a kind and a day (UTC) by time."""
        bounds = day.isoformat(), (day + timedelta(days=1)).isoformat()
        return self._events(SQL("kind = ? AND at >= ? AND at < ? ORDER BY at, id"), kind, *bounds)

    def read_rows(self, kinds: Sequence[str], first: int, last: int) -> Iterator[Event]:
        """Yield the events of some kinds whose row ids are from `first` to `last`, both included."""
        condition = sql("id BETWEEN ? AND ? AND +{is_wanted} ORDER BY id", is_wanted=among(kinds))
        return self._events(condition, first, last, *kinds)

    def days(self, kinds: Sequence[str], first: date, after: date) -> list[date]:
        """Return the days (UTC) from `first` up to, not including, `after` that have events of some kinds."""
        query = sql(
            "SELECT DISTINCT substr(at, 1, 10) FROM events WHERE {is_wanted} AND at >= ? AND at < ?",
            is_wanted=among(kinds),
        )
        rows = self._select(query, *kinds, first.isoformat(), after.isoformat())
        return sorted(date.fromisoformat(day) for (day,) in rows)

    def _events(self, condition: SQL, *parameters: str | int) -> Iterator[Event]:
        query = sql("SELECT id, kind, at, body FROM events WHERE {condition}", condition=condition)
        for row_id, kind, at, body in self._select(query, *parameters):
            yield Event(kind, datetime.fromisoformat(at), json.loads(body), row_id)

    def _select(self, query: str, *parameters: str | int) -> Iterator[tuple[Any, ...]]:
        if not self.path.exists():
            return
        try:
            with closing(_connect(self.path)) as connection:
                yield from connection.execute(query, parameters)
        except (OSError, sqlite3.Error) as error:
            raise EventLogError(
                f"The event log {self.path} cannot be read ({error}): check the permissions of MLOPS_HOME, or restore "
                "the file from a backup."
            ) from error

    def _commit(self, group: Sequence[tuple[list[tuple[str, str, str]], Future[None]]]) -> None:
        try:
            with self.transaction() as connection:
                connection.executemany(_INSERT, [row for rows, _ in group for row in rows])
        except Exception as error:
            for _, committed in group:
                committed.set_exception(error)
        else:
            for _, committed in group:
                committed.set_result(None)

    def _is_current(self) -> bool:
        """Return whether the open file is still the one at the path, which somebody may have moved."""
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _disconnect(self) -> None:
        """Close the connection, which rolls an open transaction back."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def among(kinds: Sequence[str]) -> SQL:
    """Return the SQL condition that an event is of one of some kinds, which are its parameters."""
    return SQL(f"kind IN ({', '.join('?' * len(kinds))})")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        if _is_empty(connection):
            # SQLite does not wait for other processes while it changes the mode of a file
            with FileLock(f"{path}.lock"):
                if _is_empty(connection):
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("PRAGMA user_version").fetchone() == (0,)


def _row(event: Event) -> tuple[str, str, str]:
    at = event.at.astimezone(UTC).isoformat(timespec="microseconds")
    return event.kind, at, json.dumps(event.body, ensure_ascii=False, separators=(",", ":"))
