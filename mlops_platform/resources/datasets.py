"""Snapshots of the training data: Parquet files named by the version of their content."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mlops_platform.errors import PlatformError
from mlops_platform.resources.table_version import literal
from mlops_platform.resources.validation_sources import DuckDBSource

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


class DatasetStore(dg.ConfigurableResource):
    """Where snapshots lie; a version that is there and whole is never written again."""

    base_dir: str
    memory_mb: int = Field(default=1024, ge=64, description="MiB that DuckDB may hold in memory.")

    def path(self, version: str) -> Path:
        """Where the snapshot of a version is, or will be."""
        return Path(self.base_dir) / f"{version}.parquet"

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

        path = self._existing(version)
        try:
            frame = pd.read_parquet(path, filters=[("split", "==", split)])
        except (OSError, ValueError) as error:  # pyarrow's own errors are among these
            raise _damaged(path) from error
        return frame.sort_values("id", ignore_index=True)

    def tags(self, version: str) -> "pd.DataFrame":
        """Read the labels of both splits; columns id and tag.

        Args:
            version: The data version.

        Raises:
            PlatformError: The snapshot is not there, or damaged.
        """
        import pandas as pd

        path = self._existing(version)
        try:
            return pd.read_parquet(path, columns=["id", "tag"])
        except (OSError, ValueError) as error:
            raise _damaged(path) from error

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
                connection.execute(f"create view {schema}.{name} as from read_parquet({literal(str(path))})")
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

    def _existing(self, version: str) -> Path:
        path = self.path(version)
        if not path.exists():
            raise PlatformError(
                f"Snapshot {path} of the training data is missing: materialize validated_dataset again."
            )
        return path


def _damaged(path: Path) -> PlatformError:
    return PlatformError(f"Snapshot {path} of the training data is damaged: materialize validated_dataset again.")
