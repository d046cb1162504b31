"""The promotion policy: every way a candidate can come out."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_platform.ml.evaluation import promotion_gates

GOOD: dict[str, Any] = {"f1": 0.9, "majority_f1": 0.3, "min_f1": 0.7}


def test_the_first_good_model_is_promoted() -> None:
    decision = promotion_gates.decide(candidate="1", champion=None, comparison=None, **GOOD)
    assert decision.action == "promote"
    assert "first champion" in decision.reason


@pytest.mark.parametrize(
    ("low", "high", "action"),
    [(-0.05, -0.001, "keep"), (-0.05, 0.0, "promote"), (-0.01, 0.03, "promote"), (0.01, 0.05, "promote")],
)
def test_only_a_significant_loss_keeps_the_champion(low: float, high: float, action: str) -> None:
    comparison = {"value": (low + high) / 2, "low": low, "high": high}
    decision = promotion_gates.decide(candidate="2", champion="1", comparison=comparison, **GOOD)
    assert decision.action == action
    assert f"{high:+.3f}" in decision.reason


@pytest.mark.parametrize("figures", [{"f1": 0.69}, {"f1": 0.8, "majority_f1": 0.8}])
def test_a_model_under_the_bar_is_refused_with_the_figure(figures: dict[str, float]) -> None:
    decision = promotion_gates.decide(candidate="2", champion=None, comparison=None, **{**GOOD, **figures})
    assert decision.action == "refuse"
    assert f"{figures['f1']:.3f}" in decision.reason


def test_the_champion_itself_is_kept() -> None:
    assert promotion_gates.decide(candidate="1", champion="1", comparison=None, **GOOD).action == "keep"
    worse = promotion_gates.decide(candidate="1", champion="1", comparison=None, **{**GOOD, "f1": 0.5})
    assert worse.action == "keep"
    assert "under the bar" in worse.reason


def test_a_comparison_that_is_missing_is_no_pass() -> None:
    with pytest.raises(ValueError, match="materialize model_evaluation again"):
        promotion_gates.decide(candidate="2", champion="1", comparison=None, **GOOD)
