"""Metrics of predictions: overall, by class, by slice, by confidence, and compared with another model's.

They take labels and probabilities, not models. Plots belong in `plots`, comparisons by period and tag in `slices`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

CALIBRATION_BINS = 10
SHORT_WORDS, LONG_WORDS = 12, 40  # about the shortest and the longest sixth of the Made With ML texts
LOW_CONFIDENCE = 0.6


@dataclass(frozen=True)
class Slice:
    """Metrics of a subset of the rows; None if it is empty."""

    rows: int
    accuracy: float | None
    f1_weighted: float | None


@dataclass(frozen=True)
class CalibrationBin:
    """Rows with a top probability in [low, high), their mean confidence and their accuracy."""

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Evaluation:
    """All metrics of one model on one set of rows.

    Attributes:
        overall: rows, accuracy, precision/recall/f1 as *_weighted and *_macro, log_loss (nats), brier (0 to
            2), ece (expected calibration error).
        per_class: precision, recall, f1 and support of each class.
        slices: Metrics of subsets, which may overlap.
        calibration: Bins of equal width of the top probability.
        classes: The order of the rows (truth) and columns (prediction) of `confusion`.
        confusion: Counts.
    """

    overall: dict[str, float]
    per_class: dict[str, dict[str, float]]
    slices: dict[str, Slice]
    calibration: list[CalibrationBin]
    classes: list[str]
    confusion: list[list[int]]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return asdict(self)


def weighted_f1(y_true: Sequence[str] | npt.NDArray[Any], y_pred: Sequence[str] | npt.NDArray[Any]) -> float:
    """Return the F1 score averaged over the classes by support; a class that is never predicted has 0."""
    return float(f1_score(y_true, y_pred, average="weighted", zero_division=0.0))


def calibration_bins(
    y_true: Sequence[str] | npt.NDArray[Any],
    proba: npt.NDArray[np.float64],
    classes: Sequence[str],
    *,
    bins: int = CALIBRATION_BINS,
) -> list[CalibrationBin]:
    """Bin rows by their top probability, of shape (n, len(classes)), into `bins` bins of equal width."""
    confidence = proba.max(axis=1)
    correct = np.asarray(classes)[proba.argmax(axis=1)] == np.asarray(y_true)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    table = []
    for k in range(bins):
        rows = bin_of == k
        means = (float(confidence[rows].mean()), float(correct[rows].mean())) if rows.any() else (None, None)
        table.append(CalibrationBin(k / bins, (k + 1) / bins, int(rows.sum()), *means))
    return table


def expected_calibration_error(
    y_true: Sequence[str] | npt.NDArray[Any],
    proba: npt.NDArray[np.float64],
    classes: Sequence[str],
    *,
    bins: int = CALIBRATION_BINS,
) -> float:
    """Return the mean gap between confidence and accuracy over bins of confidence (Guo et al. 2017)."""
    table = calibration_bins(y_true, proba, classes, bins=bins)
    return sum(
        b.rows * abs(b.confidence - b.accuracy) for b in table if b.confidence is not None and b.accuracy is not None
    ) / len(proba)


def _slice(y_true: npt.NDArray[Any], y_pred: npt.NDArray[Any], rows: npt.NDArray[np.bool_]) -> Slice:
    if not rows.any():
        return Slice(0, None, None)
    truth, predicted = y_true[rows], y_pred[rows]
    return Slice(int(rows.sum()), float(accuracy_score(truth, predicted)), weighted_f1(truth, predicted))


def evaluate(y_true: Sequence[str], proba: npt.ArrayLike, classes: Sequence[str], texts: Sequence[str]) -> Evaluation:
    """Evaluate predicted probabilities against the truth.

    A class of `y_true` that is not in `classes`, since the model was not trained on it, has probability 0.

    Args:
        y_true: True class of each row, length n > 0.
        proba: Predicted probabilities, shape (n, len(classes)), rows that sum to 1.
        classes: The columns of `proba`.
        texts: Text of each row, length n, which defines the slices.

    Raises:
        ValueError: There are no rows, or the lengths differ.
    """
    p, truth = np.asarray(proba, dtype=float), np.asarray(y_true, dtype=str)
    if not len(truth):
        raise ValueError("There are no rows to evaluate on: the test split is empty.")
    if p.shape != (len(truth), len(classes)) or len(texts) != len(truth):
        raise ValueError(
            f"There are {len(truth)} labels, {len(texts)} texts and probabilities of shape {p.shape} for"
            f" {len(classes)} classes; give one row of each."
        )
    names = sorted({*map(str, classes), *truth.tolist()})
    full = np.zeros((len(truth), len(names)))
    full[:, [names.index(str(name)) for name in classes]] = p
    predicted = np.asarray(names)[full.argmax(axis=1)]

    overall: dict[str, float] = {"rows": len(truth), "accuracy": float(accuracy_score(truth, predicted))}
    for average in ("weighted", "macro"):
        # macro over the classes that are true or predicted for some row: others have no score
        scores = precision_recall_fscore_support(truth, predicted, average=average, zero_division=0.0)
        for name, value in zip(("precision", "recall", "f1"), scores, strict=False):
            overall[f"{name}_{average}"] = float(value)
    if len(names) > 1:
        overall["log_loss"] = float(log_loss(truth, full, labels=names))
        overall["brier"] = float(brier_score_loss(truth, full, labels=names, scale_by_half=False))
    overall["ece"] = expected_calibration_error(truth, full, names)

    by_class = precision_recall_fscore_support(truth, predicted, labels=names, zero_division=0.0)
    per_class = {
        name: {
            "precision": float(by_class[0][k]),
            "recall": float(by_class[1][k]),
            "f1": float(by_class[2][k]),
            "support": int(by_class[3][k]),
        }
        for k, name in enumerate(names)
    }

    words = np.array([len(text.split()) for text in texts])
    phrases = "|".join(re.escape(name).replace(r"\-", r"[-\s]+") for name in names)
    named = re.compile(rf"\b(?:{phrases})\b", re.IGNORECASE)
    names_a_tag = np.array([bool(named.search(text)) for text in texts])
    masks = {
        f"short_text (under {SHORT_WORDS} words)": words < SHORT_WORDS,
        f"medium_text ({SHORT_WORDS} to {LONG_WORDS} words)": (words >= SHORT_WORDS) & (words <= LONG_WORDS),
        f"long_text (over {LONG_WORDS} words)": words > LONG_WORDS,
        "names_a_tag": names_a_tag,
        "names_no_tag": ~names_a_tag,
        f"low_confidence (under {LOW_CONFIDENCE})": full.max(axis=1) < LOW_CONFIDENCE,
    }
    return Evaluation(
        overall=overall,
        per_class=per_class,
        slices={name: _slice(truth, predicted, rows) for name, rows in masks.items()},
        calibration=calibration_bins(truth, full, names),
        classes=names,
        confusion=confusion_matrix(truth, predicted, labels=names).tolist(),
    )


@dataclass(frozen=True)
class Difference:
    """Difference in weighted F1 of two models on the same rows, the first minus the second, with its interval.

    Attributes:
        value: The difference.
        low: Lower end of the interval.
        high: Upper end of the interval.
        confidence: Coverage of the interval.
        resamples: Number of bootstrap resamples.
        rows: Number of rows.
    """

    value: float
    low: float
    high: float
    confidence: float
    resamples: int
    rows: int

    @property
    def is_loss(self) -> bool:
        """Whether the first model is significantly worse: the whole interval is below 0."""
        return self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return asdict(self)


def _weighted_f1_of(confusion: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the weighted F1 of each confusion matrix; shape (m, k, k), truth in the rows, to (m,)."""
    support, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return (f1 * support).sum(axis=1) / support.sum(axis=1)


def paired_bootstrap(
    y_true: Sequence[str],
    pred_a: Sequence[str],
    pred_b: Sequence[str],
    *,
    n: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference:
    """Compare two models' weighted F1 on the same rows, with a paired percentile bootstrap interval.

    Rows are resampled with replacement, both predictions of a row together (Efron & Tibshirani 1993, ch. 13;
    Koehn 2004 for paired comparison). Rows with the same (truth, a, b) are interchangeable, so a resample is
    one multinomial draw of the counts of those triples: exact, at a cost independent of the number of rows.

    Args:
        y_true: True class of each row, length > 0.
        pred_a: Prediction of the first model (the challenger) for each row.
        pred_b: Prediction of the second model (the champion) for each row.
        n: Number of resamples.
        seed: Seed of the resampling.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: There are no rows, the lengths differ, or an argument is out of range.
    """
    rows = len(y_true)
    if not rows or len(pred_a) != rows or len(pred_b) != rows:
        raise ValueError(
            f"There are {rows} true labels and {len(pred_a)} and {len(pred_b)} predictions; comparing needs"
            " the same rows, one or more."
        )
    if n < 1 or not 0 < confidence < 1:
        raise ValueError(f"n is {n} and confidence {confidence}; they must be at least 1 and inside (0, 1).")
    names, codes = np.unique(
        np.concatenate([np.asarray(v, dtype=str) for v in (y_true, pred_a, pred_b)]), return_inverse=True
    )
    k = len(names)
    triples, counts = np.unique(codes.reshape(3, rows), axis=1, return_counts=True)

    def difference(weights: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        scores = []
        for predicted in (triples[1], triples[2]):
            cell = np.zeros((len(counts), k * k))
            cell[np.arange(len(counts)), triples[0] * k + predicted] = 1
            scores.append(_weighted_f1_of((weights @ cell).reshape(-1, k, k)))
        return scores[0] - scores[1]

    drawn = np.random.default_rng(seed).multinomial(rows, counts / rows, size=n)
    low, high = np.quantile(difference(drawn), [(1 - confidence) / 2, (1 + confidence) / 2])
    value = float(difference(counts[None, :])[0])
    return Difference(value, float(low), float(high), confidence, n, rows)
