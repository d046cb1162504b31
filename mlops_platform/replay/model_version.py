"""Model versions of a replay: trained, evaluated and compared by the functions that the assets call."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mlops_platform.errors import PlatformError
from mlops_platform.ml.classifier import text_classifier
from mlops_platform.ml.classifier.prediction import predict
from mlops_platform.ml.evaluation import promotion_gates
from mlops_platform.ml.evaluation.metrics import paired_bootstrap, weighted_f1
from mlops_platform.ml.labeling.label_quality import LEAST_ROWS
from mlops_platform.ml.monitoring.cross_fitting import FOLDS, FoldModels
from mlops_platform.ml.monitoring.drift_monitor import LabeledRows, folds_of
from mlops_platform.ml.training_data.splits import assign_splits
from mlops_platform.replay.history import Row

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

LabeledRow = tuple[Row, str]  # a row as it arrived, with the label that arrived for it


def columns(known: Sequence[LabeledRow]) -> LabeledRows:
    """Return labeled rows in the form that ``ml`` takes."""
    return LabeledRows([row.title for row, _ in known], [row.description for row, _ in known], [t for _, t in known])


def _predict_tags(model: Pipeline, rows: Sequence[Row]) -> list[str]:
    titles, descriptions = [row.title for row in rows], [row.description for row in rows]
    return [prediction.tag for prediction in predict(model, titles, descriptions)]


@dataclass(frozen=True, eq=False)
class Version:
    """A trained model.

    Attributes:
        name: Its number.
        known: All labels known at its training, by id.
        f1: Weighted F1 on `test`.
        week: When it was trained; 0 before the first week.
    """

    name: str
    model: Pipeline
    train: Sequence[LabeledRow]
    test: Sequence[LabeledRow]
    known: dict[int, str]
    f1: float
    week: int

    @cached_property
    def trained_on(self) -> frozenset[int]:
        """Return the ids of the rows that it was fitted on."""
        return frozenset(row.id for row, _ in self.train)

    @cached_property
    def folds(self) -> FoldModels:
        """Return the models of its folds, with which all its windows are compared."""
        return folds_of(text_classifier.DEFAULT, columns(self.train))


def train(
    name: str, known: Sequence[LabeledRow], week: int, test_share: float, *, spoil: float = 0.0, seed: int = 0
) -> Version:
    """Train a version on the train split of the labels known so far, and evaluate it on the test split.

    Tags with fewer than three rows in the train split are left out, since they cannot be learned. For a bad version, a
    share `spoil` of the training labels is exchanged with each other.

    Raises:
        PlatformError: There are too few rows.
    """
    splits = assign_splits([row.id for row, _ in known], test_share)
    test = [pair for pair, split in zip(known, splits, strict=True) if split == "test"]
    train_rows = [pair for pair, split in zip(known, splits, strict=True) if split == "train"]
    counts = Counter(tag for _, tag in train_rows)
    train_rows = [pair for pair in train_rows if counts[pair[1]] >= LEAST_ROWS]
    counts = Counter(tag for _, tag in train_rows)
    if not test or len(counts) < 2 or max(counts.values()) < FOLDS:
        raise PlatformError(
            f"The {len(known)} labels known by week {week} leave {len(train_rows)} rows of {len(counts)} tags to train"
            f" on and {len(test)} to test on, too few for a model: add labeled rows, or change test_share."
        )
    fitted_on = _with_exchanged_labels(train_rows, spoil, seed)
    rows = columns(fitted_on)
    try:
        model = text_classifier.fit(text_classifier.frame(rows.titles, rows.descriptions), rows.tags)
    except ValueError as error:
        raise PlatformError(f"Week {week}: {error}") from error
    f1 = weighted_f1([tag for _, tag in test], _predict_tags(model, [row for row, _ in test]))
    return Version(name, model, fitted_on, test, {row.id: tag for row, tag in known}, f1, week)


def _with_exchanged_labels(known: Sequence[LabeledRow], share: float, seed: int) -> Sequence[LabeledRow]:
    draw = random.Random(f"spoil {seed}")  # noqa: S311 - not for secrets
    rows = sorted(draw.sample(range(len(known)), round(share * len(known))))
    # each row takes the label of the next one that has another label
    tags = [known[i][1] for i in rows]
    result = list(known)
    for place, i in enumerate(rows):
        later = (tags[(place + step) % len(tags)] for step in range(1, len(tags)))
        result[i] = (known[i][0], next((tag for tag in later if tag != known[i][1]), known[i][1]))
    return result


def gate(candidate: Version, champion: Version, min_f1: float) -> promotion_gates.Decision:
    """Return the promotion decision on a candidate, on the test rows that the champion was not trained on either."""
    fresh = [(row, tag) for row, tag in candidate.test if row.id not in champion.trained_on]
    truth = [tag for _, tag in fresh]
    majority = max(sorted(set(truth)), key=truth.count)
    comparison = paired_bootstrap(
        truth, *(_predict_tags(version.model, [row for row, _ in fresh]) for version in (candidate, champion))
    )
    return promotion_gates.decide(
        candidate=candidate.name,
        champion=champion.name,
        f1=candidate.f1,
        majority_f1=weighted_f1(truth, [majority] * len(truth)),
        min_f1=min_f1,
        comparison=asdict(comparison),
    )


def f1_on(version: Version, rows: Sequence[Row], observed: Callable[[Row], Row]) -> float | None:
    """Return the weighted F1 on rows as they arrived, against their true tags; None if there are no rows."""
    if not rows:
        return None
    return weighted_f1([row.tag for row in rows], _predict_tags(version.model, [observed(row) for row in rows]))
