"""A snapshot read in pieces: what is in memory is a few thousand rows, however many the file has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.resources.table_version import literal

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 2_000
_BUFFER_BYTES = 1 << 20  # of a column that is read on; without it a row group's whole column is in memory


def read_split(files: Iterable[Path], split: str | None, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read the rows of one split in the order of the files.

    Args:
        files: Parquet files with a column `split`.
        split: Which rows; row groups without any are skipped. None: all rows.
        columns: Names of the columns wanted.

    Yields:
        Some thousand rows at a time, none of them empty.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = list(dict.fromkeys([*columns, "split"]))
    for path in files:
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES) as file:
            place = file.schema_arrow.names.index("split")
            groups = [
                k for k in range(file.num_row_groups) if _may_hold(file.metadata.row_group(k).column(place), split)
            ]
            for group in groups:
                # one at a time: a reader of several keeps the buffers of those that it has passed, 100 MB a million
                # rows. With threads, how much is read ahead depends on their number.
                for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=wanted, use_threads=False):
                    kept = batch if split is None else batch.filter(pc.equal(batch.column("split"), split))
                    kept = kept.select(list(columns))
                    if kept.num_rows:
                        yield kept


def parquet_sql(files: Iterable[Path]) -> str:
    """Writes what stands for the rows of Parquet files in DuckDB's SQL."""
    return f"read_parquet([{', '.join(literal(str(file)) for file in files)}])"


def _may_hold(column: Any, split: str | None) -> bool:
    statistics = column.statistics
    return (
        split is None or statistics is None or not statistics.has_min_max or statistics.min <= split <= statistics.max
    )


def count_tags(files: Iterable[Path], split: str | None) -> dict[str, int]:
    """Count the rows of each tag.

    Args:
        files: Parquet files with the columns `split` and `tag`.
        split: Of which split; None: of all.
    """
    counts: Counter[str] = Counter()
    for batch in read_split(files, split, ("tag",)):
        counts.update({each["values"]: each["counts"] for each in batch.column("tag").value_counts().to_pylist()})
    return dict(sorted(counts.items()))
