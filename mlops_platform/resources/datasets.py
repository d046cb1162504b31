"""Snapshots of the training data: Parquet files named by the version of their content."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from mlops_platform.errors import PlatformError

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


class DatasetStore(dg.ConfigurableResource):
    """Where snapshots lie; a version that is there is never written again."""

    base_dir: str

    def path(self, version: str) -> Path:
        """Where the snapshot of a version is, or will be."""
        return Path(self.base_dir) / f"{version}.parquet"

    def load(self, version: str, split: str) -> "pd.DataFrame":
        """Read one split, ordered by id.

        Args:
            version: The data version.
            split: `train` or `test`.

        Returns:
            One row a project; columns id, created_on, title, description, tag, split.

        Raises:
            PlatformError: The snapshot is not there.
        """
        import pandas as pd

        path = self.path(version)
        if not path.exists():
            raise PlatformError(
                f"Snapshot {path} of the training data is missing: materialize validated_dataset again."
            )
        frame = pd.read_parquet(path, filters=[("split", "==", split)])
        return frame.sort_values("id", ignore_index=True)

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
            PlatformError: The snapshot is not there.
        """
        import duckdb

        path = self.path(version)
        if not path.exists():
            raise PlatformError(
                f"Snapshot {path} of the training data is missing: materialize validated_dataset again."
            )
        with duckdb.connect() as connection:
            quoted = str(path).replace("'", "''")
            connection.execute(f"create schema if not exists {schema}")
            connection.execute(f"create view {schema}.{name} as from read_parquet('{quoted}')")
            connection.execute(f"use {schema}")
            yield connection
