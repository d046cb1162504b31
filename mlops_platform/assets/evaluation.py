"""The asset `model_evaluation`: the candidate's metrics on the holdout set, and its difference to the champion.

The metrics and plots are in ``ml.evaluation``; whether the candidate is promoted is decided in ``promotion``.
"""

from dataclasses import asdict
from typing import Any

import dagster as dg

from mlops_platform.assets.dataset import STREAMED
from mlops_platform.assets.declarations import TRAINING
from mlops_platform.assets.evaluation_predictions import evaluation_rows, predict_with
from mlops_platform.assets.evaluation_set import evaluation_set, training_versions
from mlops_platform.assets.sentence_encoder import with_vector_cache
from mlops_platform.errors import ModelError, platform_errors_as_failures
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.datasets.evaluation_set_store import EvaluationSetStore
from mlops_platform.resources.encoders.encoder_store import EncoderStore
from mlops_platform.resources.registry.model_registry import CHAMPION, MlflowTracking


@dg.asset(
    **TRAINING,
    kinds={"scikitlearn", "mlflow"},
    description=(
        "Metrics of the newest model on the holdout set, rows of the test split that no model was trained on: overall, "
        "per class, by slice, over time, and calibration; and the difference to the champion on the same rows, with a "
        "paired bootstrap interval."
    ),
)
def model_evaluation(
    context: dg.AssetExecutionContext,
    validated_dataset: dict[str, Any],
    trained_model: dict[str, Any],
    datasets: DatasetStore,
    evaluation_sets: EvaluationSetStore,
    tracking: MlflowTracking,
    encoders: EncoderStore,
) -> dg.MaterializeResult[dict[str, Any]]:
    """Evaluate the candidate, and compare it with the champion if that is another version."""
    from mlops_platform.ml.evaluation import metrics, plots
    from mlops_platform.ml.evaluation.holdout import check_never_trained_on
    from mlops_platform.ml.evaluation.slices import compare_slices, quarters

    with platform_errors_as_failures(ValueError):
        dataset, version = validated_dataset["version"], trained_model["version"]
        if trained_model["dataset_version"] != dataset:
            context.log.warning("The model was not trained on the current version of the dataset.")
        champion = tracking.by_alias(CHAMPION)
        trained_on = training_versions(trained_model["dataset_version"], champion)
        streamed = bool(validated_dataset.get(STREAMED))
        holdout = evaluation_set(context, datasets, evaluation_sets, dataset, trained_on, streamed=streamed)
        if holdout is None:
            raise ModelError(
                "The test split is empty, so the model cannot be evaluated: load more labeled projects or raise "
                "MLOPS_TEST_SHARE."
            )
        check_never_trained_on(holdout, datasets.tags_of(dataset, holdout.tags, "train"))
        candidate, incumbent, comparison = with_vector_cache(encoders, tracking.load(version)), None, None
        if champion is not None and champion.version != version:
            try:
                incumbent = with_vector_cache(encoders, tracking.load(champion.version))
            except ModelError as error:
                # a champion whose files are missing cannot serve either: it must not hold back its successor
                comparison = {"champion": champion.version, "unreadable": str(error)}
        batches = evaluation_rows(datasets, dataset, holdout, in_batches=streamed)
        rows = predict_with(batches, candidate, incumbent)
        evaluation = metrics.evaluate(rows.labels, rows.probabilities, list(candidate.classes_), rows.texts)
        if rows.by_champion is not None and champion is not None:
            interval = metrics.paired_bootstrap(rows.labels, rows.by_candidate, rows.by_champion)
            comparison = {"champion": champion.version, **asdict(interval)}
        by_period = compare_slices(quarters(rows.times), rows.labels, rows.by_candidate, rows.by_champion)
        by_tag = compare_slices(rows.labels, rows.labels, rows.by_candidate, rows.by_champion)
        figures = asdict(evaluation)
        majority = max(sorted(set(rows.labels)), key=rows.labels.count)
        figures["overall"]["f1_weighted_of_majority"] = metrics.weighted_f1(rows.labels, [majority] * len(rows.labels))
        images = {
            "confusion_matrix.png": plots.confusion_matrix_png(evaluation),
            "per_class.png": plots.per_class_bars_png(evaluation),
            "calibration.png": plots.calibration_png(evaluation),
            "periods.png": plots.periods_png(by_period),
        }
        overall = figures["overall"]
        tracking.log_evaluation(
            trained_model["run_id"],
            {f"test_{name}": float(value) for name, value in overall.items() if value is not None},
            images,
        )
    value = {
        "version": version,
        "fingerprint": trained_model["fingerprint"],
        "dataset_version": dataset,
        "comparison": comparison,
        "evaluation_set": holdout.version,
        "periods": [asdict(period) for period in by_period],
        "tags": [asdict(tag) for tag in by_tag],
        **figures,
    }
    return dg.MaterializeResult(
        value=value,
        # model and rows determine the metrics, whoever is champion
        data_version=dg.DataVersion(f"{trained_model['fingerprint']}-{dataset}-{holdout.version}"),
        metadata={
            "model_version": version,
            "test_rows": overall["rows"],
            "evaluation_set": f"version {holdout.version}: {holdout.reason}",
            "weighted_f1": round(overall["f1_weighted"], 4),
            "accuracy": round(overall["accuracy"], 4),
            "expected_calibration_error": round(overall["ece"], 4),
            "against_champion": dg.MetadataValue.json(comparison) if comparison else "no other champion",
            "per_class": dg.MetadataValue.table(_records("tag", figures["per_class"])),
            "slices": dg.MetadataValue.table(_records("slice", figures["slices"])),
            "periods": dg.MetadataValue.table([_record(asdict(period)) for period in by_period]),
            "over_time": _image(images["periods.png"]),
            "confusion_matrix": _image(images["confusion_matrix.png"]),
            "per_class_bars": _image(images["per_class.png"]),
            "calibration": _image(images["calibration.png"]),
            "mlflow_run": dg.MetadataValue.url(tracking.run_url(trained_model["run_id"])),
        },
    )


def _image(png: bytes) -> dg.MarkdownMetadataValue:
    from mlops_platform.ml.evaluation import plots

    return dg.MetadataValue.md(plots.embed(png))


def _records(name: str, rows: dict[str, dict[str, Any]]) -> list[dg.TableRecord]:
    return [_record({name: key, **figures}) for key, figures in rows.items()]


def _record(figures: dict[str, Any]) -> dg.TableRecord:
    return dg.TableRecord({k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()})
