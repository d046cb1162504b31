"""Scoring parameters on cross-validation folds, by what is computed once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from mlops_platform.ml.cross_validation import stratified_folds
from mlops_platform.ml.features import FoldFeatures, Rows
from mlops_platform.ml.kernels import MOST_ROWS, FoldKernels
from mlops_platform.ml.metrics import weighted_f1
from mlops_platform.ml.model import Params, build_classifier

FOLDS = 5


class Scorer:
    """Scores parameters on fixed folds of the training rows."""

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        seed: int,
        vectors: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Cut the folds and count the n-grams.

        Args:
            texts: n texts.
            labels: Tag of each, length n.
            seed: Cuts the folds.
            vectors: The texts' sentence vectors, shape (n, size), where the parameters weigh them.
        """
        self._texts = texts
        self._labels = [str(label) for label in labels]
        self._cut(seed)
        self._features = FoldFeatures(texts, self._folds, vectors=vectors)
        self._prepare()
        self._threads = ThreadpoolController()  # to find the libraries takes as long as to score a fold

    def _cut(self, seed: int) -> None:
        self._folds = cut(self._texts, self._labels, seed)
        self.folds = len(self._folds)

    def _prepare(self) -> None:
        self._tags = np.array(self._labels)
        self._kernels = FoldKernels(self._features, self._folds, self._tags)

    def anew(self, seed: int) -> Scorer:
        """Make a scorer on other folds of the same rows, without counting again."""
        other = copy(self)
        other._cut(seed)
        other._features = self._features.cut(other._folds)
        other._prepare()
        return other

    def __call__(self, fold: int, params: Params) -> float:
        """Return the weighted F1 of the model on the held-out rows of a fold."""
        train, held_out = self._folds[fold]
        with self._threads.limit(limits=1):
            if len(train) <= MOST_ROWS:
                predicted = self._kernels(fold, params)
            else:
                x_train, x_held_out = self._features(fold, params)
                predicted = build_classifier(params).fit(x_train, self._tags[train]).predict(x_held_out)
            return weighted_f1(self._tags[held_out], predicted)

    def scores(self, params: Params) -> Iterator[float]:
        """Yield the score of each fold in turn."""
        return (self(fold, params) for fold in range(self.folds))


def cut(texts: Sequence[str], labels: Sequence[str], seed: int) -> list[tuple[Rows, Rows]]:
    """Cut the folds that a seed stands for."""
    return list(stratified_folds(texts, list(labels), n_splits=FOLDS, seed=seed))
