"""Comparison of two models by period and tag, which shows where the newer one has become worse.

Metrics of a single model belong in `metrics`, the plot in `plots`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from mlops_platform.ml.evaluation.metrics import weighted_f1
from mlops_platform.ml.evaluation.multiple_testing import holm

LEAST_ROWS = 20  # a shorter period is merged with the preceding one
UNDATED = "undated"


@dataclass(frozen=True)
class SliceComparison:
    """Two models on the same rows.

    Attributes:
        name: Name of the period or tag.
        rows: Number of rows.
        f1: Weighted F1 of the candidate.
        champion_f1: Weighted F1 of the champion; None without one.
        lost: Rows that only the champion predicts correctly.
        won: Rows that only the candidate predicts correctly.
        p_value: Of an exact one-sided sign test that the candidate is worse (McNemar 1947), not corrected for the
            number of slices (see `forgotten`); None without a champion.
    """

    name: str
    rows: int
    f1: float
    champion_f1: float | None = None
    lost: int = 0
    won: int = 0
    p_value: float | None = None


def quarters(times: Sequence[object]) -> list[str]:
    """Return the name of the quarter of each time, such as `2024 Q1`; None and NaT are undated.

    Consecutive quarters are merged until a period has `LEAST_ROWS`; a shorter last period joins the preceding one.
    """
    timestamps = pd.to_datetime(pd.Series(list(times), dtype=object), utc=True, errors="coerce")
    quarter_of = timestamps.dt.tz_localize(None).dt.to_period("Q")
    counts = quarter_of.value_counts().sort_index()
    groups: list[list[Any]] = []
    for quarter in counts.index:
        if groups and counts[groups[-1]].sum() < LEAST_ROWS:
            groups[-1].append(quarter)
        else:
            groups.append([quarter])
    if len(groups) > 1 and counts[groups[-1]].sum() < LEAST_ROWS:
        groups[-2:] = [groups[-2] + groups[-1]]
    names = {}
    for group in groups:
        first, last = (f"{quarter.year} Q{quarter.quarter}" for quarter in (group[0], group[-1]))
        names.update(dict.fromkeys(group, first if first == last else f"{first} to {last}"))
    return [names.get(quarter, UNDATED) for quarter in quarter_of]


def compare_slices(
    slices: Sequence[str], truth: Sequence[str], candidate: Sequence[str], champion: Sequence[str] | None
) -> list[SliceComparison]:
    """Compare the predictions of two models slice by slice, sorted by the name of the slice.

    Args:
        slices: Slice of each of n rows.
        truth: True tags.
        candidate: Predictions of the candidate.
        champion: Predictions of the champion; None without one.
    """
    slice_of, true, new = np.asarray(slices), np.asarray(truth), np.asarray(candidate)
    comparisons = []
    for name in sorted(set(slices)):
        rows = slice_of == name
        comparison = SliceComparison(name, int(rows.sum()), weighted_f1(true[rows], new[rows]))
        if champion is not None:
            old = np.asarray(champion)
            lost = int((rows & (old == true) & (new != true)).sum())
            won = int((rows & (old != true) & (new == true)).sum())
            champion_f1, p_value = weighted_f1(true[rows], old[rows]), sign_test(lost, won)
            comparison = replace(comparison, champion_f1=champion_f1, lost=lost, won=won, p_value=p_value)
        comparisons.append(comparison)
    return comparisons


def sign_test(lost: int, won: int) -> float:
    """Return the probability of at least `lost` of `lost + won` rows if either is equally likely (exact, one-sided)."""
    return float(binom.sf(lost - 1, lost + won, 0.5))


def forgotten(slices: Sequence[SliceComparison], alpha: float) -> list[SliceComparison]:
    """Return the slices in which the candidate is significantly worse, corrected for multiple testing.

    Slices in which the models differ on too few rows to ever be significant are excluded (Tarone 1990), which depends
    on the number of those rows but not on which model is right; the others are corrected by Holm (1979).

    Args:
        slices: Comparisons by period and by tag; they may share rows.
        alpha: Family-wise error rate.
    """
    compared = [comparison for comparison in slices if comparison.p_value is not None]
    for tests in range(1, len(compared) + 1):
        testable = [c for c in compared if 0.5 ** (c.lost + c.won) <= alpha / tests]
        if len(testable) <= tests:
            adjusted = holm([c.p_value for c in testable if c.p_value is not None])
            return [c for c, p in zip(testable, adjusted, strict=True) if p <= alpha]
    return []
