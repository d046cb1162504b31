"""Snapshots of the training data, named by the version of their content: a Parquet file, or a folder of some.

A snapshot that has all rows of an older one shares its files (hard links) and adds one: a folder of parts. Whichever of
the two is deleted first, the other stays whole.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mlops_platform.errors import PlatformError
from mlops_platform.resources.duckdb_validation import DuckDBSource
from mlops_platform.resources.parquet_reading import count_tags, parquet_sql, read_split
from mlops_platform.resources.shuffling import write_shuffled
from mlops_platform.resources.table_version import literal

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

MOST_PARTS = 20  # each is read by itself
COLUMNS = ("id", "created_on", "title", "description", "tag", "split")


class DatasetStore(dg.ConfigurableResource):
    """Where snapshots lie; a version that is there and whole is never written again."""

    base_dir: str
    memory_mb: int = Field(default=1024, ge=64, description="MiB that DuckDB may hold in memory.")

    def path(self, version: str) -> Path:
        """Where the snapshot of a version is, or will be."""
        return Path(self.base_dir) / f"{version}.parquet"

    def files(self, version: str) -> list[Path]:
        """The files that a snapshot consists of, in the order of their rows; none if it is not there."""
        path = self.path(version)
        if path.is_dir():
            return sorted(path.glob("*.parquet"))
        return [path] if path.exists() else []

    def grown(self, version: str, versions: Iterable[tuple[int, str]]) -> tuple[int, str] | None:
        """Finds a snapshot that another one can continue.

        Args:
            version: The snapshot to be made.
            versions: Number of rows and version of those that have its first rows, in the order of preference.

        Returns:
            The first of them that is here and seems whole: each file's end tells how many rows it has. None where the
            snapshot itself is here: it is made again because it is damaged, and may share what is.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.path(version).exists():
            return None
        for rows, earlier in versions:
            files = self.files(earlier)
            if not 0 < len(files) < MOST_PARTS:
                continue
            try:
                if sum(pq.read_metadata(file).num_rows for file in files) == rows:
                    return rows, earlier
            except (OSError, pa.ArrowInvalid):
                continue
        return None

    def continue_from(self, earlier: str, version: str, write: Callable[[Path], object]) -> None:
        """Makes a snapshot of another one and of rows that come after its rows; it appears whole or not at all.

        Args:
            earlier: The version that is there.
            version: The version to be made.
            write: Writes the further rows to a file.
        """
        path = self.path(version)
        # whoever makes a snapshot does so alone: what else is here was left by a kill
        for left in path.parent.glob(".*.parts"):
            shutil.rmtree(left)
        partial = path.with_name(f".{path.name}.parts")
        partial.mkdir()
        try:
            files = self.files(earlier)
            for number, file in enumerate(files):
                _share(file, partial / f"{number:04}.parquet")
            write(partial / f"{len(files):04}.parquet")
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def write(self, version: str, write: Callable[[Path], object]) -> None:
        """Makes a snapshot of one file, in place of one of several that is damaged.

        Args:
            version: The version to be made.
            write: Writes all rows to a file, which appears whole or not at all.
        """
        if self.path(version).is_dir():
            shutil.rmtree(self.path(version))
        write(self.path(version))

    def holds(self, version: str, rows: int) -> bool:
        """Whether the whole snapshot of a version is there: each page is read, for a damaged file may open.

        Args:
            version: The data version.
            rows: How many it must have.
        """
        import duckdb

        if not self.path(version).exists():
            return False
        try:
            with self.view(version, "snapshot", "main") as connection:
                counted = connection.execute("select count(*), bit_xor(hash(snapshot)) from snapshot").fetchall()
        except (duckdb.Error, PlatformError):
            return False
        return bool(counted[0][0] == rows)

    def load(self, version: str, split: str) -> "pd.DataFrame":
        """Read one split, ordered by id.

        Args:
            version: The data version.
            split: `train` or `test`.

        Returns:
            One row a project; columns id, created_on, title, description, tag, split.

        Raises:
            PlatformError: The snapshot is not there, or damaged.
        """
        import pandas as pd

        with self._reading(version) as path:
            frame = pd.read_parquet(path, filters=[("split", "==", split)])
        return frame.sort_values("id", ignore_index=True)

    def batches(self, version: str, split: str, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        """Read one split in an order as good as random, some thousand rows at a time (see `shuffled`).

        Args:
            version: The data version.
            split: `train` or `test`.
            columns: Names of the columns wanted.

        Raises:
            PlatformError: The snapshot is not there, or damaged.
        """
        path = self.shuffled(version)
        try:
            yield from read_split([path], split, columns)
        except (OSError, ValueError) as error:
            self._shuffled_copy(version).unlink(missing_ok=True)  # it is made again from the snapshot
            raise _damaged(path) from error

    def sample(self, version: str, split: str, rows: int) -> "pd.DataFrame":
        """Read some rows of a split, by a hash of the id: of each tag its share of `rows`, two at least.

        They are the first ones in the shuffled order, so little is read.

        Args:
            version: The data version.
            split: `train` or `test`.
            rows: About how many; all that there are if they are fewer.

        Returns:
            As `load`.

        Raises:
            PlatformError: The snapshot is not there, or damaged.
        """
        import numpy as np
        import pandas as pd
        import pyarrow as pa

        counts = self.counts(version, split)
        total = sum(counts.values())
        if total <= rows:
            return self.load(version, split)
        left = {tag: min(count, max(2, round(rows * count / total))) for tag, count in counts.items()}
        taken = []
        for batch in self.batches(version, split, COLUMNS):
            tags = np.asarray(batch.column("tag").to_pylist(), dtype=object)
            keep = np.zeros(len(tags), dtype=bool)
            for tag in left:
                of_tag = np.flatnonzero(tags == tag)[: left[tag]]
                keep[of_tag] = True
                left[tag] -= len(of_tag)
            taken.append(batch.filter(pa.array(keep)))
            if not any(left.values()):
                break
        frame: pd.DataFrame = pa.Table.from_batches(taken).to_pandas()
        return frame.sort_values("id", ignore_index=True)

    def counts(self, version: str, split: str | None = None) -> dict[str, int]:
        """Count the rows of each tag.

        Args:
            version: The data version.
            split: `train` or `test`; by default both.

        Raises:
            PlatformError: The snapshot is not there, or damaged.
        """
        with self._reading(version):
            return count_tags(self.files(version), split)

    def tags_of(self, version: str, ids: Collection[int], split: str | None = None) -> dict[int, str]:
        """Look some rows up.

        Args:
            version: The data version.
            ids: Which ones; those that are not there are left out.
            split: `train` or `test`; by default both.

        Returns:
            Tag by id.

        Raises:
            PlatformError: The snapshot is not there, or damaged.
        """
        wanted = set(ids)
        with self._reading(version):
            batches = read_split(self.files(version), split, ("id", "tag"))
            pairs = (zip(*batch.to_pydict().values(), strict=True) for batch in batches)
            return {key: tag for some in pairs for key, tag in some if key in wanted}

    def shuffled(self, version: str) -> Path:
        """A file with the snapshot's rows in the order of `ml.splits.shuffled_sql`, made when it is first asked for.

        Args:
            version: The data version.

        Raises:
            PlatformError: The snapshot is not there, or damaged.
        """
        path, copy = self._existing(version), self._shuffled_copy(version)
        if not copy.exists():
            try:
                write_shuffled(self.files(version), copy)
            except OSError as error:
                raise _damaged(path) from error
            except Exception as error:
                import duckdb  # only here: who streams holds little, and DuckDB is 12 MB; it works in another process

                # out of memory means no room on the disk either; the snapshot is sound
                if isinstance(error, duckdb.Error) and not isinstance(error, duckdb.OutOfMemoryException):
                    raise _damaged(path) from error
                raise
        return copy

    def tags(self, version: str) -> "pd.DataFrame":
        """Read the labels of both splits; columns id and tag.

        Args:
            version: The data version.

        Raises:
            PlatformError: The snapshot is not there, or damaged.
        """
        import pandas as pd

        with self._reading(version) as path:
            return pd.read_parquet(path, columns=["id", "tag"])

    @contextmanager
    def view(self, version: str, name: str, schema: str) -> Iterator["duckdb.DuckDBPyConnection"]:
        """An in-memory DuckDB with the snapshot as a view, for checks in SQL.

        Args:
            version: The data version.
            name: Name of the view.
            schema: Schema that holds the view.

        Yields:
            The connection.

        Raises:
            PlatformError: The snapshot is not there, or is no Parquet file.
        """
        import duckdb

        path = self._existing(version)
        with duckdb.connect() as connection:
            connection.execute(f"set memory_limit = '{self.memory_mb}MiB'")
            # what is more than that goes beside the snapshots, and not into the folder where the process started
            connection.execute(f"set temp_directory = {literal(f'{self.base_dir}/.duckdb')}")
            connection.execute(f"create schema if not exists {schema}")
            try:
                connection.execute(f"create view {schema}.{name} as from {parquet_sql(self.files(version))}")
            except duckdb.Error as error:
                raise _damaged(path) from error
            connection.execute(f"use {schema}")
            yield connection

    @contextmanager
    def validation_source(self, version: str, name: str) -> Iterator[DuckDBSource]:
        """Lends the snapshot, as a view of that name, to a validation.

        Args:
            version: The data version.
            name: Name of the view.

        Raises:
            PlatformError: The snapshot is not there, or is no Parquet file.
        """
        with self.view(version, name, "main") as connection:
            yield DuckDBSource(connection, "main")

    @contextmanager
    def _reading(self, version: str) -> Iterator[Path]:
        path = self._existing(version)
        try:
            yield path
        except (OSError, ValueError) as error:  # pyarrow's own errors are among these
            raise _damaged(path) from error

    def _shuffled_copy(self, version: str) -> Path:
        return Path(self.base_dir) / "shuffled" / f"{version}.parquet"

    def _existing(self, version: str) -> Path:
        path = self.path(version)
        if not path.exists():
            raise PlatformError(
                f"Snapshot {path} of the training data is missing: materialize validated_dataset again."
            )
        return path


def _share(file: Path, place: Path) -> None:
    try:
        os.link(file, place)
    except OSError:  # of a file system without hard links
        shutil.copyfile(file, place)


def _damaged(path: Path) -> PlatformError:
    return PlatformError(f"Snapshot {path} of the training data is damaged: materialize validated_dataset again.")
