"""The judgement: the candidate on the test split, and beside the champion on the same rows."""

from typing import Any

import dagster as dg

from mlops_platform.assets.dataset import STREAMED
from mlops_platform.assets.evaluation_predictions import answer, judged_rows
from mlops_platform.assets.evaluation_set import evaluation_set, learnt_from
from mlops_platform.assets.sentence_encoder import with_vector_cache
from mlops_platform.errors import ModelError, platform_errors_as_failures
from mlops_platform.resources.datasets.evaluation_set_store import EvaluationSetStore
from mlops_platform.resources.datasets.store import DatasetStore
from mlops_platform.resources.encoders.store import EncoderStore
from mlops_platform.resources.registry.model_registry import CHAMPION, MlflowTracking


@dg.asset(
    group_name="training",
    owners=["team:ml"],
    kinds={"scikitlearn", "mlflow"},
    description=(
        "Figures of the newest model on the frozen evaluation set, rows of the test split that no model has learnt: "
        "overall, per class, by slice, over time, calibration; and the difference to the champion on the same rows "
        "with a paired bootstrap interval."
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
    """Evaluate the candidate, and compare it with the champion if there is another one."""
    from mlops_platform.ml.evaluation import metrics, plots, slice_plots
    from mlops_platform.ml.evaluation.holdout import check_never_trained_on
    from mlops_platform.ml.evaluation.slices import compare_slices, quarters

    with platform_errors_as_failures(ValueError):
        dataset, version = validated_dataset["version"], trained_model["version"]
        if trained_model["dataset_version"] != dataset:
            # else rows that the model was fitted on could be counted as unseen
            context.log.warning("The model was trained on another dataset than the current one.")
        champion = tracking.by_alias(CHAMPION)
        learnt = learnt_from(trained_model["dataset_version"], champion)
        streamed = bool(validated_dataset.get(STREAMED))
        frozen = evaluation_set(context, datasets, evaluation_sets, dataset, learnt, streamed=streamed)
        if frozen is None:
            raise ModelError(
                "The test split is empty, so the model cannot be judged: load more labeled projects or raise "
                "MLOPS_TEST_SHARE."
            )
        check_never_trained_on(frozen, datasets.tags_of(dataset, frozen.tags, "train"))
        candidate, rival, comparison = with_vector_cache(encoders, tracking.load(version)), None, None
        if champion is not None and champion.version != version:
            try:
                rival = with_vector_cache(encoders, tracking.load(champion.version))
            except ModelError as error:
                # a champion whose files are gone can't serve either: it must not hold back its successor
                comparison = {"champion": champion.version, "unreadable": str(error)}
        answers = answer(judged_rows(datasets, dataset, frozen, in_batches=streamed), candidate, rival)
        labels, ours, theirs, classes = answers.labels, answers.ours, answers.theirs, list(candidate.classes_)
        evaluation = metrics.evaluate(labels, answers.probabilities, classes, answers.texts)
        if theirs is not None and champion is not None:
            interval = metrics.paired_bootstrap(labels, ours, theirs)
            comparison = {"champion": champion.version, **interval.to_dict()}

        by_period = compare_slices(quarters(answers.times), labels, ours, theirs)
        figures = evaluation.to_dict()
        majority = max(sorted(set(labels)), key=labels.count)
        figures["overall"]["f1_weighted_of_majority"] = metrics.weighted_f1(labels, [majority] * len(labels))
        pictures = {
            "confusion_matrix.png": plots.confusion_matrix_png(evaluation),
            "per_class.png": plots.per_class_bars_png(evaluation),
            "calibration.png": plots.calibration_png(evaluation),
            "periods.png": slice_plots.periods_png(by_period),
        }
        overall = figures["overall"]
        tracking.log_evaluation(
            trained_model["run_id"],
            {f"test_{name}": float(value) for name, value in overall.items() if value is not None},
            pictures,
        )
    value = {
        "version": version,
        "fingerprint": trained_model["fingerprint"],
        "dataset_version": dataset,
        "comparison": comparison,
        "evaluation_set": frozen.version,
        "periods": [each.to_dict() for each in by_period],
        "tags": [each.to_dict() for each in compare_slices(labels, labels, ours, theirs)],
        **figures,
    }
    return dg.MaterializeResult(
        value=value,
        # the model and the rows decide the figures; the champion of the day does not change what was measured
        data_version=dg.DataVersion(f"{trained_model['fingerprint']}-{dataset}-{frozen.version}"),
        metadata={
            "model_version": version,
            "test_rows": overall["rows"],
            "evaluation_set": f"version {frozen.version}: {frozen.reason}",
            "weighted_f1": round(overall["f1_weighted"], 4),
            "accuracy": round(overall["accuracy"], 4),
            "expected_calibration_error": round(overall["ece"], 4),
            "against_champion": dg.MetadataValue.json(comparison) if comparison else "no other champion",
            "per_class": dg.MetadataValue.table(_records("tag", figures["per_class"])),
            "slices": dg.MetadataValue.table(_records("slice", figures["slices"])),
            "periods": dg.MetadataValue.table([_record(each.to_dict()) for each in by_period]),
            "over_time": _picture(pictures["periods.png"]),
            "confusion_matrix": _picture(pictures["confusion_matrix.png"]),
            "per_class_bars": _picture(pictures["per_class.png"]),
            "calibration": _picture(pictures["calibration.png"]),
            "mlflow_run": dg.MetadataValue.url(tracking.run_url(trained_model["run_id"])),
        },
    )


def _picture(png: bytes) -> dg.MarkdownMetadataValue:
    from mlops_platform.ml.evaluation import plots

    return dg.MetadataValue.md(plots.embed(png))


def _records(name: str, rows: dict[str, dict[str, Any]]) -> list[dg.TableRecord]:
    return [_record({name: key, **figures}) for key, figures in rows.items()]


def _record(figures: dict[str, Any]) -> dg.TableRecord:
    return dg.TableRecord({k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()})
