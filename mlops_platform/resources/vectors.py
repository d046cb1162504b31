"""Sentence vectors that were computed, in Parquet files by encoder: a text is encoded once in its life.

Each write is a file of its own, made beside its place and renamed, so that writers need no lock and a killed one
leaves nothing that is read. Small files are merged when they are many. The vectors can be made anew: a damaged file
is thrown away, and its texts are encoded again.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

FILES = 16  # small files of an encoder; one more and they are merged
FULL_BYTES = 64 * 2**20  # a file of this size is merged no more
REMEMBERED = 20_000  # vectors in memory, 30 MB: the folds of a search ask for the same ones again and again
_log = logging.getLogger(__name__)


class VectorStore:
    """A cache of vectors in a folder; an `ml.encoder.VectorCache`."""

    def __init__(self, folder: Path) -> None:
        """Touch nothing yet.

        Args:
            folder: Holds a folder for each encoder.
        """
        self._folder = folder
        self._memory: dict[tuple[str, bytes], npt.NDArray[np.float32]] = {}

    def read(self, encoder: str, size: int, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        """Look vectors up.

        Args:
            encoder: Digest of the encoder.
            size: Numbers in a vector.
            keys: SHA-256 of the texts.

        Returns:
            Those that are there, by key.
        """
        found = {key: self._memory[encoder, key] for key in keys if (encoder, key) in self._memory}
        if rest := [key for key in keys if key not in found]:
            stored = self._stored(encoder, size, rest)
            self._remember(encoder, stored)
            found |= stored
        return found

    def write(self, encoder: str, vectors: Mapping[bytes, npt.NDArray[np.float32]]) -> None:
        """Keep vectors; what is there already may come again.

        Args:
            encoder: Digest of the encoder.
            vectors: By SHA-256 of the text; numbers of half precision, which is what is stored.
        """
        import numpy as np
        import pyarrow as pa

        if not vectors:
            return
        self._remember(encoder, vectors)
        folder = self._folder / encoder
        halves = [vector.astype(np.float16).tobytes() for vector in vectors.values()]
        kinds = pa.schema([("text", pa.binary(32)), ("vector", pa.binary(len(halves[0])))])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _put(folder, pa.table([list(vectors), halves], schema=kinds))
            _compact(folder, kinds)
        except OSError as error:
            _log.warning("Vectors cannot be kept in %s (%s): they will be computed again.", folder, error.strerror)

    def _remember(self, encoder: str, vectors: Mapping[bytes, npt.NDArray[np.float32]]) -> None:
        for key, vector in vectors.items():
            self._memory[encoder, key] = vector
        while len(self._memory) > REMEMBERED:
            # another thread may be at it too
            with suppress(KeyError, StopIteration, RuntimeError):
                del self._memory[next(iter(self._memory))]

    def _stored(self, encoder: str, size: int, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(keys, pa.binary(32))
        found = {}
        for table in _tables(self._folder / encoder):
            if table.schema.field("vector").type != pa.binary(2 * size):
                continue
            hits = table.filter(pc.is_in(table["text"], wanted))
            for key, half in zip(hits["text"].to_pylist(), hits["vector"].to_pylist(), strict=True):
                found[key] = np.frombuffer(half, np.float16).astype(np.float32)
        return found


def _compact(folder: Path, kinds: pa.Schema) -> None:
    """Merge the small files into one, unless another process is at it."""
    if len(_small(folder)) <= FILES:
        return
    import pyarrow as pa
    from filelock import FileLock, Timeout

    with suppress(Timeout), FileLock(folder / ".lock", blocking=False):
        files = _small(folder)
        tables = [table for table in map(_table, files) if table is not None and table.schema == kinds]
        # a text that two processes encoded at once is kept once
        every = pa.concat_tables([kinds.empty_table(), *tables]).group_by("text", use_threads=False)
        _put(folder, every.aggregate([("vector", "first")]).rename_columns(kinds.names).cast(kinds))
        # a reader that meets a file which is gone lists the folder anew
        for file in files:
            file.unlink(missing_ok=True)


def _small(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.parquet")) if _size(file) < FULL_BYTES]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _put(folder: Path, table: pa.Table) -> None:
    """Write a file that appears whole."""
    import pyarrow.parquet as pq

    name = uuid.uuid4().hex
    unfinished = folder / f".{name}.{os.getpid()}.tmp"
    try:
        # the checksum finds what a disk has changed
        pq.write_table(table, unfinished, compression="none", use_dictionary=False, write_page_checksum=True)
        unfinished.replace(folder / f"{name}.parquet")
    finally:
        unfinished.unlink(missing_ok=True)


def _tables(folder: Path) -> Iterator[pa.Table]:
    """Read all files, also those into which others are merged meanwhile."""
    seen: set[Path] = set()
    while fresh := sorted(set(folder.glob("*.parquet")) - seen):
        for file in fresh:
            table = _table(file)
            if table is not None:
                yield table
        seen.update(fresh)


def _table(file: Path) -> pa.Table | None:
    """Read a file; None if it is gone, or damaged: then it goes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, columns=["text", "vector"], page_checksum_verification=True)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        _log.warning("%s is damaged (%s) and thrown away: its texts are encoded again.", file, type(error).__name__)
        file.unlink(missing_ok=True)
        return None
    return table
