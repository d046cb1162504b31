"""Takes sealed segments of the prediction log to the warehouse, in a thread beside the requests.

A segment stays where it is until the warehouse has it; then it goes to `shipped/`, which is kept small.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlops_platform.serving.prediction_log import SEALED, seal_abandoned, segments

SHIPPED = "shipped"
KEPT_SECONDS, KEPT_BYTES = 7 * 86400, 256 * 1024**2
LOOK_SECONDS, LONGEST_WAIT_SECONDS = 2.0, 300.0
STOP_SECONDS = 10.0
_log = logging.getLogger(__name__)


class Destination(Protocol):
    """What takes segments; `BigQueryLog` does."""

    def connected(self) -> AbstractContextManager[None]:
        """Hold one connection for what the block takes."""

    def take(self, segment: Path) -> int:
        """Take a segment, once however often it is asked to, and return the number of its records."""


@dataclass
class Look:
    """What came of one look at the folder.

    Attributes:
        records: Records that were taken.
        errors: Segments that were not.
        problem: Why the last of those was not.
    """

    records: int = 0
    errors: int = 0
    problem: str | None = None


class Shipper:
    """Ships in a thread of its own; of several processes on a folder, one at a time does.

    Attributes:
        problem: Why the last look left a segment where it was; None where it left none.
    """

    def __init__(
        self,
        folder: Path,
        destination: Destination,
        seconds: float = LOOK_SECONDS,
        tell: Callable[[Look], None] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            folder: Of the log.
            destination: Takes the segments.
            seconds: Pause between two looks at the folder; it doubles with each failure, up to five minutes.
            tell: Is told of each look.
        """
        self.problem: str | None = None
        self._tell = tell
        self._folder, self._destination, self._seconds = folder, destination, seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="log-shipping", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ship what is sealed by now, and end; what a few seconds do not suffice for waits for the next start.

        Args:
            seconds: How long to wait.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def waiting(self) -> int:
        """Count the sealed segments that are not shipped."""
        return len(segments(self._folder))

    def ship(self) -> Look:
        """Try each waiting segment once; one that fails does not hold back the others."""
        look = Look()
        with _alone(self._folder) as alone:
            if not alone:
                return look
            seal_abandoned(self._folder)
            if waiting := segments(self._folder):
                with self._noting(look), self._destination.connected():
                    for segment in waiting:
                        with self._noting(look):
                            look.records += self._moved(segment)
            prune(self._folder / SHIPPED)
        self.problem = look.problem
        return look

    def _moved(self, segment: Path) -> int:
        count = self._destination.take(segment)
        shipped = self._folder / SHIPPED
        shipped.mkdir(exist_ok=True)
        os.utime(segment)  # in `shipped/` its age counts
        segment.rename(shipped / segment.name)
        return count

    @contextmanager
    def _noting(self, look: Look) -> Iterator[None]:
        """Note what the block throws; whatever a client library throws, the thread goes on."""
        try:
            yield
        except Exception as error:
            look.errors += 1
            look.problem = (str(error).strip() or type(error).__name__).splitlines()[0]
            if look.problem != self.problem:
                _log.warning("The prediction log waits on the disk: %s", look.problem)
                self.problem = look.problem

    def _run(self) -> None:
        pause = self._seconds
        while not self._stop.wait(pause):
            self._look()
            pause = min(pause * 2, LONGEST_WAIT_SECONDS) if self.problem else self._seconds
        self._look()  # what the service has sealed at its end

    def _look(self) -> None:
        look = Look()
        with self._noting(look):  # of the folder itself: a full disk
            look = self.ship()
        if self._tell is not None:
            self._tell(look)


def prune(folder: Path) -> None:
    """Remove shipped segments beyond seven days or 256 MiB, the oldest first.

    Args:
        folder: Has them; it may be missing.
    """
    kept = 0
    oldest = time.time() - KEPT_SECONDS
    for path in sorted(folder.glob(f"*{SEALED}"), reverse=True):
        with suppress(FileNotFoundError):
            found = path.stat()
            kept += found.st_size
            if kept > KEPT_BYTES or found.st_mtime < oldest:
                path.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether this is the one process that ships from a folder now; the system frees the lock of a killed one."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".shipping", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
