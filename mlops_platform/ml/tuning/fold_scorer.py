"""Weighted F1 of parameters on fixed folds, as the search and its confirmation need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from mlops_platform.ml.classifier.text_classifier import Params, build_classifier
from mlops_platform.ml.evaluation.metrics import weighted_f1
from mlops_platform.ml.tuning.cross_validation import stratified_folds
from mlops_platform.ml.tuning.fold_features import Fold, FoldFeatures

FOLDS, LARGE_FOLDS, LARGE_ROWS = 5, 3, 5_000  # fewer folds for many rows: there is less noise, and fits are slow


class Scorer:
    """Scores parameters on fixed folds, whose features are cached."""

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        folds: Sequence[Fold],
        vectors: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Prepare the folds of labeled texts, with sentence vectors if the parameters have a sentence weight."""
        self.folds = len(folds)
        self._tags, self._folds = np.array(labels, dtype=str), folds
        self._features = FoldFeatures(texts, folds, vectors)
        self._threads = ThreadpoolController()  # finding the libraries takes as long as scoring a fold

    def __call__(self, fold: int, params: Params) -> float:
        """Return the weighted F1 of the classifier on the held-out rows of a fold."""
        train, held_out = self._folds[fold]
        x_train, x_held_out = self._features(fold, params)
        with self._threads.limit(limits=1):  # short vectors: further threads slow it down
            predicted = build_classifier(params).fit(x_train, self._tags[train]).predict(x_held_out)
        return weighted_f1(self._tags[held_out], predicted)

    def scores(self, params: Params) -> Iterator[float]:
        """Yield the score of each fold in turn."""
        return (self(fold, params) for fold in range(self.folds))


def cut(texts: Sequence[str], labels: Sequence[str], seed: int) -> list[Fold]:
    """Return stratified folds: five, or three from 5,000 rows."""
    return list(stratified_folds(texts, labels, n_splits=FOLDS if len(texts) < LARGE_ROWS else LARGE_FOLDS, seed=seed))
