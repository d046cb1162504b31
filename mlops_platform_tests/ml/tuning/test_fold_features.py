"""Features for tuning equal those of the pipeline."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlops_platform.ml.classifier.text_classifier import DEFAULT, TEXT, Params, build_pipeline
from mlops_platform.ml.tuning import fold_features
from mlops_platform.ml.tuning.cross_validation import stratified_folds
from mlops_platform.ml.tuning.fold_features import FoldFeatures
from mlops_platform_tests.ml.corpus import made_up

TEXTS, LABELS = made_up(60)
TEXTS += ["a", "Ünïcode wörds", "", "I am a x y", "x" * 30]  # words shorter and longer than any n-gram
LABELS += ["animals"] * 5
FOLDS = list(stratified_folds(TEXTS, LABELS, n_splits=3, seed=0))


@pytest.mark.parametrize(
    "params",
    [
        DEFAULT,
        Params(word_ngram_max=1, char_ngram_max=2, min_df=1, char_weight=0.5),
        Params(word_ngram_max=3, char_ngram_max=6, min_df=3, char_weight=2.0),
    ],
)
def test_equal_to_what_the_pipeline_computes(params: Params) -> None:
    computed = FoldFeatures(TEXTS, FOLDS)
    for k, (train, held_out) in enumerate(FOLDS):
        pipeline = build_pipeline(params).named_steps["features"]
        frame = pd.DataFrame({TEXT: TEXTS})
        x_train, x_held_out = computed(k, params)
        for got, want in (
            (x_train, pipeline.fit_transform(frame.iloc[train])),
            (x_held_out, pipeline.transform(frame.iloc[held_out])),
        ):
            np.testing.assert_allclose(got.toarray(), want.toarray(), rtol=1e-12)


def test_a_full_cache_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = FoldFeatures(TEXTS, FOLDS)(0, DEFAULT)
    monkeypatch.setattr(fold_features, "CACHE_BYTES", 0)
    uncached = FoldFeatures(TEXTS, FOLDS)
    for _ in range(2):
        for got, want in zip(uncached(0, DEFAULT), expected, strict=True):
            np.testing.assert_array_equal(got.toarray(), want.toarray())


def test_texts_without_words_are_refused() -> None:
    folds = [(np.array([0, 1]), np.array([2]))]
    with pytest.raises(ValueError, match="hold no word"):
        FoldFeatures(["", "!", " "], folds)(0, DEFAULT)
    with pytest.raises(ValueError, match="none that 2 of them share"):
        FoldFeatures(["cat", "dog", "cat"], folds)(0, Params(min_df=2))
