"""What a streamed model sees of a text: hashed words, with or without hashed character n-grams, weighed by TF-IDF.

Nothing is learnt but the inverse document frequencies, so texts may come in any number. All is stock scikit-learn.
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
    """Hashed n-grams of texts (Weinberger et al. 2009), and their weights.

    Attributes:
        hashing: Texts in, counts of n-grams out.
        weighing: Counts in, vectors of length 1 out; zero where a text has no n-gram.
    """

    hashing: HashingVectorizer | FeatureUnion
    weighing: TfidfTransformer

    @classmethod
    def counted(
        cls, texts: Iterable[Sequence[str]], *, bits: int, n_gram: int | None = None, n_gram_bits: int = 0
    ) -> HashedText:
        """Count in how many texts an n-gram is: what `TfidfTransformer.fit` does with all of them in memory.

        Args:
            texts: Some at a time.
            bits: Words have 2 ** bits features.
            n_gram: Length of the character n-grams within words, which come besides; None has words only.
            n_gram_bits: They have 2 ** n_gram_bits features.

        Raises:
            ValueError: No text holds a word.
        """
        hashing: HashingVectorizer | FeatureUnion = _hashing(bits)
        features = 2**bits
        if n_gram is not None:
            parts = _hashing(n_gram_bits, analyzer="char_wb", ngram_range=(n_gram, n_gram))
            hashing, features = FeatureUnion([("word", hashing), ("char", parts)]), features + 2**n_gram_bits
        rows, holding = 0, np.zeros(features, dtype=np.int64)
        for some in texts:
            holding += np.bincount(hashing.transform(some).indices, minlength=len(holding))
            rows += len(some)
        if not holding[: 2**bits].any():
            raise ValueError(f"The {rows} texts hold no word: check titles and descriptions.")
        weighing = TfidfTransformer(sublinear_tf=True)
        weighing.fit(sp.csr_matrix((1, len(holding))))
        weighing.idf_ = (np.log((1 + rows) / (1 + holding)) + 1).astype(np.float32)
        return cls(hashing, weighing)

    def vectors(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Return a row of single precision for each text."""
        return self.weighing.transform(self.hashing.transform(texts))

    def step(self) -> ColumnTransformer:
        """Return the step of a pipeline that makes the vectors of a model's input."""
        made = Pipeline([("hashing", self.hashing), ("weighing", self.weighing)])
        features = ColumnTransformer([("hashed", made, TEXT)], sparse_threshold=1.0)
        # fitting is done: this only makes scikit-learn know the column, on copies
        features.fit(frame(["word"], [""]))
        features.transformers_ = [("hashed", made, TEXT)]
        return features


def _hashing(bits: int, **n_grams: object) -> HashingVectorizer:
    # single precision: half of the memory, and the Brier score is the same in six digits
    return HashingVectorizer(
        n_features=2**bits, norm=None, alternate_sign=False, strip_accents="unicode", dtype=np.float32, **n_grams
    )
