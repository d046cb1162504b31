"""A day's watch: the champion's rows and the window's made comparable, then every test of `ml.drift`.

What is compared must be alike where nothing drifts. The reference's predictions are the champion's own on rows that
it was not trained on, where there are enough of them. Else they are out-of-fold ones on its training rows, and the
window's confidence is that of the same folds' models (`fold_models`): a model that was fitted on more
rows is surer. On 300 random splits of the 764 Made With ML rows, windows of 150, the confidence test fired in 4.0% at
.01 with the champion's own confidence, and so does in 0.3%; all tests together in 2.3% and in 0.7%.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlops_platform.ml.classifier.prediction import predict
from mlops_platform.ml.classifier.text_classifier import TEXT, Params, encoder_of, frame
from mlops_platform.ml.embeddings.encoder import Encoder
from mlops_platform.ml.evaluation.metrics import Difference, paired_bootstrap
from mlops_platform.ml.labeling.label_quality import LEAST_ROWS
from mlops_platform.ml.monitoring.cross_fitting import FoldModels, across, fold_models
from mlops_platform.ml.monitoring.drift_tests import (
    ALPHA,
    MINIMUM_ROWS,
    DriftTest,
    Interval,
    Sample,
    drift_tests,
    online_f1,
)

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

ENOUGH_HELD_OUT = 500  # held-out rows from which on no out-of-fold predictions are needed
SURE = 0.99  # a promotion is looked at each day for two weeks, so this interval is wider than that of one comparison


@dataclass(frozen=True)
class LabeledRows:
    """Rows with their tags; n of each.

    Attributes:
        titles: Titles; None and NaN are missing.
        descriptions: Descriptions, likewise.
        tags: True tags.
    """

    titles: Sequence[object]
    descriptions: Sequence[object]
    tags: Sequence[str]


@dataclass(frozen=True)
class WindowRows:
    """The recent rows, none of which the champion was trained on; n of each.

    Attributes:
        titles: Titles; None and NaN are missing.
        descriptions: Descriptions, likewise.
        truth: True tags, None where not known (yet).
        rows_by_day: Rows of each whole day of the window.
    """

    titles: Sequence[object]
    descriptions: Sequence[object]
    truth: Sequence[str | None]
    rows_by_day: Sequence[int] = ()


@dataclass(frozen=True)
class Watched:
    """What a watch found.

    Attributes:
        tests: Every test of the day.
        online: The champion's weighted F1 on the labelled rows of the window; None where they are too few.
        against_previous: Weighted F1 of the champion minus that of the champion before, on the same labelled rows,
            with a 99 % interval; None without the other, or where they are too few.
        reference: What the tests compared with.
        window: What they compared.
    """

    tests: list[DriftTest]
    online: Interval | None
    against_previous: Difference | None
    reference: Sample
    window: Sample


def watch(
    model: Pipeline,
    params: Params,
    training: LabeledRows,
    held_out: LabeledRows,
    window: WindowRows,
    days_before: Sequence[int],
    *,
    previous: Pipeline | None = None,
    fitted: FoldModels | None = None,
    alpha: float = ALPHA,
    minimum: int = MINIMUM_ROWS,
    seed: int = 0,
) -> Watched:
    """Compare a window of rows with what the champion knows.

    Args:
        model: The champion.
        params: The parameters that it was fitted with.
        training: The rows that it was fitted on.
        held_out: Labelled rows of the same time that it was not fitted on: the test split.
        window: The recent rows.
        days_before: Rows of each whole day before the window.
        previous: The champion before.
        fitted: What `folds_of` gave for the training rows, where it is kept; fitted anew where None.
        alpha: Chance of any alarm where nothing drifts.
        minimum: Rows that a test needs on each side.
        seed: Of folds, permutations and resamples.
    """
    recent = replace(
        _predicted(model, window.titles, window.descriptions, window.truth), rows_by_day=window.rows_by_day
    )
    if len(held_out.tags) >= ENOUGH_HELD_OUT:
        reference = _predicted(model, held_out.titles, held_out.descriptions, held_out.tags)
    else:
        fitted = fitted or folds_of(params, training, seed=seed, encoder=encoder_of(model))
        reference, confidence = _cross_fitted(training, recent, fitted, seed)
        recent = replace(recent, confidence=confidence)
    reference = replace(reference, rows_by_day=days_before)
    return Watched(
        drift_tests(reference, recent, alpha=alpha, seed=seed, minimum=minimum),
        online_f1(recent, minimum=minimum, seed=seed),
        _against(previous, recent, minimum, seed),
        reference,
        recent,
    )


def _predicted(
    model: Pipeline, titles: Sequence[object], descriptions: Sequence[object], truth: Sequence[str | None]
) -> Sample:
    said = predict(model, titles, descriptions)
    tags, confidence = [each.tag for each in said], [each.probability for each in said]
    return Sample(titles, descriptions, tags, confidence, truth=truth)


def folds_of(params: Params, training: LabeledRows, *, seed: int = 0, encoder: Encoder | None = None) -> FoldModels:
    """Fit the folds' models that windows are held against where held-out rows are few.

    They depend on the champion's parameters, its encoder (where it has sentence vectors) and training rows alone.

    Raises:
        ValueError: Fewer than two tags have three training rows, so nothing can be compared.
    """
    kept = _learnt(training)
    if len(set(kept.tags)) < 2:
        raise ValueError(f"Fewer than two tags have {LEAST_ROWS} training rows, so no window can be compared.")
    texts = frame(kept.titles, kept.descriptions)[TEXT].tolist()
    return fold_models(texts, kept.tags, params, seed=seed, encoder=encoder)


def _learnt(training: LabeledRows) -> LabeledRows:
    """The training rows without those of tags that are too rare for folds."""
    counts = Counter(training.tags)
    kept = [row for row, tag in enumerate(training.tags) if counts[tag] >= LEAST_ROWS]
    columns = (training.titles, training.descriptions, training.tags)
    titles, descriptions, tags = ([column[row] for row in kept] for column in columns)
    return LabeledRows(titles, descriptions, [str(tag) for tag in tags])


def _cross_fitted(training: LabeledRows, recent: Sample, fitted: FoldModels, seed: int) -> tuple[Sample, list[float]]:
    """The training rows by models that have not seen them, and how sure such models are of the recent rows."""
    kept = _learnt(training)
    texts = frame(kept.titles, kept.descriptions)[TEXT].tolist()
    ours, theirs, classes = across(fitted, texts, recent.texts, seed=seed)
    tags = [classes[best] for best in ours.argmax(axis=1)]
    reference = Sample(kept.titles, kept.descriptions, tags, ours.max(axis=1).tolist(), truth=kept.tags)
    return reference, theirs.max(axis=1, initial=0.0).tolist()


def _against(previous: Pipeline | None, recent: Sample, minimum: int, seed: int) -> Difference | None:
    known = [row for row, truth in enumerate(recent.truth) if truth is not None]
    if previous is None or len(known) < max(minimum, 1):
        return None
    before = predict(previous, [recent.titles[row] for row in known], [recent.descriptions[row] for row in known])
    truth = [str(recent.truth[row]) for row in known]
    return paired_bootstrap(
        truth, [recent.tags[row] for row in known], [each.tag for each in before], seed=seed, confidence=SURE
    )
