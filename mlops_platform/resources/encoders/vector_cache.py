"""Cache of sentence vectors in an SQLite file, so that a text is encoded once.

The vectors can be computed again, so no failure of the cache fails a run: a damaged file is replaced by an empty
one, and a full disk only costs time.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["SqliteVectorCache"]

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS vectors "
    "(encoder TEXT, text BLOB, vector BLOB, crc32 INTEGER, PRIMARY KEY (encoder, text)) WITHOUT ROWID"
)
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


class SqliteVectorCache:
    """A cache of vectors in half precision; several threads and processes read and write it at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, encoder: str, size: int, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        """Return the undamaged vectors of an encoder (its digest) and a size by key (SHA-256 of the text)."""
        import numpy as np

        def select(connection: sqlite3.Connection) -> list[tuple[bytes, bytes, int]]:
            query = "SELECT text, vector, crc32 FROM vectors WHERE encoder = ? AND text = ?"
            return [row for key in keys for row in connection.execute(query, (encoder, key))]

        return {
            key: np.frombuffer(vector, np.float16).astype(np.float32)
            for key, vector, checksum in self._with_connection(select) or ()
            if len(vector) == 2 * size and zlib.crc32(vector) == checksum
        }

    def write(self, encoder: str, vectors: Mapping[bytes, npt.NDArray[np.float32]]) -> None:
        """Store vectors by SHA-256 of the text, replacing those that are cached already."""
        import numpy as np

        halves = ((key, vector.astype(np.float16).tobytes()) for key, vector in vectors.items())
        rows = [(encoder, key, half, zlib.crc32(half)) for key, half in halves]

        def insert(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)

        self._with_connection(insert)

    def _with_connection(self, action: Callable[[sqlite3.Connection], _Result]) -> _Result | None:
        """Return what an action returns on the open cache; None if the cache fails."""
        for _ in range(2):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(self._path, timeout=60)) as connection:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute(_SCHEMA)
                    return action(connection)
            except (sqlite3.OperationalError, OSError) as error:  # locked, full, read-only
                _log.warning("The vector cache %s cannot be used (%s): texts are encoded again.", self._path, error)
                break
            except sqlite3.DatabaseError as error:
                _log.warning("The vector cache %s is damaged (%s) and starts empty.", self._path, error)
                for suffix in ("", "-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        return None
