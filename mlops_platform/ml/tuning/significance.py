"""The significance of a tuning gain, measured on folds that the search did not use.

The best of many trials owes part of its score to chance on the folds it was selected on; fresh folds are unbiased.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mlops_platform.ml.classifier.text_classifier import Params
from mlops_platform.ml.tuning.cross_validation import FoldScorer

CONFIDENCE = 0.9  # two-sided; a lower end above 0 is a one-sided test at 0.05
REPEATS, HELD_OUT_ROWS = 4, 8_000  # fresh cross-validations; fewer once that many rows were held out in total


@dataclass(frozen=True)
class Confirmation:
    """Mean difference in weighted F1 of two sets of parameters over `folds`, with its interval."""

    difference: float
    low: float
    high: float
    folds: int

    @property
    def better(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0


def interval(differences: Sequence[float], held_out: float, confidence: float = CONFIDENCE) -> Confirmation:
    """Return the mean of paired score differences over the folds of repeated cross-validation, with its interval.

    The folds share training rows, so their mean varies more than that of independent draws: the variance is that of
    the corrected resampled t-test (Nadeau & Bengio 2003).

    Args:
        differences: Difference on each fold, two or more.
        held_out: Ratio of held-out to training rows in a fold, 1 / 4 with 5 folds.
        confidence: Coverage of the interval.
    """
    mean, n = float(np.mean(differences)), len(differences)
    error = math.sqrt((1 / n + held_out) * float(np.var(differences, ddof=1)))
    margin = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return Confirmation(mean, mean - margin, mean + margin, n)


def confirm(
    scorer: Callable[[int], FoldScorer], tuned: Params, default: Params, *, seed: int, rows: int
) -> Confirmation:
    """Compare tuned parameters with the default on fresh folds.

    Args:
        scorer: Builds a scorer on the folds of a seed.
        tuned: Best parameters of the search.
        default: Default parameters.
        seed: Seed of the search, whose folds are not used.
        rows: Number of training rows; with many, one cross-validation suffices.
    """
    differences: list[float] = []
    folds = 0
    for repeat in range(min(REPEATS, math.ceil(HELD_OUT_ROWS / rows))):
        fresh = scorer(seed + 1_000_003 * (repeat + 1))  # far from the seeds that people choose
        differences += (a - b for a, b in zip(fresh.scores(tuned), fresh.scores(default), strict=True))
        folds = len(fresh.folds)
    return interval(differences, 1 / (folds - 1))
