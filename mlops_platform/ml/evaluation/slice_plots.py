"""The picture of a model's F1 over time, beside the champion's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mlops_platform.ml.evaluation.plots import BLUE, DPI, GREY, INK, as_png
from mlops_platform.ml.evaluation.slices import SliceComparison


def periods_png(periods: Sequence[SliceComparison]) -> bytes:
    """Draw the F1 of each period for candidate and champion, with the rows that stand behind it."""
    figure = Figure(figsize=(max(6.0, 1.2 + 0.9 * len(periods)), 3.8), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title("Weighted F1 by period", loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    places = np.arange(len(periods))
    compared = any(each.champion_f1 is not None for each in periods)
    width = 0.38 if compared else 0.6
    if compared:
        before = [each.champion_f1 or 0.0 for each in periods]
        axes.bar(places - 0.2, before, width, color=GREY, label="champion")
    axes.bar(places + (0.2 if compared else 0.0), [each.f1 for each in periods], width, color=BLUE, label="candidate")
    names = [each.name.replace(" to ", " to\n") for each in periods]
    axes.set_xticks(places, [f"{name}\n{each.rows} rows" for name, each in zip(names, periods, strict=True)])
    axes.set_ylim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=8)
    axes.tick_params(axis="x", length=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return as_png(figure)
