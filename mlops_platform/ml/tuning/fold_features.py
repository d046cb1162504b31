"""Features of the text classifier on cross-validation folds, cached by fold and n-gram parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from mlops_platform.ml.classifier.text_classifier import Params, build_tfidf, check_vocabulary

Rows = npt.NDArray[np.intp]
Fold = tuple[Rows, Rows]  # numbers of the training rows and of the held-out rows
Pair = tuple[sp.csr_matrix, sp.csr_matrix]  # features of the training rows and of the held-out rows

CACHE_BYTES = 512 * 2**20  # beyond it, features are recomputed


class FoldFeatures:
    """Features of cross-validation folds, computed on demand for any parameters."""

    def __init__(
        self, texts: Sequence[str], folds: Sequence[Fold], vectors: npt.NDArray[np.float32] | None = None
    ) -> None:
        """Store the texts, the folds, and the texts' sentence vectors if the parameters have a sentence weight."""
        self._texts, self._folds, self._vectors = np.array(texts, dtype=object), folds, vectors
        self._cache: dict[tuple[object, ...], Pair] = {}
        self._free_bytes = CACHE_BYTES

    def __call__(self, fold: int, params: Params) -> Pair:
        """Return the features of a fold's training and held-out rows.

        Raises:
            ValueError: No n-gram is in `min_df` rows, or the sentence vectors are missing.
        """
        word, char = self._tfidf(fold, "word", params), self._tfidf(fold, "char", params)
        blocks = [[w, c * params.char_weight] for w, c in zip(word, char, strict=True)]
        if params.sentence_weight is not None:
            if self._vectors is None:
                raise ValueError("The parameters weigh sentence vectors and there are none: tune the parameters again.")
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
