"""What the kernels predict is what the model predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from mlops_platform.ml import kernels
from mlops_platform.ml.cross_validation import stratified_folds
from mlops_platform.ml.features import FoldFeatures
from mlops_platform.ml.kernels import FoldKernels
from mlops_platform.ml.model import DEFAULT, SENTENCE_DEFAULT, Params, build_classifier
from mlops_platform_tests.ml.corpus import made_up, real

VARIED = [
    DEFAULT,
    Params(alpha=0.1, word_ngram_max=2, char_ngram_max=5, min_df=2, char_weight=0.5),
    Params(alpha=5.0, word_ngram_max=3, char_ngram_max=3, min_df=3, char_weight=2.0),
]


WITH_VECTORS = [
    SENTENCE_DEFAULT,
    Params(alpha=0.3, word_ngram_max=2, char_ngram_max=5, min_df=2, char_weight=0.5, sentence_weight=2.0),
]


def differing(texts: list[str], labels: list[str], tried: list[Params], vectors: Any = None) -> int:
    """Rows on whose class the kernels and the model disagree, over all folds."""
    folds, tags = list(stratified_folds(texts, labels, n_splits=3, seed=0)), np.array(labels)
    features = FoldFeatures(texts, folds, vectors=vectors)
    predict, found = FoldKernels(features, folds, tags), 0
    for params in tried:
        for fold, (train, _) in enumerate(folds):
            x_train, x_held_out = features(fold, params)
            model = build_classifier(params).fit(x_train, tags[train])
            found += int((predict(fold, params) != model.predict(x_held_out)).sum())
    return found


def test_predict_as_the_model_does() -> None:
    texts, labels = made_up(150, noise=0.4)
    assert differing(texts, labels, VARIED) == 0


def test_predict_as_the_model_does_between_two_classes() -> None:
    texts, labels = made_up(120, noise=0.4)
    assert differing(texts, ["one" if label == "animals" else "two" for label in labels], VARIED) == 0


def test_predict_as_the_model_does_with_sentence_vectors() -> None:
    texts, labels = made_up(150, noise=0.4)
    vectors = np.random.default_rng(1).normal(size=(150, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:, 0] += np.array([label == "animals" for label in labels])
    assert differing(texts, labels, WITH_VECTORS, vectors) == 0
    assert differing(texts, ["one" if label == "animals" else "two" for label in labels], WITH_VECTORS, vectors) == 0


def test_parameters_that_weigh_vectors_need_some() -> None:
    texts, labels = made_up(30)
    with pytest.raises(ValueError, match="weigh sentence vectors and there are none"):
        differing(texts, labels, WITH_VECTORS)


def test_predict_as_the_model_does_on_the_real_data() -> None:
    _, texts, labels = real()
    assert differing(texts, labels, VARIED) == 0


def test_texts_that_tell_nothing_are_no_error() -> None:
    texts, labels = ["the same words", "the same words"] * 6, ["a", "b"] * 6
    folds = list(stratified_folds(texts, labels, n_splits=3, seed=0))
    predict = FoldKernels(FoldFeatures(texts, folds), folds, np.array(labels))
    assert set(predict(0, DEFAULT)) <= {"a", "b"}


def test_a_class_that_a_fold_lacks_is_not_predicted() -> None:
    texts, labels = made_up(60)
    texts, labels = [*texts, "sextant compass"], [*labels, "sea"]
    folds = [(np.arange(60), np.array([60]))]
    assert FoldKernels(FoldFeatures(texts, folds), folds, np.array(labels))(0, DEFAULT)[0] != "sea"


def test_a_full_cache_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, labels = made_up(60, noise=0.4)
    folds, tags = list(stratified_folds(texts, labels, n_splits=3, seed=0)), np.array(labels)
    expected = FoldKernels(FoldFeatures(texts, folds), folds, tags)(1, DEFAULT)
    monkeypatch.setattr(kernels, "CACHE_BYTES", 0)
    full = FoldKernels(FoldFeatures(texts, folds), folds, tags)
    for _ in range(2):
        np.testing.assert_array_equal(full(1, DEFAULT), expected)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 8, 41])
def test_a_symmetric_product_is_the_whole_product(rows: int) -> None:
    plain = sp.random_array((rows, 30), density=0.3, format="csr", rng=np.random.default_rng(rows))
    scaled = plain @ sp.diags_array(np.linspace(0, 2, 30))
    found = kernels._symmetric(scaled, plain)
    np.testing.assert_allclose(found, (scaled @ plain.T).toarray(), rtol=1e-12)
