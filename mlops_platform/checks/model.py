"""Checks on the split of the dataset and on the metrics of the model; promotion has gates of its own in ``ml``."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlops_platform.ml.evaluation import promotion_gates

CALIBRATION_LIMIT = 0.15
STRATIFICATION_ALPHA = 0.01
WEAK_SLICE_GAP = 0.2
SLICE_ROWS = 20
FORGETTING_ALPHA = 0.05


def build_model_checks(min_f1: float) -> list[dg.AssetChecksDefinition]:
    """Return the checks on `validated_dataset` and `model_evaluation`; a weighted F1 below `min_f1` blocks."""
    specs = [
        dg.AssetCheckSpec(
            "meets_quality_bar",
            asset="model_evaluation",
            blocking=True,
            description=f"Weighted F1 on the holdout set is at least {min_f1} and exceeds that of the majority class.",
        ),
        dg.AssetCheckSpec(
            "is_calibrated",
            asset="model_evaluation",
            description=f"Expected calibration error on the holdout set is at most {CALIBRATION_LIMIT}.",
        ),
        dg.AssetCheckSpec(
            "no_weak_slice",
            asset="model_evaluation",
            description=f"No slice of {SLICE_ROWS} or more rows has an F1 more than {WEAK_SLICE_GAP} below the total.",
        ),
        dg.AssetCheckSpec(
            "no_forgetting",
            asset="model_evaluation",
            description="No period and no tag is predicted significantly worse than by the champion "
            f"(exact sign test with Holm's correction, p > {FORGETTING_ALPHA}).",
        ),
    ]

    @dg.multi_asset_check(name="model_evaluation_figures", specs=specs, can_subset=True)
    def figures(
        context: dg.AssetCheckExecutionContext, model_evaluation: dict[str, Any]
    ) -> Iterator[dg.AssetCheckResult]:
        results = {
            "meets_quality_bar": _meets_quality_bar(model_evaluation, min_f1),
            "is_calibrated": _is_calibrated(model_evaluation),
            "no_weak_slice": _no_weak_slice(model_evaluation),
            "no_forgetting": _no_forgetting(model_evaluation),
        }
        for key in context.selected_asset_check_keys:
            yield results[key.name]

    return [figures, splits_are_stratified]


def _meets_quality_bar(evaluation: dict[str, Any], min_f1: float) -> dg.AssetCheckResult:
    overall = evaluation["overall"]
    passed, why = promotion_gates.quality(overall["f1_weighted"], overall["f1_weighted_of_majority"], min_f1)
    return dg.AssetCheckResult(
        check_name="meets_quality_bar",
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"Version {evaluation['version']}: {why}.",
        metadata={"weighted_f1": overall["f1_weighted"], "bar": min_f1, "test_rows": overall["rows"]},
    )


def _is_calibrated(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    error = evaluation["overall"]["ece"]
    return dg.AssetCheckResult(
        check_name="is_calibrated",
        passed=error <= CALIBRATION_LIMIT,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"The expected calibration error is {error:.3f}; the limit is {CALIBRATION_LIMIT}.",
        metadata={"expected_calibration_error": error, "limit": CALIBRATION_LIMIT},
    )


def _no_weak_slice(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    floor = evaluation["overall"]["f1_weighted"] - WEAK_SLICE_GAP
    weak = {
        name: figures["f1_weighted"]
        for name, figures in evaluation["slices"].items()
        if figures["rows"] >= SLICE_ROWS and figures["f1_weighted"] < floor
    }
    return dg.AssetCheckResult(
        check_name="no_weak_slice",
        passed=not weak,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Weighted F1 is below {floor:.3f} on {', '.join(weak)}." if weak else None,
        metadata={"weak_slices": dg.MetadataValue.json(weak), "floor": floor},
    )


def _no_forgetting(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    from mlops_platform.ml.evaluation.slices import SliceComparison, forgotten

    # values that an earlier release stored have neither
    slices = [SliceComparison(**item) for item in (*evaluation.get("periods", ()), *evaluation.get("tags", ()))]
    lost = forgotten(slices, FORGETTING_ALPHA)
    listed = ", ".join(f"{item.name} ({item.lost} rows lost, {item.won} won)" for item in lost)
    return dg.AssetCheckResult(
        check_name="no_forgetting",
        passed=not lost,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Version {evaluation['version']} is significantly worse than the champion on {listed}."
        if lost
        else None,
        metadata={"compared_slices": sum(item.p_value is not None for item in slices)},
    )


@dg.asset_check(
    asset="validated_dataset",
    description=f"Train and test have the same proportions of classes (chi-squared test, p > {STRATIFICATION_ALPHA}).",
)
def splits_are_stratified(validated_dataset: dict[str, Any], datasets: dg.ResourceParam[Any]) -> dg.AssetCheckResult:
    """Warn if the hash of the ids happens to split a class unevenly."""
    from mlops_platform.ml.training_data import splits

    version = validated_dataset["version"]
    train, test = datasets.counts(version, "train"), datasets.counts(version, "test")
    result = splits.stratification_of({tag: (train.get(tag, 0), test.get(tag, 0)) for tag in {*train, *test}})
    return dg.AssetCheckResult(
        passed=result.p_value > STRATIFICATION_ALPHA,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"A random split is this uneven with probability {result.p_value:.3f}.",
        metadata={
            "p_value": result.p_value,
            "classes": dg.MetadataValue.json(result.classes),
        },
    )
