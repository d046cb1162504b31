"""Checks of the dataset's split and of the model's metrics."""

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
    """Return the checks on `validated_dataset` and `model_evaluation`.

    Args:
        min_f1: Weighted F1 on the test split below which nothing goes downstream.
    """
    specs = [
        dg.AssetCheckSpec(
            "meets_quality_bar",
            asset="model_evaluation",
            blocking=True,
            description=f"Weighted F1 on the test split is at least {min_f1} and beats the majority class.",
        ),
        dg.AssetCheckSpec(
            "is_calibrated",
            asset="model_evaluation",
            description=f"Expected calibration error on the test split is at most {CALIBRATION_LIMIT}.",
        ),
        dg.AssetCheckSpec(
            "no_weak_slice",
            asset="model_evaluation",
            description=f"No slice of {SLICE_ROWS} or more test rows is {WEAK_SLICE_GAP} F1 worse than the whole.",
        ),
        dg.AssetCheckSpec(
            "no_forgetting",
            asset="model_evaluation",
            description="No period and no tag has lost significantly against the champion "
            f"(exact sign test, corrected over all, p > {FORGETTING_ALPHA}).",
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
    """Warn where the probabilities are not calibrated."""
    error = evaluation["overall"]["ece"]
    return dg.AssetCheckResult(
        check_name="is_calibrated",
        passed=error <= CALIBRATION_LIMIT,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"The expected calibration error is {error:.3f}; the limit is {CALIBRATION_LIMIT}.",
        metadata={"expected_calibration_error": error, "limit": CALIBRATION_LIMIT},
    )


def _no_weak_slice(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    """Warn where the average hides a group with poor predictions."""
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
        description=f"Weighted F1 is under {floor:.3f} on {', '.join(weak)}." if weak else None,
        metadata={"weak_slices": dg.MetadataValue.json(weak), "floor": floor},
    )


def _no_forgetting(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    """Warn where a period or a tag is worse than under the champion, whatever the average."""
    from mlops_platform.ml.evaluation.slices import SliceComparison, forgotten

    # values of earlier releases have none
    slices = [SliceComparison(**item) for item in (*evaluation.get("periods", ()), *evaluation.get("tags", ()))]
    lost = forgotten(slices, FORGETTING_ALPHA)
    listed = ", ".join(f"{item.name} ({item.lost} rows lost, {item.won} won)" for item in lost)
    return dg.AssetCheckResult(
        check_name="no_forgetting",
        passed=not lost,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Against the champion, version {evaluation['version']} has lost {listed}." if lost else None,
        metadata={"compared_slices": sum(item.p_value is not None for item in slices)},
    )


@dg.asset_check(
    asset="validated_dataset",
    description=f"Test and train hold the classes in the same proportions (chi-squared, p > {STRATIFICATION_ALPHA}).",
)
def splits_are_stratified(validated_dataset: dict[str, Any], datasets: dg.ResourceParam[Any]) -> dg.AssetCheckResult:
    """Warn where the hash of the ids happens to split a class unevenly."""
    from mlops_platform.ml.training_data import splits

    version = validated_dataset["version"]
    train, test = datasets.counts(version, "train"), datasets.counts(version, "test")
    result = splits.stratification_of({tag: (train.get(tag, 0), test.get(tag, 0)) for tag in {*train, *test}})
    return dg.AssetCheckResult(
        passed=result.p_value > STRATIFICATION_ALPHA,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"A split this uneven has a probability of {result.p_value:.3f}.",
        metadata={
            "p_value": result.p_value,
            "classes": dg.MetadataValue.json(result.to_dict()["classes"]),
        },
    )
