"""The asset `validated_dataset`: a snapshot of `labeled_projects` with its splits and its version.

Where snapshots are stored and how they are read is in ``resources.datasets``.
"""

import hashlib
from typing import Any

import dagster as dg

from mlops_platform.assets.declarations import TRAINING
from mlops_platform.errors import PlatformError, platform_errors_as_failures
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.sql import SQL, sql

# increment when the same rows must give another snapshot: another split rule, columns or order of rows
SNAPSHOT_FORMAT = 2
STREAM_ABOVE_ROWS = 20_000
SAMPLE_ROWS = 2_000  # rows for tuning and label quality where the model is trained out of core
STREAMED = "streamed"  # key of the asset's value where there are more rows than fit in memory


def dataset_version(content: str, test_share: float) -> str:
    """Return the version of a snapshot of a table with a content version, as sixteen hex digits."""
    return hashlib.sha256(f"{SNAPSHOT_FORMAT}:{test_share}:{content}".encode()).hexdigest()[:16]


def build_dataset_asset(test_share: float, stream_above_rows: int = STREAM_ABOVE_ROWS) -> dg.AssetsDefinition:
    """Return the asset `validated_dataset`.

    Args:
        test_share: Share of the ids in the test split, between 0 and 1.
        stream_above_rows: Number of rows above which downstream assets read the snapshot in batches.
    """

    @dg.asset(
        **TRAINING,
        kinds={"parquet", "duckdb"},
        deps=["labeled_projects"],
        pool="warehouse",
        description=(
            "A Parquet snapshot of `labeled_projects`, named by a hash of its content. Each row is in train or test by "
            "a hash of its id, so it stays in its split when other rows are added."
        ),
        metadata={"dagster/column_schema": _SCHEMA},
    )
    def validated_dataset(warehouse: Warehouse, datasets: DatasetStore) -> dg.MaterializeResult[dict[str, Any]]:
        from mlops_platform.ml.evaluation import plots

        with platform_errors_as_failures(ValueError):
            with warehouse.connect():
                version = dataset_version(warehouse.content_version("labeled_projects"), test_share)
                labeled = warehouse.row_count("labeled_projects")
                if not labeled:
                    raise PlatformError("There are no labeled projects: check the tags source (MLOPS_TAGS_URI).")
                streamed = labeled > stream_above_rows
                # a damaged file is rewritten, else it would fail everything downstream for good
                if not datasets.holds(version, labeled):
                    warehouse.export_parquet(_query(warehouse, test_share), datasets.path(version))
            with datasets.view(version, "snapshot", "main") as connection:
                counts = connection.execute(
                    "select tag, count(*), count(*) filter (split = 'train') from snapshot group by tag order by tag"
                ).fetchall()
                months = connection.execute(
                    "select date_trunc('month', created_on)::date, tag, count(*) from snapshot "
                    "where created_on is not null group by all order by all"
                ).fetchall()
        rows, train = sum(row[1] for row in counts), sum(row[2] for row in counts)
        plots_metadata = {}
        if months:  # else no row has a date, which the checks report
            plots_metadata["class_balance_over_time"] = dg.MetadataValue.md(
                plots.embed(plots.class_balance_png(months))
            )
        value = {"version": version, "rows": rows, "train_rows": train, "test_rows": rows - train}
        if streamed:
            value[STREAMED] = True
        return dg.MaterializeResult(
            value=value,
            data_version=dg.DataVersion(version),
            metadata={
                "dagster/row_count": rows,
                "train_rows": train,
                "test_rows": rows - train,
                "snapshot": dg.MetadataValue.path(datasets.path(version)),
                "read": "in batches" if streamed else "as a whole",
                "classes": dg.MetadataValue.table(
                    [dg.TableRecord({"tag": tag, "rows": n, "train": t, "test": n - t}) for tag, n, t in counts]
                ),
                **plots_metadata,
            },
        )

    return validated_dataset


def _query(warehouse: Warehouse, test_share: float) -> SQL:
    """Return the query of a snapshot's rows, in shuffled order with the test split first (see `DatasetStore`)."""
    return sql(
        "SELECT id, created_on, title, description, tag, {split} AS split FROM labeled_projects "
        "ORDER BY md5(CAST(id AS STRING)), id",
        split=SQL(warehouse.split_sql("id", test_share)),
    )


_SCHEMA = dg.TableSchema(
    columns=[
        dg.TableColumn("id", "BIGINT", "Unique id of the project."),
        dg.TableColumn("created_on", "TIMESTAMP", "When the project was posted (UTC)."),
        dg.TableColumn("title", "VARCHAR", "Title of the project."),
        dg.TableColumn("description", "VARCHAR", "What the project is about."),
        dg.TableColumn("tag", "VARCHAR", "The label."),
        dg.TableColumn("split", "VARCHAR", "`train` or `test`, by a hash of the id."),
    ]
)
