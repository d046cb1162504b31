"""Cached features and scores of folds equal those of the pipeline."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlops_platform.ml.classifier.text_classifier import DEFAULT, TEXT, Params, build_pipeline, fit, frame
from mlops_platform.ml.evaluation.metrics import weighted_f1
from mlops_platform.ml.tuning import cross_validation
from mlops_platform.ml.tuning.cross_validation import FoldFeatures, FoldScorer, stratified_folds
from mlops_platform_tests.ml.corpus import made_up

TEXTS, LABELS = made_up(60)
TEXTS += ["a", "Ünïcode wörds", "", "I am a x y", "x" * 30]  # words shorter and longer than any n-gram
LABELS += ["animals"] * 5
FOLDS = stratified_folds(TEXTS, LABELS, n_splits=3, seed=0)


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
        inputs = pd.DataFrame({TEXT: TEXTS})
        x_train, x_held_out = computed(k, params)
        for got, want in (
            (x_train, pipeline.fit_transform(inputs.iloc[train])),
            (x_held_out, pipeline.transform(inputs.iloc[held_out])),
        ):
            np.testing.assert_allclose(got.toarray(), want.toarray(), rtol=1e-12)


def test_a_full_cache_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = FoldFeatures(TEXTS, FOLDS)(0, DEFAULT)
    monkeypatch.setattr(cross_validation, "CACHE_BYTES", 0)
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


@pytest.mark.parametrize("params", [DEFAULT, Params(classifier="svm", alpha=0.3, char_ngram_max=5, char_weight=1.7)])
def test_scores_are_those_of_the_calibrated_model(params: Params) -> None:
    texts, labels = made_up(120, noise=0.4)
    folds = stratified_folds(texts, labels, n_splits=5, seed=0)
    train, held_out = folds[1]
    model = fit(frame([texts[i] for i in train], [""] * len(train)), [labels[i] for i in train], params)
    predicted = model.predict(frame([texts[i] for i in held_out], [""] * len(held_out)))
    expected = weighted_f1(np.array(labels)[held_out], predicted)
    assert list(FoldScorer(texts, labels, folds).scores(params))[1] == pytest.approx(expected)
