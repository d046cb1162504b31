"""Features of an out-of-core model: hashed words and optional hashed character n-grams, weighted by TF-IDF.

Only the document frequencies are fitted, so memory does not grow with the texts. All steps are stock scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import FeatureUnion, Pipeline

from mlops_platform.ml.classifier.text_classifier import TEXT, frame


def fit_hashed_features(
    chunks: Iterable[pd.Series[str]], *, bits: int, n_gram: int | None, n_gram_bits: int
) -> ColumnTransformer:
    """Fit the features (Weinberger et al. 2009) chunk by chunk, as `TfidfTransformer.fit` does with all texts at once.

    Args:
        chunks: Texts.
        bits: Words are hashed to 2 ** bits features.
        n_gram: Length of the additional character n-grams within words; None for words only.
        n_gram_bits: N-grams are hashed to 2 ** n_gram_bits features.

    Raises:
        ValueError: No text holds a word.
    """
    hashing: HashingVectorizer | FeatureUnion = _hashing(bits)
    size = 2**bits
    if n_gram is not None:
        char_hashing = _hashing(n_gram_bits, analyzer="char_wb", ngram_range=(n_gram, n_gram))
        hashing, size = FeatureUnion([("word", hashing), ("char", char_hashing)]), size + 2**n_gram_bits
    rows, document_counts = 0, np.zeros(size, dtype=np.int64)
    for texts in chunks:
        document_counts += np.bincount(hashing.transform(texts).indices, minlength=size)
        rows += len(texts)
    if not document_counts[: 2**bits].any():
        raise ValueError(f"The {rows} texts hold no word: check titles and descriptions.")
    pipeline = Pipeline([("hashing", hashing), ("weighing", TfidfTransformer(sublinear_tf=True))])
    features = ColumnTransformer([("hashed", pipeline, TEXT)], sparse_threshold=1.0)
    features.fit(frame(["word"], [""]))  # scikit-learn learns the column's name; its document frequencies are replaced
    idf = np.log((1 + rows) / (1 + document_counts)) + 1
    features.named_transformers_["hashed"]["weighing"].idf_ = idf.astype(np.float32)
    return features


def _hashing(bits: int, **n_grams: object) -> HashingVectorizer:
    # float32 halves the memory; the Brier score agrees in six digits
    return HashingVectorizer(
        n_features=2**bits, norm=None, alternate_sign=False, strip_accents="unicode", dtype=np.float32, **n_grams
    )
