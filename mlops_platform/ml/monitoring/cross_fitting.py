"""Cross-fitting: predictions of labeled and other rows by the same models, each fitted on all folds but one.

If the rows are exchangeable, so are their probabilities; those of a model fitted on all labeled rows are not.
The fitted models can be cached and reused for other rows. Drift tests belong in `drift_tests`.
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
    """Models fitted on all folds but one, each with the numbers of its held-out rows."""

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
    """Fit one model per fold, on all other folds.

    Args:
        texts: n texts.
        labels: Tag of each text, length n; each tag has at least 3 rows.
        params: The model's parameters.
        folds: At least 3, so that a tag's rows are never all held out.
        seed: Seed of the folds and the calibration.
        encoder: Encoder of the sentence vectors, if the parameters have a sentence weight.
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
    """Predict labeled rows out of fold, and each other row with the model of a fold drawn at random.

    Args:
        fitted: The models.
        texts: The n texts they were fitted on, in the same order.
        others: m other texts.
        seed: Seed of the draw.

    Returns:
        Probabilities of the texts, shape (n, tags), and of the others, shape (m, tags), and the tags of the columns.
    """
    frame, other_frame = pd.DataFrame({TEXT: list(texts)}), pd.DataFrame({TEXT: list(others)}, dtype=object)
    fold_of = np.random.default_rng(seed).permutation(np.arange(len(other_frame)) % len(fitted.models))
    classes = fitted.classes
    probabilities, other_probabilities = (np.zeros((len(rows), len(classes))) for rows in (frame, other_frame))
    for fold, (model, held_out) in enumerate(fitted.models):
        probabilities[held_out] = model.predict_proba(frame.iloc[held_out])
        if (fold_of == fold).any():
            other_probabilities[fold_of == fold] = model.predict_proba(other_frame[fold_of == fold])
    return probabilities, other_probabilities, classes
