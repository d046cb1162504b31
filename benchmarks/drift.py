"""`python -m benchmarks.drift --splits N`: false alarms and power of the daily drift monitor.

Each random split of the labeled rows takes some as the window and trains the champion on the rest, so that nothing
drifts and each detection is a false alarm. The power is the detection rate after a fault is put into the same window.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.harness import REAL_DATA
from mlops_platform.ml.classifier import text_classifier
from mlops_platform.ml.monitoring.drift_monitor import LabeledRows, WindowRows, watch
from mlops_platform.ml.monitoring.drift_tests import holm
from mlops_platform.replay.history import read_history
from mlops_platform.settings import SAMPLE_DIR

FAULTS = ("none", "topic", "shift")


def measure(folder: Path, size: int, splits: int, share: float) -> list[dict[str, object]]:
    """Return the p-value of each test, by split and fault.

    "topic" adds rows of the second-rarest tag, which is not in the training rows, at `share` to the window; "shift"
    adds as many rows of it, with the tag in the training rows, to an otherwise random window.
    """
    history = read_history(str(folder / "projects.csv"), str(folder / "tags.csv")).rows
    tag = Counter(row.tag for row in history).most_common()[-2][0]
    results: list[dict[str, object]] = []
    for split in range(splits):
        draw = np.random.default_rng(7000 + split)
        rows = [history[i] for i in draw.permutation(len(history))]
        for fault in FAULTS:
            # the fault adds rows of its tag to those that a random window has
            wanted = {"none": 0, "topic": round(share * size), "shift": round(share * size)}[fault]
            ours, others = [r for r in rows if r.tag == tag][:wanted], [r for r in rows if r.tag != tag]
            if fault == "topic":
                window, rest = [*ours, *others[: size - wanted]], others[size - wanted :]
            else:
                fault_ids = {row.id for row in ours}
                remaining = [row for row in rows if row.id not in fault_ids]
                window, rest = [*ours, *remaining[: size - wanted]], remaining[size - wanted :]
            training = LabeledRows(
                [row.title for row in rest], [row.description for row in rest], [str(row.tag) for row in rest]
            )
            model = text_classifier.fit(text_classifier.frame(training.titles, training.descriptions), training.tags)
            truth = [row.tag for row in window]
            rows_now = WindowRows([row.title for row in window], [row.description for row in window], truth)
            none = LabeledRows([], [], [])
            report = watch(model, text_classifier.DEFAULT, training, none, rows_now, [], seed=split)
            p_values = {test.name: test.p_value for test in report.tests if test.p_value is not None}
            results.append({"fault": fault, "rows": len(window), "p": p_values})
            print(".", end="", flush=True, file=sys.stderr)
    return results


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 200], help="rows of the window")
    parser.add_argument("--share", type=float, default=0.2, help="share of the window that the fault has")
    parser.add_argument("--data", type=Path, nargs="+", default=[REAL_DATA, SAMPLE_DIR])
    parser.add_argument("--output", type=Path, help="JSON file that gets all p-values")
    options = parser.parse_args()
    print("| data | window | fault | any at .01 | any at .05 | share of single p <= .05, by test |")
    print("|---|---|---|---|---|---|")
    everything = {}
    for folder in options.data:
        for size in options.rows:
            results = measure(folder, size, options.splits, options.share)
            everything[f"{folder.name} {size}"] = results
            for fault in FAULTS:
                days = [result["p"] for result in results if result["fault"] == fault]
                p_values: list[dict[str, float]] = [day for day in days if isinstance(day, dict)]
                least = np.array([min(holm(list(day.values()))) for day in p_values])
                single = ", ".join(f"{name} {np.mean([d[name] <= 0.05 for d in p_values]):.2f}" for name in p_values[0])
                low, high = (float(np.mean(least <= alpha)) for alpha in (0.01, 0.05))
                print(f"| {folder.name} | {size} | {fault} | {low:.3f} | {high:.3f} | {single} |", flush=True)
    if options.output:
        options.output.write_text(json.dumps(everything), encoding="utf-8")


if __name__ == "__main__":
    main()
