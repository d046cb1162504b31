"""The default tier: F1, calibration, cost and size, beside the lesson's model and one that a user would write."""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import REAL_DATA, Goal, Row, Section, Size
from mlops_platform.settings import SAMPLE_DIR

LESSON_REPEATS = 2  # a fit of it takes many times that of the others
LONG = 10  # a long text is as many texts of the data, one after the other


def read(folder: Path) -> tuple[list[str], list[str]]:
    """Read the labeled rows of a folder.

    Args:
        folder: Holds projects.csv and tags.csv.

    Returns:
        The composed texts and their tags.
    """
    from mlops_platform.ml.classifier import text_classifier

    def rows(name: str) -> list[dict[str, str]]:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    tags = {row["id"]: row["tag"] for row in rows("tags.csv")}
    labeled = [row for row in rows("projects.csv") if row["id"] in tags]
    frame = text_classifier.frame([row["title"] for row in labeled], [row["description"] for row in labeled])
    return frame[text_classifier.TEXT].tolist(), [tags[row["id"]] for row in labeled]


class Ours:
    """Our model behind the methods that the peers have."""

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> Ours:
        """Train."""
        from mlops_platform.ml.classifier import text_classifier

        self._frame = lambda batch: text_classifier.frame(batch, [""] * len(batch))
        self.model = text_classifier.fit(self._frame(texts), labels)
        self.classes_ = self.model.classes_
        return self

    def predict_proba(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return probabilities."""
        return np.asarray(self.model.predict_proba(self._frame(texts)))

    def predict(self, texts: Sequence[str]) -> npt.NDArray[np.str_]:
        """Return tags."""
        return np.asarray(self.classes_[self.predict_proba(texts).argmax(axis=1)])


def stock() -> Any:
    """Return the peer: TF-IDF of words and word pairs, and a logistic regression with balanced classes."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )


def run(size: Size) -> Section:
    """Measure; "quick" takes one repeat of 5 folds and 3 rounds, "full" ten and 5."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    repeats, rounds = (1, 3) if size == "quick" else (10, 5)
    rows = []
    with threadpool_limits(1):
        for folder in (REAL_DATA, SAMPLE_DIR):
            if folder.is_dir():
                rows += _rows(folder, repeats, rounds)
    return Section(
        "Model, default tier",
        f"Default parameters, {repeats} times 5 folds (the lesson's model {min(repeats, LESSON_REPEATS)} times, on the "
        f"same folds), medians over the repeats; {rounds} rounds of fits and predictions in turns, CPU time of one "
        "thread. Beside ours: `TfidfVectorizer` (words and pairs) with `LogisticRegression`, and the 2022 lesson's "
        "model (`benchmarks/lesson.py`).",
        rows,
        notes="A saved model is the whole folder that MLflow logs. The holdout of 191 rows that the lesson's course "
        "publishes figures on is not among the data here.",
    )


def _rows(folder: Path, repeats: int, rounds: int) -> list[Row]:
    from benchmarks.lesson import Lesson

    texts, labels = read(folder)
    name = f"{folder.name}, {len(labels)} rows"
    ours, logistic = _crossed(Ours, texts, labels, repeats), _crossed(stock, texts, labels, repeats)
    lesson = _crossed(Lesson, texts, labels, min(repeats, LESSON_REPEATS))
    fits: list[list[float]] = [[], [], []]
    batch: list[list[float]] = [[], [], []]
    long: list[list[float]] = [[], [], []]
    single: list[list[float]] = [[], [], []]
    joined = [" ".join(texts[i : i + LONG]) for i in range(0, len(texts), LONG)]
    models = [make() for make in (Ours, stock, Lesson)]
    for _ in range(rounds):
        for model, fit, many, few, one in zip(models, fits, batch, long, single, strict=True):
            fit.append(_seconds(partial(model.fit, texts, labels)))
            many.append(len(texts) / _seconds(partial(model.predict_proba, texts)))
            few.append(len(joined) / _seconds(partial(model.predict_proba, joined)))
            one.append(1000 * _seconds(partial(_one_by_one, model, texts[:100])) / 100)
    f1, ece = Goal(0.895, "least", "ours"), Goal(0.05, "most", "ours")
    return [
        Row(f"{name}: weighted F1, beside LogisticRegression", "", ours[0], logistic[0], f1),
        Row(f"{name}: weighted F1, beside the lesson", "", ours[0][: len(lesson[0])], lesson[0], f1),
        Row(f"{name}: expected calibration error, beside LogisticRegression", "", ours[1], logistic[1], ece),
        Row(f"{name}: expected calibration error, beside the lesson", "", ours[1][: len(lesson[1])], lesson[1], ece),
        Row(f"{name}: fit, beside LogisticRegression", "s", fits[0], fits[1], Goal(0.6, "most", "ours")),
        Row(f"{name}: fit, beside the lesson", "s", fits[0], fits[2]),
        Row(f"{name}: texts a CPU s, beside LogisticRegression", "", batch[0], batch[1], Goal(4000, "least", "ours")),
        Row(f"{name}: texts a CPU s, beside the lesson", "", batch[0], batch[2]),
        Row(f"{name}: texts of {LONG} times the length a CPU s, beside LogisticRegression", "", long[0], long[1]),
        Row(f"{name}: one text alone, beside LogisticRegression", "ms", single[0], single[1]),
        Row(
            f"{name}: saved model, beside LogisticRegression",
            "MB",
            [_logged(texts, labels)],
            [_saved_by_mlflow(models[1])],
            Goal(3, "most", "ours"),
        ),
    ]


def _crossed(
    make: Callable[[], Any], texts: list[str], labels: list[str], repeats: int
) -> tuple[list[float], list[float]]:
    """Cross-validate; return the weighted F1 (mean over the folds) and the calibration error of each repeat."""
    from mlops_platform.ml.evaluation.metrics import expected_calibration_error, weighted_f1
    from mlops_platform.ml.tuning.cross_validation import stratified_folds

    tags, scores, errors = np.array(labels), [], []
    for repeat in range(repeats):
        probabilities = np.zeros((len(labels), len(set(labels))))
        folds = []
        for train, held_out in stratified_folds(texts, labels, n_splits=5, seed=repeat):
            model = make().fit([texts[i] for i in train], list(tags[train]))
            held = [texts[i] for i in held_out]
            probabilities[held_out] = model.predict_proba(held)
            folds.append(weighted_f1(tags[held_out], model.predict(held)))
        scores.append(statistics.mean(folds))
        errors.append(expected_calibration_error(labels, probabilities, list(model.classes_)))
    return scores, errors


def _one_by_one(model: Any, texts: Sequence[str]) -> None:
    for text in texts:
        model.predict_proba([text])


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _logged(texts: list[str], labels: list[str]) -> float:
    """Return the megabytes of the folder that the platform's own call writes to MLflow."""
    from mlops_platform.ml.classifier import text_classifier
    from mlops_platform.resources.registry.model_registry import FINGERPRINT_TAG, MlflowTracking

    with tempfile.TemporaryDirectory() as folder:
        tracking = MlflowTracking(tracking_uri=f"sqlite:///{folder}/mlflow.db", store_dir=folder, ui_url="")
        tracking.register(
            text_classifier.fit(text_classifier.frame(texts, [""] * len(texts)), labels),
            text_classifier.frame(texts[:3], [""] * 3),
            experiment_id=tracking.experiment("bench"),
            run_name="bench",
            params={},
            metrics={},
            tags={FINGERPRINT_TAG: "bench"},
            artifacts={},
            trusted_types=list(text_classifier.TRUSTED_TYPES),
        )
        (saved,) = Path(folder).rglob("*.skops")
        return _megabytes(saved.parent)


def _saved_by_mlflow(model: Any) -> float:
    import mlflow.sklearn

    with tempfile.TemporaryDirectory() as folder:
        mlflow.sklearn.save_model(model, f"{folder}/model", pip_requirements=["scikit-learn"])
        return _megabytes(Path(folder))


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
