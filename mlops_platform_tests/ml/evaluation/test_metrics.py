"""Figures against cases worked by hand, and the bootstrap against a plain loop."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from mlops_platform.ml.evaluation.metrics import evaluate, expected_calibration_error, paired_bootstrap

CLASSES = ["computer-vision", "mlops", "other"]
TEXTS = ["a Computer Vision tool", "short one", "word " * 41, "word " * 20]
TRUTH = ["computer-vision", "mlops", "other", "mlops"]
PROBA = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.55, 0.2, 0.25], [0.1, 0.7, 0.2]])


def test_figures_of_a_case_worked_by_hand() -> None:
    result = evaluate(TRUTH, PROBA, CLASSES, TEXTS)
    assert result.confusion == [[1, 0, 0], [0, 2, 0], [1, 0, 0]]
    assert result.overall["rows"] == 4
    assert result.overall["accuracy"] == 0.75
    assert result.overall["f1_weighted"] == pytest.approx((2 / 3 + 2 * 1 + 0) / 4)
    assert result.overall["f1_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert result.overall["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.25, 0.7]).mean())
    one_hot = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]])
    assert result.overall["brier"] == pytest.approx(((PROBA - one_hot) ** 2).sum(axis=1).mean())
    assert result.overall["ece"] == pytest.approx((0.1 + 0.2 + 0.55 + 0.3) / 4)
    assert result.per_class["mlops"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 2}
    assert result.per_class["other"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_slices_hold_the_right_rows_and_an_empty_one_has_no_score() -> None:
    slices = {name.split(" ")[0]: found for name, found in evaluate(TRUTH, PROBA, CLASSES, TEXTS).slices.items()}
    assert {name: found.rows for name, found in slices.items()} == {
        "short_text": 2,
        "medium_text": 1,
        "long_text": 1,
        "names_a_tag": 1,
        "names_no_tag": 3,
        "low_confidence": 1,
    }
    assert slices["low_confidence"].f1_weighted == 0.0  # one row, and it is wrong
    assert slices["short_text"].accuracy == 1.0
    sure = evaluate(TRUTH[:2], PROBA[:2], CLASSES, TEXTS[:2]).slices
    empty = sure["low_confidence (under 0.6)"]
    assert (empty.rows, empty.accuracy, empty.f1_weighted) == (0, None, None)


def test_is_plain_json() -> None:
    found = json.loads(json.dumps(asdict(evaluate(TRUTH, PROBA, CLASSES, TEXTS)), allow_nan=False))
    assert found["calibration"][0] == {
        "low": 0.0,
        "high": 0.1,
        "rows": 0,
        "confidence": None,
        "accuracy": None,
    }
    assert sum(row["rows"] for row in found["calibration"]) == 4


def test_a_class_the_model_never_saw_counts_as_missed() -> None:
    result = evaluate(["robotics", *TRUTH[1:]], PROBA, CLASSES, TEXTS)
    assert result.classes == [*CLASSES, "robotics"]
    assert result.per_class["robotics"]["recall"] == 0.0
    assert np.isfinite(result.overall["log_loss"])
    assert result.overall["log_loss"] > 5


def test_mismatched_or_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="test split is empty"):
        evaluate([], np.zeros((0, 3)), CLASSES, [])
    with pytest.raises(ValueError, match="3 texts"):
        evaluate(TRUTH, PROBA, CLASSES, TEXTS[:3])


def test_calibration_error_is_small_for_honest_and_large_for_boastful_probabilities() -> None:
    draw = np.random.default_rng(0)
    p = draw.uniform(0.5, 1, 20_000)
    honest = np.stack([p, 1 - p], axis=1)
    truth = np.where(draw.random(20_000) < p, "a", "b")
    assert expected_calibration_error(truth, honest, ["a", "b"]) < 0.01
    boastful = np.tile([0.99, 0.01], (20_000, 1))
    assert expected_calibration_error(truth, boastful, ["a", "b"]) == pytest.approx(0.24, abs=0.01)


def plain_bootstrap(y: npt.NDArray[np.str_], a: npt.NDArray[np.str_], b: npt.NDArray[np.str_]) -> list[float]:
    """The textbook loop: draw rows, score both models with scikit-learn."""
    draw, differences = np.random.default_rng(1), []
    for _ in range(400):
        rows = draw.integers(0, len(y), len(y))
        scores = [f1_score(y[rows], p[rows], average="weighted", zero_division=0.0) for p in (a, b)]
        differences.append(scores[0] - scores[1])
    return np.quantile(differences, [0.025, 0.975]).tolist()


def test_bootstrap_agrees_with_the_plain_loop() -> None:
    draw = np.random.default_rng(0)
    letters = np.array(list("abc"))
    y = draw.choice(letters, 150, p=[0.5, 0.3, 0.2])
    pred_a = np.where(draw.random(150) < 0.1, draw.choice(letters, 150), y)
    pred_b = np.where(draw.random(150) < 0.4, draw.choice(letters, 150), y)
    found = paired_bootstrap(y.tolist(), pred_a.tolist(), pred_b.tolist(), n=4000)
    expected = [f1_score(y, p, average="weighted") for p in (pred_a, pred_b)]
    assert found.value == pytest.approx(expected[0] - expected[1])
    assert [found.low, found.high] == pytest.approx(plain_bootstrap(y, pred_a, pred_b), abs=0.02)
    assert found.low > 0


def test_bootstrap_tells_a_loss_from_chance() -> None:
    y = ["a", "b"] * 100
    worse = ["b", "a"] * 20 + y[40:]
    assert paired_bootstrap(y, worse, y).is_loss
    assert not paired_bootstrap(y, y, worse).is_loss
    slightly = ["b", *y[1:]]
    assert not paired_bootstrap(y, slightly, y).is_loss


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from("abcd")] * 3), min_size=1, max_size=40), st.integers(0, 9))
def test_bootstrap_is_antisymmetric_seeded_and_zero_for_equals(rows: list[tuple[str, str, str]], seed: int) -> None:
    y, a, b = (list(column) for column in zip(*rows, strict=True))
    found = paired_bootstrap(y, a, b, n=200, seed=seed)
    assert found == paired_bootstrap(y, a, b, n=200, seed=seed)
    assert paired_bootstrap(y, b, a, n=200).value == pytest.approx(-found.value)
    assert -1 <= found.low <= found.high <= 1
    same = paired_bootstrap(y, a, a, n=200, seed=seed)
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_bootstrap_is_quick_however_many_rows() -> None:
    y = np.random.default_rng(0).choice(list("abcd"), 100_000).tolist()
    start = time.process_time()
    paired_bootstrap(y, y[::-1], y)
    assert time.process_time() - start < 2


def test_bootstrap_needs_the_same_rows_and_one_or_more() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_bootstrap(["a"], ["a"], [])
    with pytest.raises(ValueError, match="no rows"):
        paired_bootstrap([], [], [])
