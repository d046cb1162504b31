"""The asset `predictions`: a row for each predicted text, by day, from the warehouse and from the service's log.

A text belongs to the day on which it arrived: `created_on` of a project, the time of a request. A day that is
materialized again by the same version replaces its rows; another version's rows stay beside them.
"""

import datetime as dt
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.assets.declarations import daily_asset
from mlops_platform.assets.preconditions import require_champion, require_tables
from mlops_platform.assets.sentence_encoder import with_vector_cache
from mlops_platform.errors import platform_errors_as_failures
from mlops_platform.resources.encoders.encoder_store import EncoderStore
from mlops_platform.resources.prediction_log import ANSWER_COLUMNS, FEEDBACK, PREDICTION, LogStore
from mlops_platform.resources.registry.model_registry import MlflowTracking
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.parquet_writer import load_rows
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


def build_predictions_asset(first_day: dt.date, log: LogStore) -> dg.AssetsDefinition:
    """Build the asset `predictions`; `log` holds the service's predictions and feedback."""

    @daily_asset(
        first_day,
        name=PREDICTIONS,
        group_name="serving",
        kinds={"scikitlearn"},
        deps=["unlabeled_projects", "champion_model"],
        description=(
            "The champion's predictions for the unlabeled projects of a day, and the predictions that the service "
            "returned on it. Unique by id, model version and day; materializing a day again replaces its rows."
        ),
    )
    def predictions(
        context: dg.AssetExecutionContext, warehouse: Warehouse, tracking: MlflowTracking, encoders: EncoderStore
    ) -> dg.MaterializeResult:
        window = context.partition_time_window
        first, after = window.start.date(), window.end.date()
        with platform_errors_as_failures(), warehouse.connect():
            require_tables(warehouse, "unlabeled_projects")
            if not warehouse.has_table(PREDICTIONS):
                # so that the table exists after a first day without rows, too
                load_rows(warehouse, PREDICTIONS, _PREDICTION_COLUMNS, ())
            counts = _predict_projects(warehouse, tracking, encoders, first, after)
            counts |= _ingest_log(warehouse, log, first, after)
        return dg.MaterializeResult(metadata={"days": (after - first).days, **counts})

    return predictions


def _predict_projects(
    warehouse: Warehouse, tracking: MlflowTracking, encoders: EncoderStore, first: dt.date, after: dt.date
) -> dict[str, Any]:
    """Predict the unlabeled projects of some days with the champion, day by day."""
    champion = require_champion(tracking)
    days = _days_with_projects(warehouse, first, after, champion.version)
    rows = 0
    if days:
        model = with_vector_cache(encoders, tracking.load(champion.version))
        with tempfile.TemporaryDirectory(prefix="mlops-texts-") as folder:
            texts = Path(folder) / "texts.parquet"
            for day in days:
                # in no order: a sort would hold the day's texts in memory
                query = "SELECT id, title, description FROM unlabeled_projects WHERE CAST(created_on AS DATE) = {day}"
                warehouse.export_parquet(sql(query, day=SQL(f"DATE '{day.isoformat()}'")), texts)
                predicted = _prediction_rows(model, champion.version, day, texts)
                where = {"source": BATCH, "day": day, "model_version": champion.version}
                rows += load_rows(warehouse, PREDICTIONS, _PREDICTION_COLUMNS, predicted, where)
    return {"model_version": champion.version, "scored_projects": rows}


def _days_with_projects(warehouse: Warehouse, first: dt.date, after: dt.date, version: str) -> list[dt.date]:
    """Return the days that have projects, or had some when they were last predicted."""
    rows = warehouse.fetch_rows(
        "SELECT DISTINCT CAST(created_on AS DATE) FROM unlabeled_projects WHERE created_on >= ? AND created_on < ?",
        [_midnight(first), _midnight(after)],
    )
    if warehouse.has_table(PREDICTIONS):
        query = "SELECT DISTINCT day FROM predictions WHERE source = ? AND model_version = ? AND day >= ? AND day < ?"
        rows += warehouse.fetch_rows(query, [BATCH, version, first, after])
    return sorted({day for (day,) in rows})


def _prediction_rows(model: "Pipeline", version: str, day: dt.date, texts: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    from mlops_platform.ml.classifier.prediction import predict

    at = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    with pq.ParquetFile(texts) as file:
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


def _ingest_log(warehouse: Warehouse, log: LogStore, first: dt.date, after: dt.date) -> dict[str, Any]:
    """Load the service's predictions and feedback of some days into the warehouse, day by day."""
    predictions = feedback = 0
    for day in log.days(first, after):
        where = {"source": SERVICE, "day": day}
        served = ({**row, **where, "predicted_at": row["at"]} for row in log.rows(PREDICTION, day))
        predictions += load_rows(warehouse, PREDICTIONS, _PREDICTION_COLUMNS, served, where)
        labels = ({**row, "day": day} for row in log.rows(FEEDBACK, day))
        feedback += load_rows(warehouse, FEEDBACK, _FEEDBACK_COLUMNS, labels, {"day": day})
    return {"served_predictions": predictions, "feedback_labels": feedback}


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time())
