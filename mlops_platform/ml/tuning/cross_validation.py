"""Cross-validation of the whole pipeline on stratified folds.

Scores for the search, from cached features and without calibration, belong in `fold_scorer`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from mlops_platform.ml.classifier.text_classifier import DEFAULT, TEXT, Params, check_classes, fit
from mlops_platform.ml.embeddings.encoder import Encoder
from mlops_platform.ml.evaluation.metrics import expected_calibration_error, weighted_f1


def stratified_folds(
    texts: Sequence[str], labels: Sequence[str], *, n_splits: int, seed: int
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Yield the (train, held-out) row numbers of stratified folds, independent of the order of the rows.

    A tag may have fewer rows than there are folds.
    """
    order = np.array(sorted(range(len(texts)), key=lambda i: (texts[i], labels[i])), dtype=np.intp)
    tags = np.array(labels)[order]
    with warnings.catch_warnings():
        # a rare tag is missing from some folds; callers that need it in all of them check the counts first
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        folds = list(StratifiedKFold(n_splits, shuffle=True, random_state=seed).split(tags, tags))
    for train, held_out in folds:
        yield order[train], order[held_out]


@dataclass(frozen=True)
class CrossValidation:
    """Result of a cross-validation.

    Attributes:
        fold_scores: Weighted F1 of each of `repeats * n_splits` folds.
        score: Mean of the fold scores.
        probabilities: Out-of-fold probabilities, shape (n, classes), averaged over the repeats.
        classes: Tags of the columns of `probabilities`.
        ece: Expected calibration error, averaged over the repeats.
    """

    fold_scores: list[float]
    score: float
    probabilities: npt.NDArray[np.float64]
    classes: list[str]
    ece: float


def cross_validate(
    texts: Sequence[str],
    labels: Sequence[str],
    params: Params = DEFAULT,
    *,
    n_splits: int = 5,
    repeats: int = 1,
    seed: int = 0,
    encoder: Encoder | None = None,
) -> CrossValidation:
    """Fit and score the whole pipeline on stratified folds.

    Args:
        texts: n texts.
        labels: Tag of each text, length n.
        params: The model's parameters.
        n_splits: Folds, at least 2; each tag needs as many rows.
        repeats: Number of cross-validations, with seeds `seed`, `seed + 1`, ...
        seed: Seed of the folds and the calibration.
        encoder: Encoder of the sentence vectors, if the parameters have a sentence weight.

    Raises:
        ValueError: The rows cannot be cross-validated; see `fit`.
    """
    tags = [str(label) for label in labels]
    # calibration needs two rows of each tag in every training set
    classes = sorted(check_classes(tags, least=n_splits if n_splits > 2 else 4))
    frame, y = pd.DataFrame({TEXT: list(texts)}), np.array(tags)
    total, scores, errors = np.zeros((len(y), len(classes))), [], []
    for repeat in range(repeats):
        probabilities = np.zeros_like(total)
        for train, held_out in stratified_folds(texts, tags, n_splits=n_splits, seed=seed + repeat):
            model = fit(frame.iloc[train], list(y[train]), params, seed=seed, encoder=encoder)
            probabilities[held_out] = model.predict_proba(frame.iloc[held_out])
            predicted = np.array(classes)[probabilities[held_out].argmax(axis=1)]
            scores.append(weighted_f1(y[held_out], predicted))
        errors.append(expected_calibration_error(y, probabilities, classes))
        total += probabilities
    return CrossValidation(scores, float(np.mean(scores)), total / repeats, classes, float(np.mean(errors)))
