"""The asset `drift_report`: whether the texts of a day differ from those that the champion was trained on.

The tests and their thresholds are in ``ml.monitoring``; what follows from a report is in ``decision``.
"""

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.assets.declarations import daily_asset, json_digest
from mlops_platform.assets.ingest import markdown_table
from mlops_platform.assets.monitoring_window import known_rows, window_rows
from mlops_platform.assets.preconditions import require_champion, require_tables
from mlops_platform.assets.predictions import PREDICTIONS
from mlops_platform.assets.sentence_encoder import with_vector_cache
from mlops_platform.errors import ModelError, PlatformError, platform_errors_as_failures
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.encoders.encoder_store import EncoderStore
from mlops_platform.resources.registry import deployment_history
from mlops_platform.resources.registry.inspections import inspections
from mlops_platform.resources.registry.model_registry import MlflowTracking, RegisteredVersion
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.parquet_writer import load_rows

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from mlops_platform.ml.classifier.text_classifier import Params
    from mlops_platform.ml.monitoring.drift_monitor import Watched, WindowRows

REPORT = "drift_report"
ONLINE, AGAINST_PREVIOUS = "online_f1", "against_previous"  # rows of the table that are figures, not tests
_COLUMNS = {
    "day": "DATE",
    "window_from": "DATE",
    "model_version": "VARCHAR",
    "name": "VARCHAR",
    "statistic": "DOUBLE",
    "low": "DOUBLE",
    "high": "DOUBLE",
    "p_value": "DOUBLE",
    "adjusted_p": "DOUBLE",
    "threshold": "DOUBLE",
    "detected": "BIGINT",
    "reference_rows": "BIGINT",
    "window_rows": "BIGINT",
    "detail": "VARCHAR",
}
_SHOWN = ("name", "statistic", "p_value", "adjusted_p", "detected", "reference_rows", "window_rows", "detail")


def build_drift_asset(first_day: dt.date, window_days: int, minimum_rows: int, alpha: float) -> dg.AssetsDefinition:
    """Build the asset `drift_report`.

    Args:
        first_day: First daily partition.
        window_days: Days of predictions that a report covers; the partition's day is the last.
        minimum_rows: Rows that a test needs on each side.
        alpha: Chance of any alarm on a day without drift.
    """

    @daily_asset(
        first_day,
        name=REPORT,
        group_name="monitoring",
        kinds={"scikitlearn"},
        deps=[
            # all days of the window; the last one is materialized in the same run
            dg.AssetDep(
                PREDICTIONS,
                partition_mapping=dg.TimeWindowPartitionMapping(
                    start_offset=1 - window_days, allow_nonexistent_upstream_partitions=True
                ),
            ),
            "champion_model",
            "labeled_projects",
        ],
        description=(
            f"Whether the last {window_days} days drifted from what the champion was trained on: texts, predicted "
            "tags, confidence, unknown words, missing fields, volume, and F1 where true tags are known. "
            f"All tests together raise a false alarm on at most {alpha:.1%} of days without drift."
        ),
    )
    def drift_report(
        context: dg.AssetExecutionContext,
        warehouse: Warehouse,
        datasets: DatasetStore,
        tracking: MlflowTracking,
        encoders: EncoderStore,
    ) -> dg.MaterializeResult[None]:
        days = [dt.date.fromisoformat(key) for key in sorted(context.partition_keys)]
        with platform_errors_as_failures(ValueError):
            champion = require_champion(tracking)
            require_tables(warehouse, PREDICTIONS, "labeled_projects")
            data_version = champion.tags.get("data_version", "")
            compare = _comparison(tracking, encoders, datasets, champion, minimum_rows, alpha)
            digests = []
            for day in days:
                first = _begin(tracking, day, window_days, first_day)
                with warehouse.connect():
                    window, before = window_rows(
                        warehouse, first, day, lambda ids: datasets.tags_of(data_version, ids, "train")
                    )
                watched = compare(window, before)
                rows = _rows(watched, day, first, champion.version)
                load_rows(warehouse, REPORT, _COLUMNS, rows, {"day": day})
                digests.append(json_digest(rows))
                metadata = _metadata(watched, rows, window, before)
                context.add_asset_metadata(
                    {"model_version": champion.version, "window": f"{first} to {day}", **metadata},
                    partition_key=day.isoformat(),
                )
        return dg.MaterializeResult(data_version=dg.DataVersion(json_digest(digests)))

    return drift_report


def _comparison(
    tracking: MlflowTracking,
    encoders: EncoderStore,
    datasets: DatasetStore,
    champion: RegisteredVersion,
    minimum: int,
    alpha: float,
) -> "Callable[[WindowRows, Sequence[int]], Watched]":
    """Return how a window is compared; the champion and its reference rows are read once for all days of a run."""
    from mlops_platform.ml.classifier.text_classifier import encoder_of
    from mlops_platform.ml.monitoring.drift_monitor import ENOUGH_HELD_OUT, folds_of, watch

    version = champion.tags.get("data_version", "")
    training, held_out = known_rows(datasets, version, "train"), known_rows(datasets, version, "test")
    model, params = with_vector_cache(encoders, tracking.load(champion.version)), _params(tracking, champion)
    previous = _previous(tracking, champion)
    if previous is not None:
        with_vector_cache(encoders, previous)
    few = len(held_out.tags) < ENOUGH_HELD_OUT
    fitted = folds_of(params, training, encoder=encoder_of(model)) if few else None

    def compare(window: "WindowRows", before: Sequence[int]) -> "Watched":
        return watch(
            model,
            params,
            training,
            held_out,
            window,
            before,
            previous=previous,
            fitted=fitted,
            alpha=alpha,
            minimum=minimum,
        )

    return compare


def _metadata(
    watched: "Watched", rows: Sequence[Mapping[str, Any]], window: "WindowRows", before: Sequence[int]
) -> dict[str, Any]:
    from mlops_platform.ml.evaluation import plots
    from mlops_platform.ml.monitoring import drift_plots

    run = [test for test in watched.tests if test.p_value is not None]
    picture = drift_plots.drift_png(watched.tests, watched.reference, watched.window, (before, window.rows_by_day))
    shown = [tuple(_rounded(row.get(name)) for name in _SHOWN) for row in rows]
    return {
        "window_rows": len(window.titles),
        "labelled_rows": sum(tag is not None for tag in window.truth),
        "detected": ", ".join(test.name for test in watched.tests if test.detected) or "nothing",
        "tests_run": len(run),
        "tests_without_enough_data": len(watched.tests) - len(run),
        "online_f1": round(watched.online.value, 4) if watched.online else "too few labels",
        "tests": dg.MetadataValue.md(markdown_table(list(_SHOWN), shown, 120)),
        "picture": dg.MetadataValue.md(plots.embed(picture)),
    }


def _begin(tracking: MlflowTracking, day: dt.date, days: int, first_day: dt.date) -> dt.date:
    """Return the first day of a window; it starts no earlier than a person's last answer to an inspection."""
    answered = (inspection.answered_at for inspection in inspections(tracking))
    answers = [dt.date.fromisoformat(at[:10]) for at in answered if at]
    return max([first_day, day - dt.timedelta(days=days - 1), *(answer for answer in answers if answer <= day)])


def _params(tracking: MlflowTracking, champion: RegisteredVersion) -> "Params":
    """Return the parameters that the champion was trained with, from its run."""
    from mlops_platform.ml.classifier.text_classifier import Params

    logged = tracking.params(champion.run_id)
    try:
        # a parameter that is None by default is logged only if it is set; older versions log no classifier
        names = [field.name for field in fields(Params) if field.name in logged or field.default not in (None, "ridge")]
        values: dict[str, Any] = {n: logged[n] if n == "classifier" else json.loads(logged[n]) for n in names}
        return Params(**values)
    except (KeyError, ValueError):
        raise ModelError(
            f"The MLflow run of version {champion.version} lacks its training parameters: promote a version that the "
            "asset trained_model registered."
        ) from None


def _previous(tracking: MlflowTracking, champion: RegisteredVersion) -> "Pipeline | None":
    """Return the champion that a rollback would return to; None if none can be loaded."""
    for version in deployment_history.served_before(deployment_history.history(tracking), champion.version):
        try:
            return tracking.load(version)
        except PlatformError:
            continue
    return None


def _rows(watched: "Watched", day: dt.date, first: dt.date, version: str) -> list[dict[str, Any]]:
    always = {"day": day, "window_from": first, "model_version": version}
    rows = [{**always, **test.to_dict(), "detected": int(test.detected)} for test in watched.tests]
    figures = (
        (ONLINE, watched.online, "weighted F1 on the labeled rows, with its 95% interval"),
        (
            AGAINST_PREVIOUS,
            watched.against_previous,
            "weighted F1 of the champion minus that of the previous champion, on the same rows",
        ),
    )
    for name, figure, detail in figures:
        if figure is not None:
            values = {"statistic": figure.value, "low": figure.low, "high": figure.high, "window_rows": figure.rows}
            rows.append({**always, "name": name, **values, "detail": detail})
    return rows


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
