"""Features of an out-of-core model: hashed words and optional hashed character n-grams, weighted by TF-IDF.

Only the document frequencies are fitted, so memory does not grow with the texts. All steps are stock scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import FeatureUnion, Pipeline

from mlops_platform.ml.classifier.text_classifier import TEXT, frame


@dataclass(frozen=True)
class HashedText:
    """Hashed n-grams of texts (Weinberger et al. 2009) and their TF-IDF weights.

    Attributes:
        hashing: Counts the n-grams of texts.
        tfidf: Turns counts into vectors of length 1, or 0 where a text has no n-gram.
    """

    hashing: HashingVectorizer | FeatureUnion
    tfidf: TfidfTransformer

    @classmethod
    def fit(
        cls, chunks: Iterable[Sequence[str]], *, bits: int, n_gram: int | None = None, n_gram_bits: int = 0
    ) -> HashedText:
        """Count document frequencies chunk by chunk, as `TfidfTransformer.fit` does with all texts in memory.

        Args:
            chunks: Texts.
            bits: Words are hashed to 2 ** bits features.
            n_gram: Length of the additional character n-grams within words; None for words only.
            n_gram_bits: N-grams are hashed to 2 ** n_gram_bits features.

        Raises:
            ValueError: No text holds a word.
        """
        hashing: HashingVectorizer | FeatureUnion = _hashing(bits)
        features = 2**bits
        if n_gram is not None:
            char_hashing = _hashing(n_gram_bits, analyzer="char_wb", ngram_range=(n_gram, n_gram))
            hashing, features = FeatureUnion([("word", hashing), ("char", char_hashing)]), features + 2**n_gram_bits
        rows, document_counts = 0, np.zeros(features, dtype=np.int64)
        for texts in chunks:
            document_counts += np.bincount(hashing.transform(texts).indices, minlength=features)
            rows += len(texts)
        if not document_counts[: 2**bits].any():
            raise ValueError(f"The {rows} texts hold no word: check titles and descriptions.")
        tfidf = TfidfTransformer(sublinear_tf=True)
        tfidf.fit(sp.csr_matrix((1, features)))
        tfidf.idf_ = (np.log((1 + rows) / (1 + document_counts)) + 1).astype(np.float32)
        return cls(hashing, tfidf)

    def vectors(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Return the float32 features of each text."""
        return self.tfidf.transform(self.hashing.transform(texts))

    def step(self) -> ColumnTransformer:
        """Return the features as the first step of a classifier's pipeline."""
        pipeline = Pipeline([("hashing", self.hashing), ("weighing", self.tfidf)])
        features = ColumnTransformer([("hashed", pipeline, TEXT)], sparse_threshold=1.0)
        # this fits a copy, only so that scikit-learn knows the column
        features.fit(frame(["word"], [""]))
        features.transformers_ = [("hashed", pipeline, TEXT)]
        return features


def _hashing(bits: int, **n_grams: object) -> HashingVectorizer:
    # float32 halves the memory; the Brier score agrees in six digits
    return HashingVectorizer(
        n_features=2**bits, norm=None, alternate_sign=False, strip_accents="unicode", dtype=np.float32, **n_grams
    )
