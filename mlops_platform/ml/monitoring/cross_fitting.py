"""Labelled rows held against other rows by models of one kind: each is fitted on all folds but one.

So the two sets of probabilities are exchangeable where the rows are, which those of a model fitted on all labelled rows
are not. The models can be kept, for those who hold the same labelled rows against other rows again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_platform.ml.classifier.text_classifier import DEFAULT, TEXT, Params, fit
from mlops_platform.ml.embeddings.encoder import Encoder
from mlops_platform.ml.tuning.cross_validation import stratified_folds

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FOLDS = 5


@dataclass(frozen=True)
class FoldModels:
    """Models that are fitted on all folds but one: each with the numbers of the rows that it has not seen."""

    models: Sequence[tuple[Pipeline, npt.NDArray[np.intp]]]
    classes: list[str]


def fold_models(
    texts: Sequence[str],
    labels: Sequence[str],
    params: Params = DEFAULT,
    *,
    folds: int = FOLDS,
    seed: int = 0,
    encoder: Encoder | None = None,
) -> FoldModels:
    """Fit a model on all folds but one, for each fold.

    Args:
        texts: n texts.
        labels: Tag of each text, length n; each tag has 3 rows or more.
        params: The model's parameters.
        folds: At least 3, so that a tag's rows are not all held out at once.
        seed: Of the folds and the calibration.
        encoder: Makes the sentence vectors, where the parameters weigh them.
    """
    frame, tags = pd.DataFrame({TEXT: list(texts)}), list(labels)
    models = [
        (fit(frame.iloc[train], [tags[i] for i in train], params, seed=seed, encoder=encoder), out)
        for train, out in stratified_folds(texts, tags, n_splits=folds, seed=seed)
    ]
    return FoldModels(models, sorted(set(labels)))


def across(
    fitted: FoldModels, texts: Sequence[str], others: Sequence[str], *, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[str]]:
    """Predict the labelled rows and other ones by models that are alike.

    A labelled row is predicted by the model that has not seen its fold, another row by that of a fold drawn for it.

    Args:
        fitted: The models.
        texts: The n texts that they were fitted on, in the same order.
        others: m texts.
        seed: Of the draw.

    Returns:
        Probabilities of the texts, shape (n, tags), and of the others, shape (m, tags), and the tags in the order of
        their columns.
    """
    frame, besides = pd.DataFrame({TEXT: list(texts)}), pd.DataFrame({TEXT: list(others)}, dtype=object)
    drawn = np.random.default_rng(seed).permutation(np.arange(len(besides)) % len(fitted.models))
    classes = fitted.classes
    probabilities, also = np.zeros((len(frame), len(classes))), np.zeros((len(besides), len(classes)))
    for fold, (model, held_out) in enumerate(fitted.models):
        probabilities[held_out] = model.predict_proba(frame.iloc[held_out])
        if (drawn == fold).any():
            also[drawn == fold] = model.predict_proba(besides[drawn == fold])
    return probabilities, also, classes
