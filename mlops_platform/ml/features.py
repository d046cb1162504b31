"""The model's features of many folds: n-grams are counted once, each fold and trial only picks and weighs them.

What comes out for a fold is what the pipeline of `ml.model` would compute, up to the last bit of a float; a
test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from mlops_platform.ml.kept import Kept
from mlops_platform.ml.model import CHAR_NGRAM_LIMIT, CHAR_NGRAM_MIN, WORD_NGRAM_LIMIT, Params

Rows = npt.NDArray[np.intp]
Pair = tuple[sp.csr_matrix, sp.csr_matrix]  # features of the training rows and of the held-out rows

CACHE_BYTES = 512 * 2**20  # weighed features kept between trials; beyond it they are weighed anew


class _Counts:
    """Counts of every n-gram of one analyzer, in every text."""

    def __init__(self, texts: Sequence[str], analyzer: str, ngrams: tuple[int, int]) -> None:
        vectorizer = CountVectorizer(analyzer=analyzer, ngram_range=ngrams, strip_accents="unicode")
        self.matrix = vectorizer.fit_transform(texts)
        terms = vectorizer.get_feature_names_out()
        by_word = analyzer == "word"
        self.length = np.array([term.count(" ") + 1 if by_word else len(term) for term in terms])

    def weigh(self, train: Rows, held_out: Rows, longest: int, min_df: int) -> Pair:
        """Weigh by TF-IDF, with the vocabulary and document frequencies of the training rows."""
        counts = self.matrix[train]
        frequency = np.bincount(counts.indices, minlength=counts.shape[1])  # no entry is stored twice
        kept = np.flatnonzero((self.length <= longest) & (frequency >= min_df))
        if not len(kept):
            raise ValueError(
                f"No word, or no group of letters, is in {min_df} or more of {len(train)} texts: the texts"
                " are empty or too few, so add rows."
            )
        tfidf = TfidfTransformer(sublinear_tf=True)
        return tfidf.fit_transform(counts[:, kept]), tfidf.transform(self.matrix[held_out][:, kept])


class FoldFeatures:
    """Features of cross-validation folds for any parameters."""

    def __init__(
        self,
        texts: Sequence[str],
        folds: Sequence[tuple[Rows, Rows]],
        *,
        word_limit: int = WORD_NGRAM_LIMIT,
        char_limit: int = CHAR_NGRAM_LIMIT,
        vectors: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Count the n-grams of `texts`.

        Args:
            texts: n texts.
            folds: Row numbers of the training and held-out part of each fold.
            word_limit: Longest word n-gram that will be asked for.
            char_limit: Longest character n-gram that will be asked for.
            vectors: The texts' sentence vectors, shape (n, size), where the parameters weigh them.

        Raises:
            ValueError: The texts hold no word at all.
        """
        self._folds, self._vectors = folds, vectors
        try:
            self._counts = {
                "word": _Counts(texts, "word", (1, word_limit)),
                "char": _Counts(texts, "char_wb", (CHAR_NGRAM_MIN, char_limit)),
            }
        except ValueError as error:
            raise ValueError("The texts hold no words: check titles and descriptions.") from error
        self._kept = _kept()

    def cut(self, folds: Sequence[tuple[Rows, Rows]]) -> FoldFeatures:
        """Return the features of other folds of the same texts, without counting them again."""
        other = copy(self)
        other._folds, other._kept = folds, _kept()
        return other

    def __call__(self, fold: int, params: Params) -> Pair:
        """Return the features of a fold's training and held-out rows."""
        word = self._weighed(fold, "word", params.word_ngram_max, params.min_df)
        char = self._weighed(fold, "char", params.char_ngram_max, params.min_df)
        blocks = [[w, c * params.char_weight] for w, c in zip(word, char, strict=True)]
        if params.sentence_weight is not None:
            for block, vectors in zip(blocks, self.vectors(fold), strict=True):
                block.append(sp.csr_matrix(vectors * params.sentence_weight))
        train, held_out = (sp.hstack(block, format="csr") for block in blocks)
        return train, held_out

    def vectors(self, fold: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the sentence vectors of a fold's training and held-out rows.

        Raises:
            ValueError: There are none.
        """
        if self._vectors is None:
            raise ValueError("The parameters weigh sentence vectors and there are none: tune the parameters again.")
        train, held_out = self._folds[fold]
        return self._vectors[train].astype(np.float64), self._vectors[held_out].astype(np.float64)

    def _weighed(self, *key: *tuple[int, str, int, int]) -> Pair:
        return self._kept.get(key, lambda: self.weighed(*key))

    def weighed(self, fold: int, analyzer: str, longest: int, min_df: int) -> Pair:
        """Return the features of a fold from one analyzer, "word" or "char", computed anew."""
        return self._counts[analyzer].weigh(*self._folds[fold], longest, min_df)


def _kept() -> Kept[tuple[int, str, int, int], Pair]:
    return Kept(CACHE_BYTES, lambda pair: sum(m.data.nbytes + m.indices.nbytes + m.indptr.nbytes for m in pair))
