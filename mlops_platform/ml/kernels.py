"""The ridge of `ml.model` on Gram matrices: what a trial of the tuning fits, without touching a feature.

A ridge needs of its features only their inner products (Saunders, Gammerman & Vovk 1998). Those of the words and those
of the characters are computed once for each fold and each cut of the n-grams; a trial adds the two, weighed, and
solves one system of as many equations as there are rows. Tests hold what is predicted to the model's own predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve
from sklearn.feature_selection import chi2
from sklearn.utils.class_weight import compute_sample_weight

from mlops_platform.ml.features import FoldFeatures, Rows
from mlops_platform.ml.kept import Kept
from mlops_platform.ml.model import RELEVANCE, Params

CACHE_BYTES = 512 * 2**20  # inner products kept between trials; beyond it they are computed anew
MOST_ROWS = 850  # training rows of a fold up to which the matrices of all cuts fit in there
_STRIPS = 4  # of 611 rows: .033 s of CPU, .042 in one piece, .038 in 16

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Block:
    """Inner products of the words' or the characters' features, each feature scaled by its relevance.

    Attributes:
        train: Of the training rows with one another, shape (n, n).
        held_out: Of the held-out rows with the training rows, shape (m, n).
        scaled: Sum of the squares of the training rows.
        plain: The same without the scale.
    """

    train: Floats
    held_out: Floats
    scaled: float
    plain: float


class FoldKernels:
    """Predicts the held-out rows of cross-validation folds for any parameters."""

    def __init__(self, features: FoldFeatures, folds: Sequence[tuple[Rows, Rows]], tags: npt.NDArray[np.str_]) -> None:
        """Set up; a matrix is computed when a trial first needs it.

        Args:
            features: Of the folds.
            folds: Row numbers of the training and held-out part of each fold.
            tags: Tag of each row.
        """
        self._features = features
        self._tags = [tags[train] for train, _ in folds]
        self._classes = [np.unique(each) for each in self._tags]
        self._spread = [1 / compute_sample_weight("balanced", each) for each in self._tags]
        self._targets = [
            # a column of ones beside the classes gives the intercept
            np.column_stack([np.where(each[:, None] == classes, 1.0, -1.0), np.ones(len(each))])
            for each, classes in zip(self._tags, self._classes, strict=True)
        ]
        self._kept: Kept[tuple[int, str, int, int, float], _Block] = Kept(
            CACHE_BYTES, lambda block: block.train.nbytes + block.held_out.nbytes
        )
        self._near: dict[int, tuple[Floats, Floats]] = {}

    def __call__(self, fold: int, params: Params) -> npt.NDArray[np.str_]:
        """Fit on a fold's training rows and predict.

        Args:
            fold: Number of the fold.
            params: Of the model.

        Returns:
            Tags of the held-out rows; those that `ml.model.build_classifier` gives on the features of the fold.
        """
        sentences = params.sentence_weight is not None
        for power in (0.0,) if sentences else (RELEVANCE, 0.0):
            word = self._block(fold, "word", params.word_ngram_max, params.min_df, power)
            char = self._block(fold, "char", params.char_ngram_max, params.min_df, power)
            # chi-squared grows as the features do, and the relevance as a power of it
            weight = params.char_weight ** (2 + 2 * power)
            scaled = word.scaled + weight * char.scaled
            if scaled:
                break  # else no feature tells the classes apart, and the model leaves them all as they are
        # the model brings its scaled rows back to their length: here the penalty takes up that factor
        alpha = params.alpha * scaled / (word.plain + params.char_weight**2 * char.plain)
        system = np.multiply(char.train, weight)
        system += word.train
        if params.sentence_weight is not None:
            near, far = self._sentences(fold)
            system += params.sentence_weight**2 * near
        system.flat[:: len(system) + 1] += alpha * self._spread[fold]
        factor = cho_factor(system.T, overwrite_a=True, check_finite=False)
        solved = cho_solve(factor, self._targets[fold], check_finite=False)
        solved, ones = solved[:, :-1], solved[:, -1]
        intercept = solved.sum(axis=0) / ones.sum()
        duals = solved - ones[:, None] * intercept
        scores = word.held_out @ duals + weight * (char.held_out @ duals) + intercept
        if params.sentence_weight is not None:
            scores += params.sentence_weight**2 * (far @ duals)
        return self._classes[fold][scores.argmax(axis=1)]

    def _sentences(self, fold: int) -> tuple[Floats, Floats]:
        """Inner products of a fold's sentence vectors: of the training rows, of the held-out ones with these."""
        if fold not in self._near:
            train, held_out = self._features.vectors(fold)
            self._near[fold] = train @ train.T, held_out @ train.T
        return self._near[fold]

    def _block(self, *key: *tuple[int, str, int, int, float]) -> _Block:
        """Products of a fold, an analyzer, its longest n-gram, its min_df, and the power of the relevance."""
        return self._kept.get(key, lambda: self._multiplied(*key))

    def _multiplied(self, fold: int, analyzer: str, longest: int, min_df: int, power: float) -> _Block:
        train, held_out = self._features.weighed(fold, analyzer, longest, min_df)
        statistic = np.nan_to_num(chi2(train, self._tags[fold])[0])
        scaled = train @ sp.diags_array(statistic ** (2 * power))
        inner = _symmetric(scaled, train)
        return _Block(inner, (held_out @ scaled.T).toarray(), float(np.trace(inner)), float((train.data**2).sum()))


def _symmetric(scaled: sp.csr_array, plain: sp.csr_array) -> Floats:
    """Return `scaled @ plain.T`, which is symmetric, from strips that end at the diagonal: five eighths of the work."""
    rows = plain.shape[0]
    inner = np.empty((rows, rows))

    def fill(first: int, last: int) -> None:
        inner[first:last, first:] = (scaled[first:last] @ plain[first:].T).toarray()
        inner[last:, first:last] = inner[first:last, last:].T

    with ThreadPoolExecutor(_STRIPS) as threads:  # a sparse product leaves the interpreter to others
        cuts = [rows * strip // _STRIPS for strip in range(_STRIPS + 1)]
        list(threads.map(lambda cut: fill(*cut), pairwise(cuts)))
    return inner
