"""Plots of a model, its tuning and its data, as PNG bytes.

They use matplotlib's Figure objects without pyplot, so there is no global state and any thread may draw. The colors
are those of Okabe & Ito (2008), which people with color-vision deficiency can distinguish. Plots of drift belong in
`monitoring.drift_plots`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image  # matplotlib itself needs it
from scipy.stats import binomtest

from mlops_platform.ml.evaluation.metrics import Evaluation
from mlops_platform.ml.evaluation.slices import SliceComparison

if TYPE_CHECKING:  # it imports Optuna, which an evaluation does not need
    from mlops_platform.ml.tuning.search import TrialRecord

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"
GREY, INK = "#9A9A9A", "#333333"
CLASS_COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW, GREY)
DPI, PALETTE = 100, 64
QUARTERS_FROM_MONTHS = 18  # for longer times the bars of months are too narrow


def single_axes(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes in the common style."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure, axes


def as_png(figure: Figure) -> bytes:
    """Render a figure with a small palette."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    # the palette reduces the size to a third, which matters since plots are stored in the event log
    picture.quantize(PALETTE, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def tag_label(name: str) -> str:
    """Break a tag such as natural-language-processing into lines that fit an axis."""
    return name.replace("-", "-\n") if len(name) > 14 else name


def embed(png: bytes, alt: str = "plot") -> str:
    """Return Markdown that shows the image, embedded as a base64 data URI."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})"


def confusion_matrix_png(evaluation: Evaluation) -> bytes:
    """Draw counts of true against predicted class, colored by the share of the true class."""
    names = evaluation.classes
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.4 + 0.8 * len(names)
    figure, axes = single_axes(size + 0.6, size, "Where the model is right, and what it mixes up")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else INK
        axes.text(column, row - 0.1, str(count), ha="center", va="center", color=color, fontsize=12)
        share = f"{shares[row, column]:.0%}"
        axes.text(column, row + 0.22, share, ha="center", va="center", color=color, fontsize=8)
    ticks = [tag_label(name) for name in names]
    axes.set_xticks(range(len(names)), ticks, rotation=30 if len(names) > 6 else 0)
    axes.set_yticks(range(len(names)), ticks)
    axes.set_xlabel("predicted tag")
    axes.set_ylabel("true tag")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, format=PercentFormatter(1.0))
    bar.set_label("share of the true tag", color=INK, fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=INK, length=0)
    return as_png(figure)


def per_class_bars_png(evaluation: Evaluation) -> bytes:
    """Draw precision, recall and F1 of each class, most frequent class on top."""
    names = sorted(evaluation.per_class, key=lambda name: (evaluation.per_class[name]["support"], name))
    figure, axes = single_axes(7.2, 1.6 + 0.75 * len(names), "Precision, recall and F1 of each tag")
    height = 0.26
    for offset, key, label, color, ink in (
        (height, "precision", "precision", SKY, INK),
        (0.0, "recall", "recall", ORANGE, INK),
        (-height, "f1", "F1", BLUE, "white"),
    ):
        values = [evaluation.per_class[name][key] for name in names]
        positions = np.arange(len(names)) + offset
        axes.barh(positions, values, height * 0.92, color=color, label=label)
        for position, value in zip(positions, values, strict=True):
            inside = value > 0.1
            axes.text(
                value - 0.008 if inside else value + 0.008,
                position,
                f"{value:.2f}",
                ha="right" if inside else "left",
                va="center",
                fontsize=8,
                color=ink if inside else INK,
            )
    overall = evaluation.overall["f1_weighted"]
    line_label = f"weighted F1, all tags: {overall:.3f}"
    axes.axvline(overall, color=INK, linestyle=":", linewidth=1.2, label=line_label, zorder=0.5)
    axes.set_yticks(range(len(names)), [f"{name}\n{int(evaluation.per_class[name]['support'])} rows" for name in names])
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return as_png(figure)


def calibration_png(evaluation: Evaluation) -> bytes:
    """Draw accuracy against confidence, with the share of rows in each bin."""
    ece = evaluation.overall["ece"]
    figure, axes = single_axes(6.2, 4.6, f"Calibration: accuracy by confidence   (ECE {ece:.3f})")
    shares = np.array([b.rows for b in evaluation.calibration]) / evaluation.overall["rows"]
    low, width = [b.low for b in evaluation.calibration], 1 / len(shares)
    axes.bar(low, shares, width * 0.94, align="edge", color="#DCE6EE", label="share of the rows", zorder=0)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfectly calibrated")
    bins = [b for b in evaluation.calibration if b.rows]
    confidence = np.array([b.confidence for b in bins], dtype=float)
    accuracy = np.array([b.accuracy for b in bins], dtype=float)
    # Wilson's interval is valid for few rows and for accuracies near 1
    tests = [binomtest(round(share * b.rows), b.rows) for share, b in zip(accuracy, bins, strict=True)]
    intervals = np.array([test.proportion_ci(method="wilson") for test in tests])
    spread = np.abs(intervals.T - accuracy)
    axes.errorbar(
        confidence,
        accuracy,
        yerr=spread,
        color=BLUE,
        marker="o",
        linewidth=1.6,
        elinewidth=1,
        capsize=2,
        label="accuracy, 95% interval",
    )
    axes.set_xlabel("probability of the predicted tag")
    axes.set_ylabel("accuracy")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    return as_png(figure)


def tuning_history_png(trials: Sequence[TrialRecord]) -> bytes:
    """Draw the scores of the trials in order, the best so far, and which were pruned."""
    figure, axes = single_axes(7.2, 4.0, "Cross-validated weighted F1 of each trial")
    order = np.arange(1, len(trials) + 1)
    scores = np.array([trial.score for trial in trials])
    pruned = np.array([trial.pruned for trial in trials], dtype=bool)
    best = np.fmax.accumulate(np.where(pruned, np.nan, scores)) if len(trials) else scores
    axes.step(order, best, where="post", color=ORANGE, linewidth=2, label="best so far", zorder=2)
    sampled = np.array([trial.source == "sampled" for trial in trials], dtype=bool) & ~pruned
    axes.scatter(order[sampled], scores[sampled], color=BLUE, s=34, label="all folds", zorder=3)
    for source, label in (("default", "default parameters"), ("previous_best", "best of the previous data")):
        chosen = np.array([trial.source == source for trial in trials], dtype=bool)
        if chosen.any():
            marker = "D" if source == "default" else "^"
            axes.scatter(order[chosen], scores[chosen], color=GREEN, s=64, marker=marker, label=label, zorder=4)
    if len(trials):
        # the score of a pruned trial may be low because of hard folds: clip it to the bottom edge
        finished = scores[~pruned] if (~pruned).any() else scores
        top, bottom = finished.max(), finished.min()
        margin = max(0.25 * (top - bottom), 0.004)
        floor = bottom - 2.5 * margin
        shown = np.maximum(scores[pruned], floor + 0.4 * margin)
        axes.scatter(order[pruned], shown, color=GREY, s=34, marker="x", label="stopped early (fewer folds)", zorder=3)
        axes.set_ylim(floor, max(top, shown.max(initial=0.0)) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("trial")
    axes.set_ylabel("weighted F1, mean over folds")
    axes.grid(axis="y", color="#EEEEEE")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return as_png(figure)


def class_balance_png(counts: Sequence[tuple[date, str, int]]) -> bytes:
    """Draw the share of each tag over time, by month, or by quarter if there are more than 18 months.

    Args:
        counts: (created_on, tag, rows); entries of a period are summed.

    Raises:
        ValueError: There are no rows.
    """
    if not counts:
        raise ValueError("There are no rows to draw the class balance of.")
    data = pd.DataFrame(counts, columns=["day", "tag", "rows"])
    days = [day for day, _, _ in counts]
    first, last = min(days), max(days)
    by_quarter = 12 * (last.year - first.year) + last.month - first.month >= QUARTERS_FROM_MONTHS
    periods = pd.period_range(first, last, freq="Q" if by_quarter else "M")
    period_of = pd.PeriodIndex(days, freq=periods.freq)
    table = data.groupby([period_of, "tag"])["rows"].sum().unstack(fill_value=0).reindex(periods, fill_value=0)
    table = table[table.sum().sort_values(ascending=False, kind="stable").index]
    totals = table.sum(axis=1)
    shares = table.div(totals.clip(lower=1), axis=0)

    figure, axes = single_axes(
        8.0, 4.2, f"Share of each tag by {'quarter' if by_quarter else 'month'}, with the number of rows"
    )
    bottoms = shares.cumsum(axis=1) - shares
    for k, tag in enumerate(shares):
        color = CLASS_COLORS[k % len(CLASS_COLORS)]
        axes.bar(range(len(periods)), shares[tag], 0.86, bottom=bottoms[tag], color=color, label=tag)
    for x, total in enumerate(totals):
        axes.text(x, 1.015 if total else 0.02, str(total), ha="center", fontsize=8, color=INK)
    labels = [f"{period.year} Q{period.quarter}" if by_quarter else str(period) for period in periods]
    step = max(1, -(-len(labels) // 12))
    axes.set_xticks(range(0, len(labels), step), labels[::step])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(0, 1.07)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.tick_params(axis="x", length=0)
    figure.legend(loc="outside lower center", ncols=min(4, len(shares.columns)), frameon=False, fontsize=9)
    return as_png(figure)


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
