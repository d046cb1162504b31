"""What models answer for the rows of the evaluation set, some rows at a time where they are many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlops_platform.resources.datasets.store import DatasetStore

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from sklearn.pipeline import Pipeline

    from mlops_platform.ml.evaluation.holdout import EvaluationSet

_READ = ("id", "created_on", "title", "description", "tag")


@dataclass
class Answers:
    """Rows with what two models say of them; n of each.

    Attributes:
        labels: True tags.
        texts: What the models read.
        times: When the projects were made.
        probabilities: The candidate's, shape (n, classes).
        ours: The candidate's tags.
        theirs: The other model's; None without one.
    """

    probabilities: npt.NDArray[np.float64]
    labels: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    times: list[Any] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    theirs: list[str] | None = None


def judged_rows(
    datasets: DatasetStore, dataset: str, frozen: EvaluationSet, *, in_batches: bool
) -> Iterator[pd.DataFrame]:
    """Read the rows of the evaluation set.

    Args:
        datasets: The snapshots.
        dataset: Version of the present one.
        frozen: The set.
        in_batches: Whether to read some thousand rows at a time, in the order of the snapshot, and not all at once,
            ordered by id.

    Yields:
        Rows with the columns id, created_on, title, description, tag.
    """
    if not in_batches:
        test = datasets.load(dataset, "test")
        yield test[test["id"].isin(frozen.tags)]
        return
    left = len(frozen.tags)
    for batch in datasets.batches(dataset, "test", _READ):
        rows: pd.DataFrame = batch.to_pandas()
        rows = rows[rows["id"].isin(frozen.tags)]
        if len(rows):
            yield rows
        left -= len(rows)
        if left <= 0:
            return


def answer(batches: Iterable[pd.DataFrame], candidate: Pipeline, rival: Pipeline | None) -> Answers:
    """Ask a model, or two, for the tags of rows.

    Args:
        batches: Rows as `judged_rows` gives them.
        candidate: The model that is judged.
        rival: The one that it is compared with.
    """
    import numpy as np

    from mlops_platform.ml.classifier import text_classifier

    classes = list(candidate.classes_)
    found, said = Answers(np.zeros((0, len(classes)))), [np.zeros((0, len(classes)))]
    theirs: list[str] = []
    for rows in batches:
        frame = text_classifier.frame(rows["title"], rows["description"])
        said.append(candidate.predict_proba(frame))
        found.labels += rows["tag"].tolist()
        found.texts += frame[text_classifier.TEXT].tolist()
        found.times += rows["created_on"].tolist()
        found.ours += [classes[best] for best in said[-1].argmax(axis=1)]
        if rival is not None:
            theirs += [str(tag) for tag in rival.predict(frame)]
    found.probabilities = np.concatenate(said)
    found.theirs = theirs if rival is not None else None
    return found
