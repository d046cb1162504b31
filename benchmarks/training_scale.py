"""Training at scale: time and memory against the number of rows, and F1 beside the model that is fitted in memory."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Cost, Curve, Goal, Row, Section, Size, measure

OURS, BY_HAND, IN_MEMORY = "streamed trained_model", "script by hand", "in memory"
_NAMES = {OURS: "ours", BY_HAND: "by_hand", IN_MEMORY: "in_memory"}
SIZES = {"quick": (10_000, 100_000), "full": (10_000, 100_000, 1_000_000, 10_000_000)}
MEMORY_SIZES = {"quick": (10_000,), "full": (10_000, 100_000)}  # it takes gigabytes beyond
LEAST_STREAMED = 100_000
LEAST_FOR_SLOPE = 100_000  # below, the start of a process is most of its time


def run(size: Size) -> Section:
    """Measure; "quick" goes to 10^5 rows, "full" to 10^7."""
    costs: dict[str, dict[int, Cost]] = {variant: {} for variant in _NAMES}
    scores: dict[str, dict[int, dict[str, float]]] = {variant: {} for variant in _NAMES}
    for rows in SIZES[size]:
        with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
            _work("prepare", Path(name), str(rows))
            for variant, program in _NAMES.items():
                if variant == IN_MEMORY and rows not in MEMORY_SIZES[size]:
                    continue
                costs[variant][rows] = _work(program, Path(name))
                scores[variant][rows] = json.loads(_work("evaluate", Path(name), program).output.splitlines()[-1])
    return Section(
        "Training at scale",
        "Each way fits the train split (nine tenths) of generated rows in a subprocess, whose CPU time and "
        "peak memory are taken as a whole: ours is the asset `trained_model` with Dagster, the registry and up to four "
        "epochs; the script by hand reads pandas chunks and does one epoch of `HashingVectorizer` and `SGDClassifier`, "
        "without calibration and registry. Evaluated on 20,000 unseen rows, of which 3% carry a wrong tag.",
        [*_cost_rows(costs), *_score_rows(scores)],
        [
            Curve("Training, CPU seconds", "s", _lines(costs, "cpu")),
            Curve("Training, peak memory", "MB", _lines(costs, "peak_mb")),
        ],
    )


def _work(what: str, folder: Path, *more: str) -> Cost:
    command = [sys.executable, "-m", "benchmarks.training_work", what, str(folder), *more]
    return measure(command, {"OMP_NUM_THREADS": "1", "MLOPS_HOME": str(folder)})


def _cost_rows(costs: dict[str, dict[int, Cost]]) -> list[Row]:
    rows = []
    for many, cost in costs[OURS].items():
        theirs = costs[BY_HAND][many]
        rows.append(Row(f"{many:,} rows: CPU, against a script by hand", "s", [cost.cpu], [theirs.cpu]))
        rows.append(Row(f"{many:,} rows: peak memory", "MB", [cost.peak_mb], [theirs.peak_mb], Goal(500, of="ours")))
        if whole := costs[IN_MEMORY].get(many):
            rows.append(Row(f"{many:,} rows: CPU, against the model in memory", "s", [cost.cpu], [whole.cpu]))
            rows.append(
                Row(f"{many:,} rows: peak memory, against the model in memory", "MB", [cost.peak_mb], [whole.peak_mb])
            )
    large = sorted(many for many in costs[OURS] if many >= LEAST_FOR_SLOPE)
    if len(large) > 1:
        few, many = large[0], large[-1]
        slope = math.log(costs[OURS][many].cpu / costs[OURS][few].cpu) / math.log(many / few)
        # 1 is linear
        rows.append(Row(f"exponent of CPU from {few:,} to {many:,} rows", "", [slope], goal=Goal(1.1, of="ours")))
    return rows


def _score_rows(scores: dict[str, dict[int, dict[str, float]]]) -> list[Row]:
    rows = []
    for many, score in scores[OURS].items():
        rows.append(
            Row(
                f"{many:,} rows: weighted F1, against a script by hand",
                "",
                [score["f1"]],
                [scores[BY_HAND][many]["f1"]],
            )
        )
        rows.append(Row(f"{many:,} rows: calibration error", "", [score["ece"]], [scores[BY_HAND][many]["ece"]]))
        if whole := scores[IN_MEMORY].get(many):
            rows.append(
                Row(
                    f"{many:,} rows: weighted F1 less that of the model in memory",
                    "",
                    [score["f1"] - whole["f1"]],
                    # with fewer, nothing is streamed by default
                    goal=Goal(-0.015, "least", "ours") if many >= LEAST_STREAMED else None,
                )
            )
    return rows


def _lines(costs: dict[str, dict[int, Cost]], name: str) -> dict[str, dict[int, float]]:
    return {
        variant: {rows: getattr(cost, name) for rows, cost in by_rows.items()} for variant, by_rows in costs.items()
    }
