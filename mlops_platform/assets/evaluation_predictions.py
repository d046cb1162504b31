"""Predictions of the candidate and the champion for the rows of the holdout set, in batches where there are many.

Which rows are in the set is decided in ``evaluation_set``; what is measured on them, in ``evaluation``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlops_platform.resources.datasets.dataset_store import DatasetStore

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from sklearn.pipeline import Pipeline

    from mlops_platform.ml.evaluation.holdout import EvaluationSet

_READ = ("id", "created_on", "title", "description", "tag")


@dataclass
class EvaluationPredictions:
    """The n rows of a holdout set with the predictions of two models.

    Attributes:
        probabilities: The candidate's, shape (n, classes).
        labels: True tags.
        texts: The models' input.
        times: When the projects were posted.
        by_candidate: Tags that the candidate predicts.
        by_champion: Tags that the champion predicts; None without one.
    """

    probabilities: npt.NDArray[np.float64]
    labels: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    times: list[Any] = field(default_factory=list)
    by_candidate: list[str] = field(default_factory=list)
    by_champion: list[str] | None = None


def evaluation_rows(
    datasets: DatasetStore, dataset: str, holdout: EvaluationSet, *, in_batches: bool
) -> Iterator[pd.DataFrame]:
    """Yield the rows of the holdout set: all at once by id, or in batches in the order of the snapshot."""
    if not in_batches:
        test = datasets.load(dataset, "test")
        yield test[test["id"].isin(holdout.tags)]
        return
    remaining = len(holdout.tags)
    for batch in datasets.batches(dataset, "test", _READ):
        rows: pd.DataFrame = batch.to_pandas()
        rows = rows[rows["id"].isin(holdout.tags)]
        if len(rows):
            yield rows
        remaining -= len(rows)
        if remaining <= 0:
            return


def predict_with(
    batches: Iterable[pd.DataFrame], candidate: Pipeline, champion: Pipeline | None
) -> EvaluationPredictions:
    """Predict the rows of `evaluation_rows` with the candidate, and with the champion if there is another one."""
    import numpy as np

    from mlops_platform.ml.classifier import text_classifier

    classes = list(candidate.classes_)
    probabilities = [np.zeros((0, len(classes)))]
    result = EvaluationPredictions(probabilities[0], by_champion=None if champion is None else [])
    for rows in batches:
        frame = text_classifier.frame(rows["title"], rows["description"])
        probabilities.append(candidate.predict_proba(frame))
        result.labels += rows["tag"].tolist()
        result.texts += frame[text_classifier.TEXT].tolist()
        result.times += rows["created_on"].tolist()
        result.by_candidate += [classes[best] for best in probabilities[-1].argmax(axis=1)]
        if champion is not None and result.by_champion is not None:
            result.by_champion += [str(tag) for tag in champion.predict(frame)]
    result.probabilities = np.concatenate(probabilities)
    return result
