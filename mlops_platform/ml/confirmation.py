"""Whether tuned parameters are truly better than the default: asked on folds that the search has not seen.

The best of many trials owes part of its score to luck on the folds that it was chosen by; folds that are cut anew do
not know of that luck.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

REPEATS = 4
CONFIDENCE = 0.9  # both sides; the lower end above 0 is a test of one side at .05


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


def interval(differences: list[float], held_out: float, confidence: float = CONFIDENCE) -> Confirmation:
    """Judge paired differences over the folds of repeated cross-validation.

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


def confirm(differences: Callable[[int], Iterator[float]], folds: int, seed: int) -> Confirmation:
    """Compare two sets of parameters on fresh folds.

    Args:
        differences: Cuts folds by a seed and yields the difference of the scores on each.
        folds: Folds of a cut.
        seed: Of the search, whose folds are not among the fresh ones.
    """
    # far from the seeds that people choose, so that no fold of a search comes again
    found = [each for repeat in range(REPEATS) for each in differences(seed + 1_000_003 * (repeat + 1))]
    return interval(found, 1 / (folds - 1))
