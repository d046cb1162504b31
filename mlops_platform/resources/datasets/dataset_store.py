"""Snapshots of the training data: Parquet files named by the version of their content.

Rows are in the order of the MD5 of their ids, which also cuts the splits: a pass over the file is shuffled, and the
test split comes first.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mlops_platform.errors import PlatformError
from mlops_platform.resources.datasets.parquet_reader import count_tags, read_split
from mlops_platform.resources.warehouse.duckdb_validation import DuckDBSource
from mlops_platform.sql import literal, sql

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

COLUMNS = ("id", "created_on", "title", "description", "tag", "split")


class DatasetStore(dg.ConfigurableResource):
    """A folder of snapshots; an undamaged version is never written again."""

    base_dir: str
    memory_mb: int = Field(default=1024, ge=64, description="MiB that DuckDB may hold in memory.")

    def path(self, version: str) -> Path:
        """Return where the snapshot of a version is, or will be."""
        return Path(self.base_dir) / f"{version}.parquet"

    def holds(self, version: str, rows: int) -> bool:
        """Return whether the snapshot of a version is complete: each page is read, for a damaged file may open.

        Args:
            version: The data version.
            rows: Number of rows that it must have.
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
            PlatformError: The snapshot is missing, or damaged.
        """
        import pandas as pd

        with self._reading(version) as path:
            frame = pd.read_parquet(path, filters=[("split", "==", split)])
        return frame.sort_values("id", ignore_index=True)

    def batches(self, version: str, split: str, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        """Read one split in shuffled order, some thousand rows at a time.

        Args:
            version: The data version.
            split: `train` or `test`.
            columns: Names of the columns wanted.

        Raises:
            PlatformError: The snapshot is missing, or damaged.
        """
        with self._reading(version) as path:
            yield from read_split(path, split, columns)

    def sample(self, version: str, split: str, rows: int) -> "pd.DataFrame":
        """Read some rows of a split: of each tag its share of `rows`, at least two, the first in the shuffled order.

        Args:
            version: The data version.
            split: `train` or `test`.
            rows: About how many; a smaller split is returned whole.

        Returns:
            As `load`.

        Raises:
            PlatformError: The snapshot is missing, or damaged.
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
            PlatformError: The snapshot is missing, or damaged.
        """
        with self._reading(version) as path:
            return count_tags(path, split)

    def tags_of(self, version: str, ids: Collection[int], split: str | None = None) -> dict[int, str]:
        """Look up the tags of some rows.

        Args:
            version: The data version.
            ids: Their ids; those that are not in the snapshot are left out.
            split: `train` or `test`; by default both.

        Returns:
            Tag by id.

        Raises:
            PlatformError: The snapshot is missing, or damaged.
        """
        wanted = set(ids)
        with self._reading(version) as path:
            batches = read_split(path, split, ("id", "tag"))
            pairs = (zip(*batch.to_pydict().values(), strict=True) for batch in batches)
            return {key: tag for some in pairs for key, tag in some if key in wanted}

    def tags(self, version: str) -> "pd.DataFrame":
        """Read the labels of both splits; columns id and tag.

        Args:
            version: The data version.

        Raises:
            PlatformError: The snapshot is missing, or damaged.
        """
        import pandas as pd

        with self._reading(version) as path:
            return pd.read_parquet(path, columns=["id", "tag"])

    @contextmanager
    def view(self, version: str, name: str, schema: str) -> Iterator["duckdb.DuckDBPyConnection"]:
        """Open an in-memory DuckDB with the snapshot as a view, for checks in SQL.

        Args:
            version: The data version.
            name: Name of the view.
            schema: Schema that holds the view.

        Yields:
            The connection.

        Raises:
            PlatformError: The snapshot is missing, or is no Parquet file.
        """
        import duckdb

        path = self._existing(version)
        with duckdb.connect() as connection:
            connection.execute(f"SET memory_limit = '{self.memory_mb}MiB'")
            # what doesn't fit goes beside the snapshots, not into the folder where the process started
            spill = literal(f"{self.base_dir}/.duckdb")
            connection.execute(sql("SET temp_directory = {spill}", spill=spill))
            connection.execute(sql("CREATE SCHEMA IF NOT EXISTS {schema}; USE {schema}", schema=schema))
            try:
                connection.execute(
                    sql("CREATE VIEW {name} AS FROM read_parquet({path})", name=name, path=literal(str(path)))
                )
            except duckdb.Error as error:
                raise _damaged(path) from error
            yield connection

    @contextmanager
    def validation_source(self, version: str, name: str) -> Iterator[DuckDBSource]:
        """Lend the snapshot, as a view of that name, to a validation.

        Args:
            version: The data version.
            name: Name of the view.

        Raises:
            PlatformError: The snapshot is missing, or is no Parquet file.
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

    def _existing(self, version: str) -> Path:
        path = self.path(version)
        if not path.exists():
            raise PlatformError(
                f"Snapshot {path} of the training data is missing: materialize validated_dataset again."
            )
        return path


def _damaged(path: Path) -> PlatformError:
    return PlatformError(f"Snapshot {path} of the training data is damaged: materialize validated_dataset again.")
