"""A snapshot in an order as good as random, for those who learn from it batch by batch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlops_platform.resources.apart import execute_apart
from mlops_platform.resources.parquet_reading import parquet_sql
from mlops_platform.resources.table_version import literal
from mlops_platform.resources.warehouse_base import written_whole

GROUP_ROWS = 8_192  # who reads a column's page holds all of it, and DuckDB writes a page a row group
_MEMORY_MB = 256  # the rest goes to files, as training shall hold little; with 128, ten million rows once had no room


def write_shuffled(files: Iterable[Path], copy: Path) -> None:
    """Write the rows of a snapshot in the order of `ml.splits.shuffled_sql`; the copy appears whole or not at all.

    It is made when training asks for it, not with the snapshot: sorting ten million texts takes longer than all else
    that makes one.

    Args:
        files: Parquet files with a column `id`.
        copy: Where to.
    """
    from mlops_platform.ml.splits import shuffled_sql

    with written_whole(copy) as partial:
        execute_apart(
            [
                f"set memory_limit = '{_MEMORY_MB}MiB'",
                f"set temp_directory = {literal(str(copy.parent / '.duckdb'))}",
                "set threads = 1",  # each further one holds memory of its own
                f"copy (from {parquet_sql(files)} order by {shuffled_sql('id')}, id) "
                f"to {literal(str(partial))} (format parquet, compression zstd, row_group_size {GROUP_ROWS})",
            ]
        )
