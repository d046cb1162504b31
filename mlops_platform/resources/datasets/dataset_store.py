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
from mlops_platform.resources.warehouse.duckdb_validation import DuckDBSource
from mlops_platform.sql import literal, sql

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

_BATCH_ROWS = 2_000
_BUFFER_BYTES = 1 << 20  # read ahead of a column; without it, a row group's whole column is in memory


class DatasetStore(dg.ConfigurableResource):
    """A folder of snapshots; an undamaged version is never written again.

    A split is `train` or `test`, and None stands for both. Reading a version that is missing or damaged raises a
    `PlatformError`.
    """

    base_dir: str
    memory_mb: int = Field(default=1024, ge=64, description="MiB that DuckDB may hold in memory.")

    def path(self, version: str) -> Path:
        """Return where the snapshot of a version is, or will be."""
        return Path(self.base_dir) / f"{version}.parquet"

    def holds(self, version: str, rows: int) -> bool:
        """Return whether a snapshot of so many rows is complete: each page is read, for a damaged file may open."""
        try:
            read = self._read(version, "SELECT count(*) AS rows, bit_xor(hash(snapshot)) FROM snapshot")
        except PlatformError:
            return False
        return bool(read["rows"][0].as_py() == rows)

    def load(self, version: str, split: str) -> "pd.DataFrame":
        """Read one split, ordered by id; columns id, created_on, title, description, tag, split."""
        return self._read(version, "SELECT * FROM snapshot WHERE split = ? ORDER BY id", [split]).to_pandas()

    def sample(self, version: str, split: str, rows: int) -> "pd.DataFrame":
        """Read about so many rows of a split, as `load`; a smaller split is returned whole.

        Of each tag these are its share, at least two, the first in the shuffled order.
        """
        query = """
            SELECT * FROM snapshot WHERE id IN (
                SELECT id FROM (
                    SELECT id, row_number() OVER (PARTITION BY tag ORDER BY md5(id::VARCHAR), id) AS place,
                        count(*) OVER (PARTITION BY tag) AS of_tag, count(*) OVER () AS of_split
                    FROM snapshot WHERE split = $1
                ) WHERE of_split <= $2 OR place <= greatest(2, round_even($2 * of_tag / of_split, 0))
            ) ORDER BY id
        """
        return self._read(version, query, [split, rows]).to_pandas()

    def batches(self, version: str, split: str, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        """Read columns of one split in shuffled order, at most `_BATCH_ROWS` and at least one row at a time."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        path = self._existing(version)
        try:
            with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES) as file:
                place = file.schema_arrow.names.index("split")
                for group in range(file.num_row_groups):
                    splits = file.metadata.row_group(group).column(place).statistics
                    if splits and splits.has_min_max and not splits.min <= split <= splits.max:
                        continue
                    # one group at a time: a reader of several keeps the buffers of those that it has passed, 100 MB a
                    # million rows. With threads, how much is read ahead depends on their number.
                    for batch in file.iter_batches(
                        _BATCH_ROWS, row_groups=[group], columns=[*columns, "split"], use_threads=False
                    ):
                        rows = batch.filter(pc.equal(batch.column("split"), split))
                        if rows.num_rows:
                            yield rows.select(list(columns))
        except (OSError, ValueError) as error:  # pyarrow's own errors are among these
            raise _damaged(path) from error

    def counts(self, version: str, split: str | None = None) -> dict[str, int]:
        """Count the rows of each tag."""
        query = "SELECT tag, count(*) AS rows FROM snapshot WHERE split = coalesce(?, split) GROUP BY tag ORDER BY tag"
        counts = self._read(version, query, [split])
        return dict(zip(counts["tag"].to_pylist(), counts["rows"].to_pylist(), strict=True))

    def tags_of(self, version: str, ids: Collection[int], split: str | None = None) -> dict[int, str]:
        """Look up the tags of rows by id; ids that are not in the snapshot, or the split, are left out."""
        query = "SELECT id, tag FROM snapshot WHERE id IN (SELECT unnest(?::BIGINT[])) AND split = coalesce(?, split)"
        rows = self._read(version, query, [list(map(int, ids)), split])
        return dict(zip(rows["id"].to_pylist(), rows["tag"].to_pylist(), strict=True))

    def tags(self, version: str) -> "pd.DataFrame":
        """Read the labels of both splits; columns id and tag."""
        return self._read(version, "SELECT id, tag FROM snapshot").to_pandas()

    @contextmanager
    def view(self, version: str, name: str = "snapshot", schema: str = "main") -> Iterator["duckdb.DuckDBPyConnection"]:
        """Open an in-memory DuckDB with the snapshot as a view in a schema, for checks in SQL."""
        import duckdb

        path = self._existing(version)
        with duckdb.connect() as connection:
            connection.execute(f"SET memory_limit = '{self.memory_mb}MiB'")
            # what doesn't fit goes beside the snapshots, not into the folder where the process started
            connection.execute(sql("SET temp_directory = {spill}", spill=literal(f"{self.base_dir}/.duckdb")))
            connection.execute(sql("CREATE SCHEMA IF NOT EXISTS {schema}; USE {schema}", schema=schema))
            rows = sql("read_parquet({path})", path=literal(str(path)))
            try:
                connection.execute(sql("CREATE VIEW {name} AS FROM {rows}", name=name, rows=rows))
            except duckdb.Error as error:
                raise _damaged(path) from error
            yield connection

    @contextmanager
    def validation_source(self, version: str, name: str) -> Iterator[DuckDBSource]:
        """Lend the snapshot, as a view of that name, to a validation."""
        with self.view(version, name) as connection:
            yield DuckDBSource(connection, "main")

    def _read(self, version: str, query: str, params: Sequence[object] = ()) -> "pa.Table":
        import duckdb

        with self.view(version) as connection:
            try:
                return connection.sql(query, params=params).to_arrow_table()
            except duckdb.Error as error:
                raise _damaged(self.path(version)) from error

    def _existing(self, version: str) -> Path:
        path = self.path(version)
        if not path.exists():
            raise PlatformError(
                f"Snapshot {path} of the training data is missing: materialize validated_dataset again."
            )
        return path


def _damaged(path: Path) -> PlatformError:
    return PlatformError(f"Snapshot {path} of the training data is damaged: materialize validated_dataset again.")
