"""The search for parameters: what it costs on few rows and on many classes, and whether tuning is worth it.

`python -m benchmarks.tuning 20 FOLDER` runs 20 trials on the real rows, with the study in FOLDER, and prints the CPU
seconds that the search took.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
import time
from pathlib import Path

from benchmarks.harness import REAL_DATA, Cost, Goal, Row, Section, Size, in_turns
from benchmarks.quality import read

TRIALS = 20  # the default of MLOPS_NUM_TRIALS
BANKING = REAL_DATA.parent / "banking77" / "train.csv"
ONE_THREAD = ("/usr/bin/env", "OMP_NUM_THREADS=1", sys.executable, "-m")


def run(size: Size) -> Section:
    """Measure; "quick" takes 1 round and 1 nested repeat, "full" 3 and 4, and the search with 77 classes."""
    if not REAL_DATA.is_dir():
        return Section("Tuning", f"Not measured: there is no data at {REAL_DATA}.", [])
    rounds, repeats, lesson_trials = (1, 1, 4) if size == "quick" else (3, 4, 10)
    ours, lesson = in_turns(
        [
            lambda folder: [*ONE_THREAD, "benchmarks.tuning", str(TRIALS), str(folder)],
            lambda _: [*ONE_THREAD, "benchmarks.lesson", str(lesson_trials)],
        ],
        rounds,
        warm=False,
    )
    rows = [_cost(ours, lesson, lesson_trials)]
    if size == "full" and BANKING.is_file():
        rows += _many_classes()
    return Section(
        "Tuning",
        f"On the {len(read(REAL_DATA)[1])} Made With ML rows; CPU time is that of all threads. "
        "A trial is 5-fold cross-validation, the study a SQLite file. The lesson's search is `benchmarks/lesson.py`; "
        f"{lesson_trials} of its trials are run and scaled to {TRIALS}, its pruner included. Nested cross-validation: "
        f"{TRIALS} trials on each of {repeats} times 5 outer training parts, evaluated on the outer held-out part.",
        [*rows, *_nested(repeats)],
    )


def _cost(ours: list[Cost], lesson: list[Cost], trials: int) -> Row:
    seconds = [float(json.loads(cost.output.splitlines()[-1])) for cost in ours]
    theirs = [TRIALS / trials * sum(json.loads(cost.output.splitlines()[-1])) for cost in lesson]
    return Row(f"{TRIALS} trials, the choice included, CPU, beside the lesson's", "s", seconds, theirs, Goal(0.5))


def _many_classes() -> list[Row]:
    ((cost,),) = in_turns(
        [lambda folder: [*ONE_THREAD, "benchmarks.tuning", str(TRIALS), str(folder), str(BANKING)]], 1, warm=False
    )
    seconds = float(json.loads(cost.output.splitlines()[-1]))
    return [Row(f"{TRIALS} trials on banking77, 77 classes, CPU", "s", [seconds], goal=Goal(120, "most", "ours"))]


def _nested(repeats: int) -> list[Row]:
    """Evaluate searches on held-out rows."""
    from mlops_platform.ml.classifier.text_classifier import DEFAULT
    from mlops_platform.ml.tuning.cross_validation import FoldScorer, stratified_folds
    from mlops_platform.ml.tuning.significance import interval

    texts, labels = read(REAL_DATA)
    default, returned, best, defaults_returned = [], [], [], 0
    for repeat in range(repeats):
        outer = stratified_folds(texts, labels, n_splits=5, seed=100 + repeat)
        score = FoldScorer(texts, labels, outer).score
        for fold, (train, _) in enumerate(outer):
            result = _search([texts[i] for i in train], [labels[i] for i in train], repeat)
            defaults_returned += result.params == DEFAULT
            default.append(score(fold, DEFAULT))
            returned.append(score(fold, result.params))
            complete = [trial for trial in result.trials if not trial.pruned]
            best.append(score(fold, max(complete, key=lambda trial: trial.score).params))

    def row(what: str, scores: list[float], goal: Goal | None = None) -> Row:
        paired = interval([a - b for a, b in zip(scores, default, strict=True)], 1 / 4, 0.95)
        text = f"{what} less default: difference (95% interval {paired.low:+.4f} to {paired.high:+.4f})"
        return Row(text, "", [paired.difference], goal=goal)

    return [
        Row("nested F1 of the default", "", [statistics.mean(default)]),
        row("nested F1, best trial", best),
        row(
            f"nested F1, result of the search (the default in {defaults_returned} of {5 * repeats})",
            returned,
            Goal(0.0, "least", "ours"),
        ),
    ]


def _search(texts: list[str], labels: list[str], seed: int):  # type: ignore[no-untyped-def]
    import optuna

    from mlops_platform.ml.tuning.search import tune

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    return tune(study, texts, labels, num_trials=TRIALS, seed=seed, data_version="bench")


def main() -> None:
    """Run one search and print its CPU seconds."""
    from mlops_platform.ml.tuning import search as tuning
    from mlops_platform.resources.study_store import StudyStore

    trials, folder = int(sys.argv[1]), Path(sys.argv[2])
    if len(sys.argv) > 3:
        with Path(sys.argv[3]).open(encoding="utf-8", newline="") as file:
            pairs = [(row["text"], row["category"]) for row in csv.DictReader(file)]
        texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    else:
        texts, labels = read(REAL_DATA)
    with StudyStore(url=f"sqlite:///{folder / 'optuna.db'}").hold("optimization") as study:
        started = time.process_time()
        tuning.tune(study, texts, labels, num_trials=trials, seed=0, data_version="bench")
    print(json.dumps(time.process_time() - started))


if __name__ == "__main__":
    main()
