"""A durable log of predictions and feedback: files of JSON lines, one writer each, that are sealed by time and size.

A worker writes to a segment `<start>-<pid>-<random>.open`, which it holds with a lock of the system; sealed, it is
called `.jsonl` and never changes again. What a killed worker leaves is sealed by the next who looks.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_platform.errors import PlatformError

OPEN, SEALED, TORN = ".open", ".jsonl", ".torn"
SYNC_SECONDS = 1.0
_ROOM = 4096
_log = logging.getLogger(__name__)


class LogError(PlatformError):
    """A record could not be kept."""


class PredictionLog:
    """Appends records for one process; its methods may be called from several threads.

    A record is with the system before `append` returns, so a killed process loses none. It is on the disk within
    about a second: what a crash of the machine may lose.

    Attributes:
        problem: Why records can't be written now; None while they can, as far as is known.
    """

    def __init__(self, folder: Path, *, seconds: float, max_bytes: int) -> None:
        """Open no file yet; the first record does.

        Args:
            folder: Takes the segments; made when missing.
            seconds: Age at which a segment is sealed.
            max_bytes: Size at which a segment is sealed.
        """
        self.problem: str | None = None
        self._folder, self._seconds, self._max_bytes = folder, seconds, max_bytes
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._path = folder
        self._began = 0.0
        self._size = 0
        self._unsynced = False
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="prediction-log", daemon=True)
        self._keeper.start()

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records, all or none.

        Args:
            records: JSON-able; a line each.

        Raises:
            LogError: They can't be written, and none of them is in the log.
        """
        lines = "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records)
        data = lines.encode()
        with self._lock:
            try:
                self._write(self._segment(len(data)), data)
            except OSError as error:
                raise LogError(self._tell(error)) from error
            self.problem = None

    def close(self) -> None:
        """Seal the segment; nothing can be appended afterwards."""
        self._closed.set()
        self._keeper.join()
        with self._lock:
            self._seal()

    def _segment(self, coming: int) -> int:
        if self._descriptor is not None and (self._size + coming > self._max_bytes or self._aged()):
            self._seal()
        if self._descriptor is None:
            self._open()
        assert self._descriptor is not None  # noqa: S101
        return self._descriptor

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        while True:
            start = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
            path = self._folder / f"{start}-{os.getpid()}-{secrets.token_hex(4)}{OPEN}"
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            if _locked(descriptor):
                break
            os.close(descriptor)  # somebody who seals what is abandoned was faster
        self._descriptor, self._path = descriptor, path
        self._began, self._size = time.monotonic(), 0

    def _write(self, descriptor: int, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError:
            # a full disk takes a part: half a record would spoil the next one
            self._cut(descriptor)
            raise
        self._size += len(data)
        self._unsynced = True

    def _cut(self, descriptor: int) -> None:
        """Take back what stands after the last record."""
        try:
            os.ftruncate(descriptor, self._size)
        except OSError:
            # without its lock it counts as left by a killed writer, whose last half record is set aside
            os.close(descriptor)
            self._descriptor, self._unsynced = None, False
            raise

    def _tell(self, error: OSError) -> str:
        """Keep what is wrong, and log it as it begins, not for each request; the lock is held."""
        problem = (
            f"The prediction log {self._folder} cannot be written ({error.strerror}): free some space, or check the "
            "permissions of MLOPS_HOME."
        )
        if self.problem is None:
            _log.error("%s", problem)
        self.problem = problem
        return problem

    def _try(self) -> None:
        """See whether there is room for a record: no request may come to find out."""
        try:
            descriptor = self._segment(0)
            try:
                room = os.write(descriptor, b" " * _ROOM) == _ROOM
            finally:
                self._cut(descriptor)
            if not room:  # what is left of a disk takes a part without an error
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._tell(error)
        else:
            self.problem = None

    def _crowded(self) -> bool:
        """Whether the disk seems to be full, which the other workers may have met and this one not yet."""
        try:
            found = os.statvfs(self._folder)
        except OSError:  # nothing is written yet
            return False
        return found.f_bavail * found.f_frsize < _ROOM

    def _aged(self) -> bool:
        return time.monotonic() - self._began >= self._seconds

    def _seal(self) -> None:
        if self._descriptor is None:
            return
        with suppress(OSError):  # the system has the records; the disk may be in trouble
            os.fsync(self._descriptor)
        with suppress(FileNotFoundError):  # somebody has removed it: the next record begins another
            sealed(self._path)
        os.close(self._descriptor)
        self._descriptor, self._unsynced = None, False

    def _keep(self) -> None:
        """Brings records to the disk, and seals a segment that no request comes to seal."""
        while not self._closed.wait(SYNC_SECONDS):
            with self._lock:
                if self.problem is not None or self._crowded():
                    self._try()
                if self._descriptor is None:
                    continue
                if self._aged():
                    with suppress(OSError):
                        self._seal()
                    continue
                # a descriptor of its own, so that requests need not wait for the disk
                copy = os.dup(self._descriptor) if self._unsynced else None
                self._unsynced = False
            if copy is not None:
                with suppress(OSError):
                    os.fsync(copy)
                os.close(copy)


def seal_abandoned(folder: Path) -> int:
    """Seal the segments whose writer has died.

    What follows the last whole line, a record that nobody was told of, is set aside in a `.torn` file.

    Args:
        folder: Of the log; it may be missing.

    Returns:
        How many there were.
    """
    found = 0
    for path in sorted(folder.glob(f"*{OPEN}")):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # sealed by its writer meanwhile
        try:
            if not _locked(descriptor) or not path.exists():
                continue
            _set_aside_torn(descriptor, path)
            sealed(path)
            found += 1
        finally:
            os.close(descriptor)
    return found


def segments(folder: Path) -> list[Path]:
    """List the sealed segments, oldest first.

    Args:
        folder: Of the log; it may be missing.
    """
    return sorted(folder.glob(f"*{SEALED}"))


def started(segment: Path) -> datetime:
    """Tell when a segment was begun (UTC); its records are not older."""
    return datetime.strptime(segment.name.split("-")[0], "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC)


def records(segment: Path) -> Iterator[dict[str, Any]]:
    """Read a sealed segment.

    Args:
        segment: One of `segments`.

    Yields:
        The records, in the order in which they were written.

    Raises:
        LogError: A line is no record: somebody has written to the file.
    """
    with segment.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise LogError(f"{segment}, line {number}, is no record: mend the line, or move the file away.")
            yield record


def sealed(path: Path) -> Path | None:
    """Give an open segment its final name; an empty one goes.

    Args:
        path: The open segment, whose lock the caller holds.

    Returns:
        Where it is now; None for an empty one.
    """
    if path.stat().st_size == 0:
        path.unlink()
        return None
    return path.rename(path.with_suffix(SEALED))


def _set_aside_torn(descriptor: int, path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        path.with_suffix(TORN).write_bytes(content[whole:])
        os.ftruncate(descriptor, whole)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
