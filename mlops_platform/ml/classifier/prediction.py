"""What a fitted model says of texts, the same for the command, the service and the daily batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.ml.classifier.text_classifier import frame

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class Prediction:
    """What a model says of one text.

    Attributes:
        tag: The likeliest class; of several, the first by name.
        probability: That of `tag`.
        probabilities: Class to probability, in the model's order.
    """

    tag: str
    probability: float
    probabilities: dict[str, float]


def predict(model: Pipeline, titles: Iterable[object], descriptions: Iterable[object]) -> list[Prediction]:
    """Predict tags.

    Args:
        model: A fitted pipeline.
        titles: n titles; None and NaN count as empty.
        descriptions: n descriptions, likewise.

    Returns:
        n predictions, in the order of the texts.
    """
    texts = frame(titles, descriptions)
    if texts.empty:
        return []
    classes = [str(each) for each in model.classes_]
    found = model.predict_proba(texts)
    return [
        Prediction(classes[best], row[best], dict(zip(classes, row, strict=True)))
        for best, row in zip(found.argmax(axis=1), found.tolist(), strict=True)
    ]
