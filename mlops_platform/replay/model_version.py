"""Model versions of a replay: trained, judged and compared by the functions that the assets call."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

Known = Sequence[tuple[Row, str]]  # rows as they came in, with the labels that came for them


def columns(known: Known) -> LabeledRows:
    """Rows as the library takes them."""
    return LabeledRows([row.title for row, _ in known], [row.description for row, _ in known], [t for _, t in known])


def predicted(model: Pipeline, rows: Sequence[Row]) -> list[str]:
    """The tags that a model gives rows."""
    return [each.tag for each in predict(model, [row.title for row in rows], [row.description for row in rows])]


@dataclass(frozen=True, eq=False)
class Version:
    """A trained model.

    Attributes:
        name: Its number.
        model: The pipeline.
        train: What it was fitted on.
        test: What it was judged on.
        known: Number of labels and the labels themselves at its training, by id.
        f1: Weighted F1 on `test`.
        week: When it was trained; 0 before the first week.
    """

    name: str
    model: Pipeline
    train: Known
    test: Known
    known: dict[int, str]
    f1: float
    week: int

    @cached_property
    def trained_on(self) -> frozenset[int]:
        """Ids of the rows it was fitted on."""
        return frozenset(row.id for row, _ in self.train)

    @cached_property
    def folds(self) -> FoldModels:
        """The models of its folds, which all its windows are held against."""
        return folds_of(text_classifier.DEFAULT, columns(self.train))


def train(name: str, known: Known, week: int, test_share: float, *, spoil: float = 0.0, seed: int = 0) -> Version:
    """Train a version on the labels known so far, but for the split that judges it.

    Tags with fewer than three rows in the training split are left out of it, since they cannot be learnt.

    Args:
        name: The version's.
        known: Rows with their labels.
        week: The present one.
        test_share: Share of the ids that the test split takes.
        spoil: Share of training labels that are dealt to each other, which makes a bad version.
        seed: Of spoiling.

    Raises:
        PlatformError: There are too few rows.
    """
    splits = assign_splits([row.id for row, _ in known], test_share)
    test = [pair for pair, split in zip(known, splits, strict=True) if split == "test"]
    rest = [pair for pair, split in zip(known, splits, strict=True) if split == "train"]
    counts = Counter(tag for _, tag in rest)
    rest = [pair for pair in rest if counts[pair[1]] >= LEAST_ROWS]
    counts = Counter(tag for _, tag in rest)
    if not test or len(counts) < 2 or max(counts.values()) < FOLDS:
        raise PlatformError(
            f"The {len(known)} labels known by week {week} leave {len(rest)} rows of {len(counts)} tags to train on and"
            f" {len(test)} to test on, too few for a model: give more labelled rows, or another test_share."
        )
    fitted_on = _spoilt(rest, spoil, seed)
    rows = columns(fitted_on)
    try:
        model = text_classifier.fit(text_classifier.frame(rows.titles, rows.descriptions), rows.tags)
    except ValueError as error:
        raise PlatformError(f"Week {week}: {error}") from error
    f1 = weighted_f1([tag for _, tag in test], predicted(model, [row for row, _ in test]))
    return Version(name, model, fitted_on, test, {row.id: tag for row, tag in known}, f1, week)


def _spoilt(known: Known, share: float, seed: int) -> Known:
    draw = random.Random(f"spoil {seed}")  # noqa: S311 - not for secrets
    rows = sorted(draw.sample(range(len(known)), round(share * len(known))))
    # each takes the label of the next with another one, so that none keeps its own
    tags = [known[i][1] for i in rows]
    result = list(known)
    for place, i in enumerate(rows):
        later = (tags[(place + step) % len(tags)] for step in range(1, len(tags)))
        result[i] = (known[i][0], next((tag for tag in later if tag != known[i][1]), known[i][1]))
    return result


def judge(candidate: Version, champion: Version, min_f1: float) -> promotion_gates.Decision:
    """Let the gates decide on a candidate, on the test rows that the champion was not trained on either."""
    fresh = [(row, tag) for row, tag in candidate.test if row.id not in champion.trained_on]
    truth = [tag for _, tag in fresh]
    majority = max(sorted(set(truth)), key=truth.count)
    comparison = paired_bootstrap(
        truth, *(predicted(each.model, [row for row, _ in fresh]) for each in (candidate, champion))
    )
    return promotion_gates.decide(
        candidate=candidate.name,
        champion=champion.name,
        f1=candidate.f1,
        majority_f1=weighted_f1(truth, [majority] * len(truth)),
        min_f1=min_f1,
        comparison=comparison.to_dict(),
    )


def f1_on(version: Version, rows: Sequence[Row], seen: Callable[[Row], Row]) -> float | None:
    """Weighted F1 on rows as they look, against what is true; None where there are none."""
    if not rows:
        return None
    return weighted_f1([row.tag for row in rows], predicted(version.model, [seen(row) for row in rows]))
