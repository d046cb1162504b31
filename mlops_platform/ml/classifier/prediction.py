"""Prediction with a fitted model: one function for the command line, the service and the batch predictions.

Loading models, and storing what they predict, belong elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.ml.classifier.text_classifier import frame

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class Prediction:
    """The prediction for one text.

    Attributes:
        tag: The likeliest class; on ties the first by name.
        probability: Probability of `tag`.
        probabilities: Probability by class, in the model's order.
    """

    tag: str
    probability: float
    probabilities: dict[str, float]


def predict(model: Pipeline, titles: Iterable[object], descriptions: Iterable[object]) -> list[Prediction]:
    """Predict the tag of each pair of title and description; None and NaN count as empty."""
    texts = frame(titles, descriptions)
    if texts.empty:
        return []
    classes = [str(name) for name in model.classes_]
    probabilities = model.predict_proba(texts)
    return [
        Prediction(classes[best], row[best], dict(zip(classes, row, strict=True)))
        for best, row in zip(probabilities.argmax(axis=1), probabilities.tolist(), strict=True)
    ]
