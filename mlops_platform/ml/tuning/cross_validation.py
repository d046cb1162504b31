"""Cross-validation on stratified folds: of the whole pipeline, and from cached features as the search needs it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from mlops_platform.ml.classifier.text_classifier import (
    DEFAULT,
    TEXT,
    Params,
    build_classifier,
    build_tfidf,
    check_classes,
    check_vocabulary,
    fit,
)
from mlops_platform.ml.embeddings.encoder import Encoder, Vectors
from mlops_platform.ml.evaluation.metrics import expected_calibration_error, weighted_f1

Rows = npt.NDArray[np.intp]
Fold = tuple[Rows, Rows]  # numbers of the training rows and of the held-out rows
Pair = tuple[sp.csr_matrix, sp.csr_matrix]  # features of the training rows and of the held-out rows

CACHE_BYTES = 512 * 2**20  # beyond it, features are recomputed


def stratified_folds(texts: Sequence[str], labels: Sequence[str], *, n_splits: int, seed: int) -> list[Fold]:
    """Return stratified folds, independent of the order of the rows; a tag may have fewer rows than there are folds."""
    order = np.array(sorted(range(len(texts)), key=lambda i: (texts[i], labels[i])), dtype=np.intp)
    tags = np.array(labels)[order]
    with warnings.catch_warnings():
        # a rare tag is missing from some folds; callers that need it in all of them check the counts first
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        folds = StratifiedKFold(n_splits, shuffle=True, random_state=seed).split(tags, tags)
        return [(order[train], order[held_out]) for train, held_out in folds]


class FoldFeatures:
    """Features of cross-validation folds, cached by fold and n-gram parameters."""

    def __init__(self, texts: Sequence[str], folds: Sequence[Fold], vectors: Vectors | None = None) -> None:
        """Store the texts, the folds, and the texts' sentence vectors if the parameters have a sentence weight."""
        self._texts, self._folds, self._vectors = np.array(texts, dtype=object), folds, vectors
        self._cache: dict[tuple[object, ...], Pair] = {}
        self._free_bytes = CACHE_BYTES

    def __call__(self, fold: int, params: Params) -> Pair:
        """Return the features of a fold's training and held-out rows.

        Raises:
            ValueError: No n-gram is in `min_df` rows.
        """
        word, char = self._tfidf(fold, "word", params), self._tfidf(fold, "char", params)
        blocks = [[w, c * params.char_weight] for w, c in zip(word, char, strict=True)]
        if self._vectors is not None and params.sentence_weight is not None:
            for block, rows in zip(blocks, self._folds[fold], strict=True):
                block.append(sp.csr_matrix(self._vectors[rows].astype(np.float64) * params.sentence_weight))
        train, held_out = (sp.hstack(block, format="csr") for block in blocks)
        return train, held_out

    def _tfidf(self, fold: int, kind: Literal["word", "char"], params: Params) -> Pair:
        key = (fold, kind, params.word_ngram_max if kind == "word" else params.char_ngram_max, params.min_df)
        if (cached := self._cache.get(key)) is not None:
            return cached
        train, held_out = self._folds[fold]
        vectorizer = build_tfidf(kind, params)
        try:
            pair = vectorizer.fit_transform(self._texts[train]), vectorizer.transform(self._texts[held_out])
        except ValueError as error:
            check_vocabulary(error, len(train), params)
            raise
        size = sum(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes for matrix in pair)
        if size <= self._free_bytes:
            self._free_bytes -= size
            self._cache[key] = pair
        return pair


class FoldScorer:
    """Scores parameters on fixed folds by the weighted F1 of the uncalibrated classifier."""

    def __init__(
        self, texts: Sequence[str], labels: Sequence[str], folds: Sequence[Fold], vectors: Vectors | None = None
    ) -> None:
        """Prepare the folds of labeled texts, with sentence vectors if the parameters have a sentence weight."""
        self.folds = folds
        self._tags = np.array(labels, dtype=str)
        self._features = FoldFeatures(texts, folds, vectors)
        self._threads = ThreadpoolController()  # finding the libraries takes as long as scoring a fold

    def score(self, fold: int, params: Params) -> float:
        """Return the score on the held-out rows of a fold."""
        train, held_out = self.folds[fold]
        x_train, x_held_out = self._features(fold, params)
        with self._threads.limit(limits=1):  # short vectors: further threads slow it down
            predicted = build_classifier(params).fit(x_train, self._tags[train]).predict(x_held_out)
        return weighted_f1(self._tags[held_out], predicted)

    def scores(self, params: Params) -> Iterator[float]:
        """Yield the score of each fold in turn."""
        return (self.score(fold, params) for fold in range(len(self.folds)))


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
