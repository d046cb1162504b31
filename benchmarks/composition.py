"""`python -m benchmarks.composition`: what the settings that compose training data do to F1 and calibration.

Each recipe is applied to the training part of each stratified fold, and judged on the part held out, which is as it
is. Calibration error is given twice: of a repeat's held-out rows together, mean over the repeats, as `cross_validate`
reports it; and of each fold alone, mean over the folds, which is larger as few rows fill its bins by chance.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.harness import REAL_DATA
from mlops_platform.ml import model as models
from mlops_platform.ml.composition import compose_rows
from mlops_platform.ml.cross_validation import stratified_folds
from mlops_platform.ml.metrics import expected_calibration_error, weighted_f1
from mlops_platform.ml.recipe import Recipe
from mlops_platform.replay.history import read_history

RECIPES = {
    "as they are": Recipe(),
    "`none`": Recipe("none"),
    "`oversample`": Recipe("oversample"),
    "`undersample`, ratio .5": Recipe("undersample", 0.5),
    "`drop_words`": Recipe(augment=("drop_words",)),
    "all four augmentations": Recipe(augment=("drop_words", "swap_words", "title_only", "description_only")),
    "the last 90 days": Recipe(recent_days=90, replay_share=0.0),
    "the last 90 days, replay .25": Recipe(recent_days=90, replay_share=0.25),
    "the last 90 days, replay .5": Recipe(recent_days=90, replay_share=0.5),
}
APART = "all four, a row and its copies calibrated apart"


def measure(rows: pd.DataFrame, recipe: Recipe, *, repeats: int, together: bool = True) -> tuple[float, float, float]:
    """Cross-validate a recipe.

    Args:
        rows: Columns id, created_on, title, description, tag.
        recipe: Applied to the training part of each fold.
        repeats: How often the five folds are cut.
        together: Whether calibration keeps a row and its copies in one fold, as `trained_model` does.

    Returns:
        Weighted F1, mean over the folds; calibration error by repeat; calibration error by fold.
    """
    frame = models.frame(rows["title"], rows["description"])
    texts, tags, classes = frame[models.TEXT].tolist(), rows["tag"].to_numpy(), sorted(set(rows["tag"]))
    scores, by_repeat, by_fold = [], [], []
    for repeat in range(repeats):
        found = np.zeros((len(rows), len(classes)))
        for train, out in stratified_folds(texts, tags.tolist(), n_splits=5, seed=repeat):
            composed = compose_rows(rows.iloc[train], recipe)
            fitted = models.fit(
                models.frame([row.title for row in composed.rows], [row.description for row in composed.rows]),
                [row.tag for row in composed.rows],
                groups=[row.id for row in composed.rows] if recipe.to_dict() and together else None,
                weighted=recipe.weighs_classes,
            )
            found[out] = fitted.predict_proba(frame.iloc[out])
            scores.append(weighted_f1(tags[out], np.array(classes)[found[out].argmax(axis=1)]))
            by_fold.append(expected_calibration_error(tags[out], found[out], classes))
        by_repeat.append(expected_calibration_error(tags, found, classes))
    return float(np.mean(scores)), float(np.mean(by_repeat)), float(np.mean(by_fold))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.composition", description=__doc__)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    options = parser.parse_args()
    history = read_history(str(options.data / "projects.csv"), str(options.data / "tags.csv")).rows
    rows = pd.DataFrame([vars(row) for row in history])
    print("| rows | weighted F1 | calibration error, by repeat | by fold |")
    print("|---|---|---|---|")
    for name, recipe in [*RECIPES.items(), (APART, RECIPES["all four augmentations"])]:
        f1, by_repeat, by_fold = measure(rows, recipe, repeats=options.repeats, together=name != APART)
        print(f"| {name} | {f1:.3f} | {by_repeat:.3f} | {by_fold:.3f} |", flush=True)


if __name__ == "__main__":
    main()
