"""The plot of a model's F1 over time, compared with the champion's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlops_platform.ml.evaluation.plots import BLUE, GREY, as_png, single_axes
from mlops_platform.ml.evaluation.slices import SliceComparison


def periods_png(periods: Sequence[SliceComparison]) -> bytes:
    """Draw the F1 of candidate and champion in each period, with its number of rows."""
    figure, axes = single_axes(max(6.0, 1.2 + 0.9 * len(periods)), 3.8, "Weighted F1 by period")
    places = np.arange(len(periods))
    compared = any(period.champion_f1 is not None for period in periods)
    width = 0.38 if compared else 0.6
    if compared:
        champion_f1 = [period.champion_f1 or 0.0 for period in periods]
        axes.bar(places - 0.2, champion_f1, width, color=GREY, label="champion")
    f1 = [period.f1 for period in periods]
    axes.bar(places + (0.2 if compared else 0.0), f1, width, color=BLUE, label="candidate")
    names = [period.name.replace(" to ", " to\n") for period in periods]
    axes.set_xticks(places, [f"{name}\n{period.rows} rows" for name, period in zip(names, periods, strict=True)])
    axes.set_ylim(0, 1)
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="x", length=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return as_png(figure)
