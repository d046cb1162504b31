"""Checks of the dataset's cut and of the model's figures: each just inside and just outside its limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from mlops_platform.checks.model import build_model_checks
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.json_io_manager import JsonValues


def _evaluation(**changes: Any) -> dict[str, Any]:
    overall = {"f1_weighted": 0.85, "f1_weighted_of_majority": 0.3, "rows": 120, "ece": 0.05}
    slices = {"short": {"rows": 40, "f1_weighted": 0.8}, "rare": {"rows": 19, "f1_weighted": 0.1}}
    return {"version": "3", "overall": {**overall, **changes}, "slices": slices}


def _run(value: dict[str, Any], asset: str, home: Path, min_f1: float = 0.7) -> tuple[Any, bool]:
    """Run the checks on an asset with this value; returns the evaluations, and whether downstream ran."""
    ran = []

    @dg.asset(name=asset)
    def judged() -> dict[str, Any]:
        return value

    @dg.asset(deps=[asset])
    def promotion() -> None:
        ran.append(asset)

    checks = [each for each in build_model_checks(min_f1) if dg.AssetKey(asset) in each.keys_by_input_name.values()]
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [judged, promotion, *checks],
            resources={
                "io_manager": JsonValues(base_dir=str(home / "values")),
                "datasets": DatasetStore(base_dir=str(home)),
            },
            instance=instance,
            raise_on_error=False,
        )
    return {each.check_name: each for each in result.get_asset_check_evaluations()}, bool(ran)


def test_a_good_model_passes_every_check(tmp_path: Path) -> None:
    checks, promoted = _run(_evaluation(), "model_evaluation", tmp_path)
    assert {name: each.passed for name, each in checks.items()} == {
        "meets_quality_bar": True,
        "is_calibrated": True,
        "no_weak_slice": True,
        "no_forgetting": True,
    }
    assert promoted


@pytest.mark.parametrize(
    ("changes", "passes", "said"),
    [
        ({"f1_weighted": 0.7}, True, "clears the bar"),
        ({"f1_weighted": 0.699}, False, "under the bar of 0.700"),
        ({"f1_weighted_of_majority": 0.85}, False, "does not beat the majority class"),
    ],
)
def test_the_quality_bar_holds_back_what_is_under_it(
    tmp_path: Path, changes: dict[str, float], passes: bool, said: str
) -> None:
    checks, promoted = _run(_evaluation(**changes), "model_evaluation", tmp_path)
    bar = checks["meets_quality_bar"]
    assert bar.passed is passes
    assert bar.severity is dg.AssetCheckSeverity.ERROR
    assert promoted is passes
    assert "Version 3: " in bar.description
    assert said in bar.description
    assert bar.metadata["test_rows"].value == 120


@pytest.mark.parametrize(("ece", "passes"), [(0.15, True), (0.151, False)])
def test_probabilities_that_mislead_are_a_warning(tmp_path: Path, ece: float, passes: bool) -> None:
    checks, promoted = _run(_evaluation(ece=ece), "model_evaluation", tmp_path)
    assert checks["is_calibrated"].passed is passes
    assert checks["is_calibrated"].severity is dg.AssetCheckSeverity.WARN
    assert promoted


@pytest.mark.parametrize(("rows", "f1", "passes"), [(20, 0.64, False), (20, 0.66, True), (19, 0.0, True)])
def test_a_weak_slice_of_some_size_is_a_warning(tmp_path: Path, rows: int, f1: float, passes: bool) -> None:
    evaluation = _evaluation()
    evaluation["slices"] = {"short": {"rows": rows, "f1_weighted": f1}}
    checks, promoted = _run(evaluation, "model_evaluation", tmp_path)
    assert checks["no_weak_slice"].passed is passes
    assert checks["no_weak_slice"].metadata["weak_slices"].value == ({} if passes else {"short": f1})
    assert promoted


@pytest.mark.parametrize(
    ("test_tag", "passes"), [("case when id % 2 = 0 then 'mlops' else 'other' end", True), ("'mlops'", False)]
)
def test_a_split_that_cuts_a_class_unevenly_is_a_warning(tmp_path: Path, test_tag: str, passes: bool) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "copy (select i as id, now() as created_on, '' as title, '' as description, "
            f"case when i > 80 then {test_tag.replace('id', 'i')} when i % 2 = 0 then 'mlops' else 'other' end as tag, "
            "case when i > 80 then 'test' else 'train' end as split "
            f"from range(1, 101) as numbers(i)) to '{tmp_path}/v1.parquet' (format parquet)"
        )
    checks, went_on = _run({"version": "v1"}, "validated_dataset", tmp_path)
    check = checks["splits_are_stratified"]
    assert check.passed is passes
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert set(check.metadata["classes"].value) == {"mlops", "other"}
    assert went_on


@pytest.mark.parametrize(("p_value", "passes"), [(0.051, True), (0.05, False), (None, True)])
def test_what_was_forgotten_is_a_warning(tmp_path: Path, p_value: float | None, passes: bool) -> None:
    lost = {"name": "2024 Q1", "rows": 30, "f1": 0.5, "champion_f1": 0.9, "lost": 12, "won": 0, "p_value": p_value}
    checks, promoted = _run({**_evaluation(), "periods": [lost], "tags": []}, "model_evaluation", tmp_path)
    assert promoted
    assert checks["no_forgetting"].passed is passes
    assert checks["no_forgetting"].severity is dg.AssetCheckSeverity.WARN
    if not passes:
        assert "2024 Q1 (12 rows lost, 0 won)" in checks["no_forgetting"].description
