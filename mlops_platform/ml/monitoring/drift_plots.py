"""Plots of a day's drift report: which tests fired, and how the window differs from the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mlops_platform.ml.evaluation.plots import BLUE, DPI, GREY, INK, ORANGE, VERMILION, as_png, tag_label
from mlops_platform.ml.monitoring.drift_tests import DriftTest, Sample

_SMALLEST_P = 1e-4  # the resolution of 9,999 resamples; smaller values are drawn there


def drift_png(
    tests: Sequence[DriftTest], reference: Sample, window: Sample, volumes: tuple[Sequence[int], Sequence[int]]
) -> bytes:
    """Draw a report as one figure; `volumes` are the rows on each day before the window, and on each day in it."""
    figure = Figure(figsize=(10.5, 7.2), dpi=DPI, layout="constrained")
    grid = figure.subplots(2, 2)
    _tests(_titled(grid[0, 0], "Which tests fired"), tests)
    _classes(_titled(grid[0, 1], "Predicted tags"), reference, window)
    _confidence(_titled(grid[1, 0], "Confidence"), reference, window)
    _volume(_titled(grid[1, 1], "Rows per day"), *volumes)
    figure.legend(
        *grid[0, 1].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9
    )
    return as_png(figure)


def _titled(axes: Axes, title: str) -> Axes:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=8)
    return axes


def _tests(axes: Axes, tests: Sequence[DriftTest]) -> None:
    """Draw one bar per test, longer for smaller p-values."""
    names = [test.name.replace("_", " ") for test in reversed(tests)]
    limit = -np.log10(tests[0].threshold) if tests else 2.0
    for place, test in enumerate(reversed(tests)):
        if test.adjusted_p is None:
            axes.text(0.03, place, "too little data", va="center", fontsize=8, color=GREY)
            continue
        length = -np.log10(max(test.adjusted_p, _SMALLEST_P))
        axes.barh(place, length, 0.6, color=VERMILION if test.detected else BLUE)
        axes.text(length + 0.05, place, f"p {test.adjusted_p:.2g}", va="center", fontsize=8, color=INK)
    axes.axvline(limit, color=INK, linestyle=":", linewidth=1.2)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, -np.log10(_SMALLEST_P) + 0.9)
    axes.set_xticks([])
    axes.set_xlabel("less likely without drift →   (dotted: the line above which a test fires)", fontsize=8, color=INK)
    axes.tick_params(axis="y", length=0)


def _classes(axes: Axes, reference: Sample, window: Sample) -> None:
    names = sorted({*reference.tags, *window.tags})
    for offset, side, color, label in ((-0.2, reference, GREY, "reference"), (0.2, window, ORANGE, "window")):
        counts = Counter(side.tags)
        rows = len(side.tags)
        shares = [counts[name] / rows if rows else 0.0 for name in names]
        axes.bar(np.arange(len(names)) + offset, shares, 0.38, color=color, label=f"{label}, {rows} rows")
    axes.set_xticks(range(len(names)), [tag_label(name) for name in names], rotation=30 if len(names) > 6 else 0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.tick_params(axis="x", length=0)


def _confidence(axes: Axes, reference: Sample, window: Sample) -> None:
    bins = np.linspace(0, 1, 21).tolist()
    for side, color, alpha in ((reference, GREY, 0.7), (window, ORANGE, 0.65)):
        if len(side.confidence):
            weights = np.full(len(side.confidence), 1 / len(side.confidence))
            axes.hist(side.confidence, bins, weights=weights, color=color, alpha=alpha)
    axes.set_xlabel("probability of the predicted tag", fontsize=8, color=INK)
    axes.set_xlim(0, 1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))


def _volume(axes: Axes, before: Sequence[int], now: Sequence[int]) -> None:
    axes.bar(np.arange(-len(before), 0), before, 0.9, color=GREY)
    axes.bar(np.arange(len(now)), now, 0.9, color=ORANGE)
    axes.set_xlabel("days since the start of the window", fontsize=8, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
