"""The asset `predictions`: a row for each predicted text, by day, from the warehouse and from the service's log.

A text belongs to the day on which it arrived: `created_on` of a project, the time of a request. A day that is
materialized again by the same version replaces its rows; another version's rows stay beside them.
"""

import datetime as dt
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.assets.sentence_encoder import with_vector_cache
from mlops_platform.errors import ModelError, WarehouseError, platform_errors_as_failures
from mlops_platform.resources.encoders.store import EncoderStore
from mlops_platform.resources.prediction_log import ANSWER_COLUMNS, FEEDBACK, PREDICTION, LogStore
from mlops_platform.resources.registry.model_registry import CHAMPION, MlflowTracking
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.parquet_writer import write_rows
from mlops_platform.sql import SQL, sql

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

PREDICTIONS = "predictions"
BATCH, SERVICE = "batch", "service"
_BATCH_ROWS = 1024  # texts whose n-grams are in memory at once; 4096 took 60 MB more and were no faster
_PREDICTION_COLUMNS = {
    "id": "VARCHAR",
    "source": "VARCHAR",
    "day": "DATE",
    "predicted_at": "TIMESTAMP",
    **ANSWER_COLUMNS,
}
_FEEDBACK_COLUMNS = {"id": "VARCHAR", "day": "DATE", "tag": "VARCHAR", "at": "TIMESTAMP"}


def daily(first_day: dt.date) -> dg.DailyPartitionsDefinition:
    """Return the days of the monitoring assets, today included.

    Args:
        first_day: The first of them (UTC).
    """
    return dg.DailyPartitionsDefinition(start_date=first_day.isoformat(), timezone="UTC", end_offset=1)


def daily_asset(first_day: dt.date, **declared: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare a daily-partitioned asset of the warehouse, whose backfill is one run.

    Args:
        first_day: First daily partition.
        declared: Other arguments of `dg.asset`.
    """
    with warnings.catch_warnings():
        # Dagster warns that backfill policies are in beta each time the graph is loaded
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.asset(
            owners=["team:ml"],
            partitions_def=daily(first_day),
            backfill_policy=dg.BackfillPolicy.single_run(),
            pool="warehouse",
            **declared,
        )


def build_predictions_asset(first_day: dt.date, log: LogStore) -> dg.AssetsDefinition:
    """Build the asset `predictions`.

    Args:
        first_day: First daily partition.
        log: Has the predictions and the feedback of the service.
    """

    @daily_asset(
        first_day,
        name=PREDICTIONS,
        group_name="serving",
        kinds={"scikitlearn"},
        deps=["unlabeled_projects", "champion_model"],
        description=(
            "The champion's predictions for the unlabeled projects of a day, and the service's answers on it. "
            "Unique by id, model version and day; a day that is materialized again replaces its own rows."
        ),
    )
    def predictions(
        context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: MlflowTracking, encoders: EncoderStore
    ) -> dg.MaterializeResult:
        with platform_errors_as_failures(), tempfile.TemporaryDirectory(prefix="mlops-predictions-") as name:
            window = context.partition_time_window
            first, after = window.start.date(), window.end.date()
            if not warehouse.has_table("unlabeled_projects"):
                raise WarehouseError("The warehouse has no table unlabeled_projects: materialize it first.")
            folder = Path(name)
            with warehouse.connect():
                if not warehouse.has_table(PREDICTIONS):
                    # the table exists after a first day without rows, too
                    write_rows(folder / "none.parquet", _PREDICTION_COLUMNS, ())
                    warehouse.replace_rows(PREDICTIONS, folder / "none.parquet", {})
                counts = _score(warehouse, tracking, encoders, folder, first, after)
                counts |= _ingest(warehouse, folder, log, first, after)
        return dg.MaterializeResult(metadata={"days": (after - first).days, **counts})

    return predictions


def _score(
    warehouse: Warehouse, tracking: MlflowTracking, encoders: EncoderStore, folder: Path, first: dt.date, after: dt.date
) -> dict[str, Any]:
    """Predict the unlabeled projects of some days by the champion, day by day."""
    champion = tracking.by_alias(CHAMPION)
    if champion is None:
        raise ModelError("There is no champion to predict with: materialize champion_model first.")
    days = _days_of(warehouse, first, after, champion.version)
    rows = 0
    if days:
        model = with_vector_cache(encoders, tracking.load(champion.version))
        for day in days:
            source, target = folder / "texts.parquet", folder / "predictions.parquet"
            # in no order: a sort would hold the day's texts in memory
            query = "SELECT id, title, description FROM unlabeled_projects WHERE CAST(created_on AS DATE) = {day}"
            warehouse.export_parquet(sql(query, day=SQL(f"DATE '{day.isoformat()}'")), source)
            write_rows(target, _PREDICTION_COLUMNS, _scored(model, champion.version, day, source))
            where = {"source": BATCH, "day": day, "model_version": champion.version}
            rows += warehouse.replace_rows(PREDICTIONS, target, where)
    return {"model_version": champion.version, "scored_projects": rows}


def _days_of(warehouse: Warehouse, first: dt.date, after: dt.date, version: str) -> list[dt.date]:
    """Return the days that have projects, or had some when they were last scored."""
    rows = warehouse.fetch_rows(
        "SELECT DISTINCT CAST(created_on AS DATE) FROM unlabeled_projects WHERE created_on >= ? AND created_on < ?",
        [_midnight(first), _midnight(after)],
    )
    if warehouse.has_table(PREDICTIONS):
        query = "SELECT DISTINCT day FROM predictions WHERE source = ? AND model_version = ? AND day >= ? AND day < ?"
        rows += warehouse.fetch_rows(query, [BATCH, version, first, after])
    return sorted({day for (day,) in rows})


def _scored(model: "Pipeline", version: str, day: dt.date, source: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    from mlops_platform.ml.classifier.prediction import predict

    at = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    with pq.ParquetFile(source) as file:
        for batch in file.iter_batches(_BATCH_ROWS):
            columns = batch.to_pydict()
            predictions = predict(model, columns["title"], columns["description"])
            for key, title, description, prediction in zip(*columns.values(), predictions, strict=True):
                yield {
                    "id": str(key),
                    "source": BATCH,
                    "day": day,
                    "predicted_at": at,
                    "title": title,
                    "description": description,
                    "tag": prediction.tag,
                    "probability": prediction.probability,
                    "probabilities": json.dumps(prediction.probabilities),
                    "model_version": version,
                }


def _ingest(warehouse: Warehouse, folder: Path, log: LogStore, first: dt.date, after: dt.date) -> dict[str, Any]:
    """Load the service's predictions and feedback of some days into the warehouse, day by day."""
    counts = {"served_predictions": 0, "feedback_labels": 0}
    for day in log.days(first, after):
        file = folder / "served.parquet"
        write_rows(file, _PREDICTION_COLUMNS, (_served(row, day) for row in log.rows(PREDICTION, day)))
        counts["served_predictions"] += warehouse.replace_rows(PREDICTIONS, file, {"source": SERVICE, "day": day})
        write_rows(file, _FEEDBACK_COLUMNS, ({**row, "day": day} for row in log.rows(FEEDBACK, day)))
        counts["feedback_labels"] += warehouse.replace_rows(FEEDBACK, file, {"day": day})
    return counts


def _served(row: Mapping[str, Any], day: dt.date) -> dict[str, Any]:
    return {**row, "source": SERVICE, "day": day, "predicted_at": row["at"]}


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time())
