"""Reading a snapshot in batches: a few thousand rows are in memory, however many the file has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 2_000
_BUFFER_BYTES = 1 << 20  # read ahead of a column; without it, a row group's whole column is in memory


def read_split(path: Path, split: str | None, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read the rows of one split in the order of the file.

    Args:
        path: A Parquet file with a column `split`.
        split: Name of the split; row groups without it are skipped. None: all rows.
        columns: Names of the columns wanted.

    Yields:
        Some thousand rows at a time, at least one.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = list(dict.fromkeys([*columns, "split"]))
    with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES) as file:
        place = file.schema_arrow.names.index("split")
        for group in range(file.num_row_groups):
            if not _may_hold(file.metadata.row_group(group).column(place), split):
                continue
            # one group at a time: a reader of several keeps the buffers of those that it has passed, 100 MB a million
            # rows. With threads, how much is read ahead depends on their number.
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=wanted, use_threads=False):
                rows = batch if split is None else batch.filter(pc.equal(batch.column("split"), split))
                if rows.num_rows:
                    yield rows.select(list(columns))


def count_tags(path: Path, split: str | None) -> dict[str, int]:
    """Count the rows of each tag.

    Args:
        path: A Parquet file with the columns `split` and `tag`.
        split: Name of the split; None: of both.
    """
    counts: Counter[str] = Counter()
    for batch in read_split(path, split, ("tag",)):
        counts.update({tag["values"]: tag["counts"] for tag in batch.column("tag").value_counts().to_pylist()})
    return dict(sorted(counts.items()))


def _may_hold(column: Any, split: str | None) -> bool:
    statistics = column.statistics
    return (
        split is None or statistics is None or not statistics.has_min_max or statistics.min <= split <= statistics.max
    )
