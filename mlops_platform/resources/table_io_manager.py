"""The IO manager of the graph: tables pass through the warehouse, all other values as JSON files.

The platform's own assets write their tables themselves. An asset that a user adds may take and return data frames:

    @dg.asset
    def mine(labeled_projects: pd.DataFrame) -> pd.DataFrame: ...
"""

import tempfile
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.errors import PlatformError
from mlops_platform.resources.json_io_manager import JsonValues
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.sql import sql

__all__ = ["TableIOManager"]


class TableIOManager(JsonValues):
    """Load and store pandas data frames and Arrow tables in the warehouse, under the name of the asset.

    An input is a table if it is annotated `pandas.DataFrame` or `pyarrow.Table`, or has no annotation and no JSON
    value; an output is one by its type. Partitions of the upstream asset don't count: its whole table is loaded.
    """

    warehouse: dg.ResourceDependency[Warehouse]

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the table or the value of the upstream asset, as the input is annotated."""
        key, annotation = context.asset_key, context.dagster_type.typing_type
        untyped_table = annotation is Any and not self._path(key).exists() and self.warehouse.has_table(key.path[-1])
        if not (untyped_table or _is_table(annotation)):
            return super().load_input(context)
        table = self.warehouse.fetch_arrow(sql("SELECT * FROM {table}", table=key.path[-1]))
        return table if _package(annotation) == "pyarrow" else table.to_pandas()

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Replace the asset's table by a data frame or Arrow table, or its JSON value by anything else."""
        if not _is_table(type(obj)):
            super().handle_output(context, obj)
            return
        if context.has_partition_key:
            raise PlatformError(
                f"Asset {context.asset_key.to_user_string()} is partitioned, and its whole table would be replaced: "
                "write the partition with warehouse.replace_rows and return a MaterializeResult."
            )
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = obj if isinstance(obj, pa.Table) else pa.Table.from_pandas(obj, preserve_index=False)
        with tempfile.TemporaryDirectory(prefix="mlops-table-") as folder:
            file = Path(folder) / "rows.parquet"
            # pandas has nanoseconds, warehouses have microseconds
            pq.write_table(table, file, coerce_timestamps="us", allow_truncated_timestamps=True)
            rows = self.warehouse.replace_rows(context.asset_key.path[-1], file, {})
        context.add_output_metadata({"dagster/row_count": rows})


def _is_table(kind: Any) -> bool:
    return _package(kind) in ("pandas", "pyarrow") and kind.__name__ in ("DataFrame", "Table")


def _package(kind: Any) -> str:
    # by name, because importing pandas to compare classes takes a second
    return str(getattr(kind, "__module__", "")).partition(".")[0]
