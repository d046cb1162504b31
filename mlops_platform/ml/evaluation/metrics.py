"""Metrics of predictions: overall, by class, by slice, by confidence, and compared with another model's.

They take labels and probabilities, not models. Plots belong in `plots`, comparisons by period and tag in `slices`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

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

Labels = Sequence[str] | npt.NDArray[np.str_]

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


def weighted_f1(y_true: Labels, y_pred: Labels) -> float:
    """Return the F1 score averaged over the classes by support; a class that is never predicted has 0."""
    return float(f1_score(y_true, y_pred, average="weighted", zero_division=0.0))


def calibration_bins(y_true: Labels, proba: npt.NDArray[np.float64], classes: Sequence[str]) -> list[CalibrationBin]:
    """Bin rows by their top probability, of shape (n, len(classes)), into bins of equal width."""
    confidence = proba.max(axis=1)
    correct = np.asarray(classes)[proba.argmax(axis=1)] == np.asarray(y_true)
    bin_of = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    table = []
    for k in range(CALIBRATION_BINS):
        rows = bin_of == k
        means = (float(confidence[rows].mean()), float(correct[rows].mean())) if rows.any() else (None, None)
        table.append(CalibrationBin(k / CALIBRATION_BINS, (k + 1) / CALIBRATION_BINS, int(rows.sum()), *means))
    return table


def expected_calibration_error(y_true: Labels, proba: npt.NDArray[np.float64], classes: Sequence[str]) -> float:
    """Return the mean gap between confidence and accuracy over bins of confidence (Guo et al. 2017)."""
    bins = calibration_bins(y_true, proba, classes)
    return sum(b.rows * abs((b.confidence or 0.0) - (b.accuracy or 0.0)) for b in bins) / len(proba)


def _slice(y_true: npt.NDArray[np.str_], y_pred: npt.NDArray[np.str_], rows: npt.NDArray[np.bool_]) -> Slice:
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
    overall["log_loss"] = float(log_loss(truth, full, labels=names))
    overall["brier"] = float(brier_score_loss(truth, full, labels=names, scale_by_half=False))
    overall["ece"] = expected_calibration_error(truth, full, names)

    by_class = zip(*precision_recall_fscore_support(truth, predicted, labels=names, zero_division=0.0), strict=True)
    per_class = {
        name: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
        for name, (precision, recall, f1, support) in zip(names, by_class, strict=True)
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
    """Difference in weighted F1 of two models on the same rows, the first minus the second.

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
        ValueError: There are no rows, or the lengths differ.
    """
    rows_of = Counter(zip(y_true, pred_a, pred_b, strict=True))
    if not rows_of:
        raise ValueError("There are no rows to compare the models on.")
    rows, triples = rows_of.total(), sorted(rows_of)
    truth, *predictions = np.array(triples, dtype=str).T
    classes = np.unique(triples)
    counts = np.array([rows_of[triple] for triple in triples])
    resamples = np.random.default_rng(seed).multinomial(rows, counts / rows, size=n)
    weights = np.vstack([counts, resamples]).astype(float)

    def f1(predicted: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
        is_true, is_predicted = truth[:, None] == classes, predicted[:, None] == classes
        support, hits = weights @ is_true.astype(float), weights @ (is_true & is_predicted).astype(float)
        scores = 2 * hits / np.maximum(support + weights @ is_predicted.astype(float), 1)
        return (scores * support).sum(axis=1) / rows

    value, *differences = f1(predictions[0]) - f1(predictions[1])
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(float(value), float(low), float(high), confidence, n, rows)
