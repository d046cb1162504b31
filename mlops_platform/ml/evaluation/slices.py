"""How well two models do on rows of different times and tags: where the newer one has forgotten something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from mlops_platform.ml.evaluation.metrics import weighted_f1
from mlops_platform.ml.evaluation.multiple_testing import holm

LEAST_ROWS = 20  # of a period; fewer are added to the period before
UNDATED = "undated"


@dataclass(frozen=True)
class SliceComparison:
    """Two models on the same rows.

    Attributes:
        name: Of the period or tag.
        rows: How many.
        f1: Weighted F1 of the candidate.
        champion_f1: That of the champion; None without one.
        lost: Rows that the champion had right and the candidate has wrong.
        won: Rows that it is the other way round with.
        p_value: Chance of so many more lost than won if the two are as good (exact sign test, one-sided; McNemar
            1947), not corrected for the number of slices (see `forgotten`); None without a champion.
    """

    name: str
    rows: int
    f1: float
    champion_f1: float | None = None
    lost: int = 0
    won: int = 0
    p_value: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-able values."""
        return asdict(self)


def quarters(times: Sequence[object], *, least: int = LEAST_ROWS) -> list[str]:
    """Name the quarter of each row, such as `2024 Q1`; quarters with few rows are one with those before.

    Args:
        times: n times; None and NaT are undated.
        least: Rows that a period needs; the last one is added to that before where it has fewer.

    Returns:
        n names.
    """
    made = pd.to_datetime(pd.Series(list(times), dtype=object), utc=True, errors="coerce")
    found = pd.Series(made.dt.tz_localize(None).dt.to_period("Q"))
    counts = found.value_counts().sort_index()
    groups: list[list[Any]] = []
    size = least
    for quarter, rows in counts.items():
        if size >= least:
            groups.append([])
            size = 0
        groups[-1].append(quarter)
        size += rows
    if len(groups) > 1 and size < least:
        last_group = groups.pop()
        groups[-1] += last_group
    names = {}
    for group in groups:
        first, last = (f"{each.year} Q{each.quarter}" for each in (group[0], group[-1]))
        names.update(dict.fromkeys(group, first if first == last else f"{first} to {last}"))
    return [names.get(quarter, UNDATED) for quarter in found]


def compare_slices(
    slices: Sequence[str], truth: Sequence[str], ours: Sequence[str], theirs: Sequence[str] | None
) -> list[SliceComparison]:
    """Compare two models slice by slice.

    Args:
        slices: Slice of each of n rows.
        truth: True tags.
        ours: What the candidate predicts.
        theirs: What the champion predicts; None without one.

    Returns:
        A comparison a slice, by name.
    """
    of, true, new = np.asarray(slices), np.asarray(truth), np.asarray(ours)
    found = []
    for name in sorted(set(slices)):
        rows = of == name
        f1 = weighted_f1(true[rows], new[rows])
        if theirs is None:
            found.append(SliceComparison(name, int(rows.sum()), f1))
            continue
        old = np.asarray(theirs)
        lost = int((rows & (old == true) & (new != true)).sum())
        won = int((rows & (old != true) & (new == true)).sum())
        champion_f1, p = weighted_f1(true[rows], old[rows]), sign_test(lost, won)
        found.append(SliceComparison(name, int(rows.sum()), f1, champion_f1, lost, won, p))
    return found


def sign_test(lost: int, won: int) -> float:
    """Chance of as many lost, or more, of `lost + won` rows if each is as likely to be won (exact, one-sided)."""
    return float(binom.sf(lost - 1, lost + won, 0.5))


def forgotten(slices: Sequence[SliceComparison], alpha: float) -> list[SliceComparison]:
    """Find the slices in which the candidate has lost significantly, by one correction over all of them.

    Slices in which the two models differ on so few rows that not even the worst outcome would count are left out of
    the correction (Tarone 1990), for which it does not matter who is right on those rows; the others are corrected by
    Holm (1979).

    Args:
        slices: Comparisons by period and by tag; they may share rows.
        alpha: Chance, at most, of naming any slice where the two models are as good.

    Returns:
        The slices, in their order; none without a champion.
    """
    able = [each for each in slices if each.p_value is not None]
    for tests in range(1, len(able) + 1):
        tested = [each for each in able if 0.5 ** (each.lost + each.won) <= alpha / tests]
        if len(tested) <= tests:
            adjusted = holm([each.p_value for each in tested if each.p_value is not None])
            return [each for each, p in zip(tested, adjusted, strict=True) if p <= alpha]
    return []
