"""Whether tuned parameters are truly better than the default, measured on folds that the search has not seen.

The best of many trials owes part of its score to luck on the folds that it was chosen by; fresh folds do not share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mlops_platform.ml.classifier.text_classifier import Params
from mlops_platform.ml.tuning.fold_scorer import Scorer

CONFIDENCE = 0.9  # two-sided; the lower end above 0 is a one-sided test at 0.05
REPEATS, HELD_OUT_ROWS = 4, 8_000  # fresh cuts of the folds; fewer where that many rows were held out


@dataclass(frozen=True)
class Confirmation:
    """How much better one set of parameters is than another.

    Attributes:
        difference: Mean difference of weighted F1 over the folds.
        low: Lower end of its interval.
        high: Upper end.
        folds: Number of folds.
    """

    difference: float
    low: float
    high: float
    folds: int

    @property
    def better(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0


def interval(differences: Sequence[float], held_out: float, confidence: float = CONFIDENCE) -> Confirmation:
    """Return the mean of paired differences over the folds of repeated cross-validation, with its interval.

    The folds share their training rows, so their mean varies more than that of independent draws: the variance is
    that of the corrected resampled t-test (Nadeau & Bengio 2003).

    Args:
        differences: Of the scores on each fold, two or more.
        held_out: Held-out rows by training rows of a fold, as 1 / 4 with 5 folds.
        confidence: Of the interval.
    """
    mean, n = float(np.mean(differences)), len(differences)
    error = math.sqrt((1 / n + held_out) * float(np.var(differences, ddof=1)))
    reach = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return Confirmation(mean, mean - reach, mean + reach, n)


def confirm(scorer: Callable[[int], Scorer], tuned: Params, default: Params, *, seed: int, rows: int) -> Confirmation:
    """Compare tuned parameters with the default on fresh folds.

    Args:
        scorer: Makes a scorer on the folds of a seed.
        tuned: Parameters that the search prefers.
        default: The default ones.
        seed: Of the search, whose folds are not among the fresh ones.
        rows: Training rows; with many, one cut of the folds is enough.
    """
    differences: list[float] = []
    folds = 0
    for repeat in range(min(REPEATS, math.ceil(HELD_OUT_ROWS / rows))):
        fresh = scorer(seed + 1_000_003 * (repeat + 1))  # far from the seeds that people choose
        differences += (a - b for a, b in zip(fresh.scores(tuned), fresh.scores(default), strict=True))
        folds = fresh.folds
    return interval(differences, 1 / (folds - 1))
