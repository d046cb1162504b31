"""The search for parameters: what a trial costs, what pruning saves, and whether tuning is worth it.

`python -m benchmarks.tuning 200 FOLDER` runs 200 trials on the real rows, with the study in FOLDER, and prints the
CPU seconds at which each trial had finished.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import REAL_DATA, Cost, Goal, Row, Section, Size, in_turns
from benchmarks.quality import read

TRIALS = 200
NESTED_TRIALS = 20  # the default of MLOPS_NUM_TRIALS
ONE_THREAD = ("/usr/bin/env", "OMP_NUM_THREADS=1", sys.executable, "-m")


def run(size: Size) -> Section:
    """Measure; "quick" takes 2 rounds, 1 seed and 1 nested repeat, "full" 3, 3 and 4."""
    if not REAL_DATA.is_dir():
        return Section("Tuning", f"Not measured: there is no data at {REAL_DATA}.", [])
    rounds, seeds, repeats, lesson_trials = (1, 1, 1, 4) if size == "quick" else (3, 3, 4, 10)
    ours, lesson = in_turns(
        [
            lambda folder: [*ONE_THREAD, "benchmarks.tuning", str(TRIALS), str(folder)],
            lambda _: [*ONE_THREAD, "benchmarks.lesson", str(lesson_trials)],
        ],
        rounds,
        warm=False,
    )
    rows = [*_costs(ours, lesson, lesson_trials), *_pruning(seeds), *_nested(repeats)]
    return Section(
        "Tuning",
        f"On the {len(read(REAL_DATA)[1])} Made With ML rows; CPU time is that of all threads. "
        "A trial is 5-fold cross-validation, the study a SQLite file. The lesson's search is `benchmarks/lesson.py`; "
        f"{lesson_trials} of its trials are run "
        f"and scaled to {TRIALS}, its pruner included. Nested cross-validation: {NESTED_TRIALS} trials on each of "
        f"{repeats} times 5 outer training parts, judged on the outer held-out part.",
        rows,
        notes="The best score in the study is a maximum over noise, and a smaller one where fewer trials are seen to "
        "their end; what pruning costs is what it takes from the F1 of the choice on rows that are not seen.",
    )


def _costs(ours: list[Cost], lesson: list[Cost], trials: int) -> list[Row]:
    finished = [json.loads(cost.output.splitlines()[-1]) for cost in ours]
    theirs = [TRIALS / trials * sum(json.loads(cost.output.splitlines()[-1])) for cost in lesson]
    # the first trial counts the n-grams; matrices that later trials are the first to need are theirs
    rates = [(TRIALS - 1) / (each[-1] - each[0]) for each in finished]
    return [
        Row("trials per CPU s, once set up", "", rates, goal=Goal(14, "least", "ours")),
        Row(
            f"{TRIALS} trials, set-up included, CPU, beside the lesson's",
            "s",
            [each[-1] for each in finished],
            theirs,
            Goal(0.1),
        ),
    ]


def _pruning(seeds: int) -> list[Row]:
    """Search with and without pruning, on the same folds with the same seed."""
    from mlops_platform.ml import tuning

    texts, labels = read(REAL_DATA)
    saved, choices, best = [], [], []
    for seed in range(seeds):
        pruned = _search(texts, labels, TRIALS, seed)
        with _unpruned():
            full = _search(texts, labels, TRIALS, seed)
        saved.append(pruned.folds_saved)
        choices.append(full.score - pruned.score)
        best.append(_best(full).score - _best(pruned).score)
    assert tuning.KEPT_SHARE < 1
    return [
        Row(f"share of fold evaluations saved by pruning, {TRIALS} trials", "", saved, goal=Goal(0.6, "least", "ours")),
        Row(
            "F1 of the choice that pruning costs, folds of the search",
            "",
            [statistics.mean(choices)],
            goal=Goal(0.001, "most", "ours"),
        ),
        Row("best score in the study that pruning costs, folds of the search", "", [statistics.mean(best)]),
    ]


def _nested(repeats: int) -> list[Row]:
    """Judge searches on rows that they have not seen."""
    import numpy as np

    from mlops_platform.ml.confirmation import interval
    from mlops_platform.ml.cross_validation import stratified_folds
    from mlops_platform.ml.features import FoldFeatures
    from mlops_platform.ml.kernels import FoldKernels
    from mlops_platform.ml.metrics import weighted_f1
    from mlops_platform.ml.model import DEFAULT

    texts, labels = read(REAL_DATA)
    tags = np.array(labels)
    default, found = [], {"returned": [], "returned, unpruned": [], "best": []}  # type: ignore[var-annotated]
    kept = 0
    for repeat in range(repeats):
        outer = list(stratified_folds(texts, labels, n_splits=5, seed=100 + repeat))
        predict = FoldKernels(FoldFeatures(texts, outer), outer, tags)
        for fold, (train, held_out) in enumerate(outer):
            seen = [texts[i] for i in train], [labels[i] for i in train]
            pruned = _search(*seen, NESTED_TRIALS, repeat)
            with _unpruned():
                full = _search(*seen, NESTED_TRIALS, repeat)
            kept += pruned.params == DEFAULT
            default.append(weighted_f1(tags[held_out], predict(fold, DEFAULT)))
            for name, params in (
                ("returned", pruned.params),
                ("returned, unpruned", full.params),
                ("best", _best(pruned).params),
            ):
                found[name].append(weighted_f1(tags[held_out], predict(fold, params)))

    def row(what: str, ours: list[float], theirs: list[float], goal: Goal | None = None) -> Row:
        said = interval([a - b for a, b in zip(ours, theirs, strict=True)], 1 / 4, 0.95)
        text = f"{what}: difference (95% interval {said.low:+.4f} to {said.high:+.4f})"
        return Row(text, "", [said.difference], goal=goal)

    return [
        Row("nested F1 of the default", "", [statistics.mean(default)]),
        row("nested F1, best trial less default", found["best"], default),
        row(
            f"nested F1, what the search returns less default (default kept in {kept} of {5 * repeats})",
            found["returned"],
            default,
            Goal(0.0, "least", "ours"),
        ),
        row(
            "nested F1 of what the search returns, unpruned less pruned",
            found["returned, unpruned"],
            found["returned"],
            Goal(0.001, "most", "ours"),
        ),
    ]


def _search(texts: list[str], labels: list[str], trials: int, seed: int):  # type: ignore[no-untyped-def]
    import optuna

    from mlops_platform.ml.tuning import tune

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    return tune(study, texts, labels, num_trials=trials, seed=seed, data_version="bench")


def _best(result):  # type: ignore[no-untyped-def]
    return max((trial for trial in result.trials if not trial.pruned), key=lambda trial: trial.score)


@contextmanager
def _unpruned() -> Iterator[None]:
    from mlops_platform.ml import tuning

    kept, tuning.KEPT_SHARE = tuning.KEPT_SHARE, 1.0
    try:
        yield
    finally:
        tuning.KEPT_SHARE = kept


def main() -> None:
    """Run one search and print when its trials had finished."""
    from mlops_platform.ml import tuning
    from mlops_platform.resources.studies import StudyStore

    trials, folder = int(sys.argv[1]), Path(sys.argv[2])
    texts, labels = read(REAL_DATA)
    with StudyStore(url=f"sqlite:///{folder / 'optuna.db'}").hold("optimization") as study:
        finished: list[float] = []
        started = time.process_time()
        tuning.tune(
            study,
            texts,
            labels,
            num_trials=trials,
            seed=0,
            data_version="bench",
            callback=lambda _: finished.append(time.process_time() - started),
        )
        # the last includes what follows the trials: the choice
        finished[-1] = time.process_time() - started
    print(json.dumps(finished))


if __name__ == "__main__":
    main()
