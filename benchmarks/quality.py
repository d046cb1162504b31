"""The default tier's F1, calibration and cost."""

from __future__ import annotations

import csv
import time
from pathlib import Path

from benchmarks.harness import REAL_DATA, Goal, Row, Section, Size
from mlops_platform.settings import SAMPLE_DIR


def read(folder: Path) -> tuple[list[str], list[str]]:
    """Read the labeled rows of a folder.

    Args:
        folder: Holds projects.csv and tags.csv.

    Returns:
        The composed texts and their tags.
    """
    from mlops_platform.ml import model as models

    def rows(name: str) -> list[dict[str, str]]:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    tags = {row["id"]: row["tag"] for row in rows("tags.csv")}
    labeled = [row for row in rows("projects.csv") if row["id"] in tags]
    frame = models.frame([row["title"] for row in labeled], [row["description"] for row in labeled])
    return frame[models.TEXT].tolist(), [tags[row["id"]] for row in labeled]


def run(size: Size) -> Section:
    """Measure; "quick" takes one repeat of 5 folds, "full" ten."""
    import pandas as pd

    from mlops_platform.ml import model as models

    repeats = 1 if size == "quick" else 10
    rows = []
    for folder in (REAL_DATA, SAMPLE_DIR):
        if not folder.is_dir():
            continue
        texts, labels = read(folder)
        frame = pd.DataFrame({models.TEXT: texts})
        seconds = []
        for _ in range(5):
            started = time.process_time()
            models.fit(frame, labels)
            seconds.append(time.process_time() - started)
        scores = models.cross_validate(texts, labels, repeats=repeats)
        name = f"{folder.name}, {len(labels)} rows"
        rows += [
            Row(f"{name}: weighted F1", "", [scores.score], goal=Goal(0.895, "least", "ours")),
            Row(f"{name}: expected calibration error", "", [scores.ece], goal=Goal(0.05, "most", "ours")),
            Row(f"{name}: fit, CPU", "s", seconds, goal=Goal(0.6, "most", "ours")),
        ]
    return Section("Model", f"Default parameters, {repeats} times 5 folds.", rows)
