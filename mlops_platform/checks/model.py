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
    descriptions = {
        "meets_quality_bar": f"Weighted F1 on the holdout set is at least {min_f1} and exceeds that of the majority "
        "class.",
        "is_calibrated": f"Expected calibration error on the holdout set is at most {CALIBRATION_LIMIT}.",
        "no_weak_slice": f"No slice of {SLICE_ROWS} or more rows has an F1 more than {WEAK_SLICE_GAP} below the total.",
        "no_forgetting": "No period and no tag is predicted significantly worse than by the champion "
        f"(exact sign test with Holm's correction, p > {FORGETTING_ALPHA}).",
    }
    specs = [
        dg.AssetCheckSpec(name, asset="model_evaluation", description=text, blocking=name == "meets_quality_bar")
        for name, text in descriptions.items()
    ]

    @dg.multi_asset_check(name="model_evaluation_figures", specs=specs, can_subset=True)
    def figures(
        context: dg.AssetCheckExecutionContext, model_evaluation: dict[str, Any]
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        results = (
            _meets_quality_bar(model_evaluation, min_f1),
            _is_calibrated(model_evaluation),
            _no_weak_slice(model_evaluation),
            _no_forgetting(model_evaluation),
        )
        yield from (result for result in results if result.check_name in selected)

    return [figures, splits_are_stratified]


def _warning(name: str, passed: bool, description: str | None, **metadata: Any) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=description,
        metadata=metadata,
    )


def _meets_quality_bar(evaluation: dict[str, Any], min_f1: float) -> dg.AssetCheckResult:
    overall = evaluation["overall"]
    passed, why = promotion_gates.quality(overall["f1_weighted"], overall["f1_weighted_of_majority"], min_f1)
    return dg.AssetCheckResult(
        check_name="meets_quality_bar",
        passed=passed,
        description=f"Version {evaluation['version']}: {why}.",
        metadata={"weighted_f1": overall["f1_weighted"], "bar": min_f1, "test_rows": overall["rows"]},
    )


def _is_calibrated(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    error = evaluation["overall"]["ece"]
    description = f"The expected calibration error is {error:.3f}; the limit is {CALIBRATION_LIMIT}."
    return _warning(
        "is_calibrated",
        error <= CALIBRATION_LIMIT,
        description,
        expected_calibration_error=error,
        limit=CALIBRATION_LIMIT,
    )


def _no_weak_slice(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    floor = evaluation["overall"]["f1_weighted"] - WEAK_SLICE_GAP
    weak = {
        name: figures["f1_weighted"]
        for name, figures in evaluation["slices"].items()
        if figures["rows"] >= SLICE_ROWS and figures["f1_weighted"] < floor
    }
    description = f"Weighted F1 is below {floor:.3f} on {', '.join(weak)}." if weak else None
    return _warning("no_weak_slice", not weak, description, weak_slices=dg.MetadataValue.json(weak), floor=floor)


def _no_forgetting(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    from mlops_platform.ml.evaluation.slices import SliceComparison, forgotten

    # values that an earlier release stored have neither
    slices = [SliceComparison(**item) for item in (*evaluation.get("periods", ()), *evaluation.get("tags", ()))]
    lost = forgotten(slices, FORGETTING_ALPHA)
    listed = ", ".join(f"{item.name} ({item.lost} rows lost, {item.won} won)" for item in lost)
    description = f"Version {evaluation['version']} is significantly worse than the champion on {listed}."
    compared = sum(item.p_value is not None for item in slices)
    return _warning("no_forgetting", not lost, description if lost else None, compared_slices=compared)


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
    classes = dg.MetadataValue.json(result.classes)
    return dg.AssetCheckResult(
        passed=result.p_value > STRATIFICATION_ALPHA,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"A random split is this uneven with probability {result.p_value:.3f}.",
        metadata={"p_value": result.p_value, "classes": classes},
    )
