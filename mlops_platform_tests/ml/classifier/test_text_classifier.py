"""The tagger's parameters, its pipeline, fitting and cross-validation."""

from __future__ import annotations

import dataclasses
import random
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import chi2
from sklearn.linear_model import RidgeClassifier

from mlops_platform.ml.classifier.text_classifier import (
    DEFAULT,
    RELEVANCE,
    TEXT,
    TRUSTED_TYPES,
    Params,
    build_classifier,
    fit,
)
from mlops_platform.ml.tuning.cross_validation import cross_validate, stratified_folds
from mlops_platform_tests.ml.corpus import made_up, real


def frame(texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame({TEXT: texts})


def test_learns_what_can_be_learned() -> None:
    texts, labels = made_up(150, noise=0.1)
    result = cross_validate(texts, labels, seed=3)
    assert 0.8 < result.score < 0.97  # about a fifteenth of the labels contradict their words
    assert result.score == pytest.approx(np.mean(result.fold_scores))
    assert result.ece < 0.1
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1)


def test_same_input_gives_the_same_bits() -> None:
    texts, labels = made_up(90)
    first, second = (fit(frame(texts), labels, seed=5).predict_proba(frame(texts)) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_cross_validation_does_not_depend_on_row_order() -> None:
    texts, labels = made_up(60)
    forward = cross_validate(texts, labels, n_splits=3)
    backward = cross_validate(texts[::-1], labels[::-1], n_splits=3)
    assert forward.fold_scores == backward.fold_scores
    np.testing.assert_array_equal(forward.probabilities, backward.probabilities[::-1])


def test_folds_hold_every_row_once() -> None:
    texts, labels = made_up(47)
    held_out = np.concatenate([h for _, h in stratified_folds(texts, labels, n_splits=5, seed=1)])
    assert sorted(held_out.tolist()) == list(range(47))


@pytest.mark.parametrize("params", [DEFAULT, Params(classifier="svm")])
def test_survives_skops_with_the_named_types_alone(params: Params) -> None:
    texts, labels = made_up(60)
    model = fit(frame(texts), labels, params)
    saved = skops.io.dumps(model)
    assert set(skops.io.get_untrusted_types(data=saved)) == set(TRUSTED_TYPES)
    loaded = skops.io.loads(saved, trusted=list(TRUSTED_TYPES))
    np.testing.assert_array_equal(loaded.predict_proba(frame(texts)), model.predict_proba(frame(texts)))
    assert len(saved) < 3_000_000


def test_a_saved_model_takes_little_room() -> None:
    draw = random.Random(0)  # noqa: S311 - not for secrets
    texts, labels = made_up(200)
    # each text has a word of its own, one of them a blob: 6,000 n-grams
    texts = [f"{text} {draw.randbytes(8).hex()}" for text in texts]
    texts[0] += " " + "x" * 200
    saved = skops.io.dumps(fit(frame(texts), labels))
    assert len(saved) < 1_000_000  # 5.5 MB with the vocabularies as dictionaries


@pytest.mark.parametrize("word", ["badger\0", "x" * 100_000], ids=["ends in nothing", "a blob"])
def test_words_that_an_array_does_not_suit_are_saved_all_the_same(word: str) -> None:
    texts, labels = made_up(60)
    texts[::7] = [f"{text} {word}" for text in texts[::7]]
    model = fit(frame(texts), labels)
    saved = skops.io.dumps(model)
    assert len(saved) < 5_000_000  # as an array, the blob would be repeated for each word
    loaded = skops.io.loads(saved, trusted=list(TRUSTED_TYPES))
    np.testing.assert_array_equal(loaded.predict_proba(frame(texts)), model.predict_proba(frame(texts)))


def test_a_fitted_model_can_be_fitted_anew() -> None:
    texts, labels = made_up(60)
    model = fit(frame(texts), labels)
    expected = model.predict(frame(texts))
    assert (clone(model).fit(frame(texts), labels).predict(frame(texts)) == expected).all()


def test_the_penalty_is_lighter_on_what_tells_the_classes_apart() -> None:
    texts, labels = made_up(120)
    features = TfidfVectorizer().fit_transform(texts)
    statistic = chi2(features, labels)[0]
    scale = (statistic / statistic.max()) ** RELEVANCE
    scaled = features.toarray() * scale
    scaled *= np.linalg.norm(features.toarray()) / np.linalg.norm(scaled)
    ridge = build_classifier(DEFAULT)
    expected = RidgeClassifier(**ridge.get_params()).fit(csr_array(scaled), labels).decision_function(scaled)
    fitted = ridge.fit(features, labels)
    assert fitted.decision_function(features) == pytest.approx(expected, abs=1e-9)
    assert type(fitted.plain()) is RidgeClassifier
    assert (fitted.plain().decision_function(features) == fitted.decision_function(features)).all()


def test_features_that_tell_nothing_are_no_error() -> None:
    features = csr_array(np.ones((6, 2)))
    fitted = build_classifier(DEFAULT).fit(features, ["a", "b"] * 3)
    assert np.isfinite(fitted.decision_function(features)).all()


def test_the_pipeline_holds_no_class_of_ours() -> None:
    texts, labels = made_up(60)
    schema = skops.io.dumps(fit(frame(texts), labels))
    assert b"mlops_platform" not in schema


def test_predicts_texts_it_knows_nothing_about() -> None:
    texts, labels = made_up(60)
    odd = ["", "東京 🤗", "x", "otter " * 10_000]
    probabilities = fit(frame(texts), labels).predict_proba(frame(odd))
    assert np.isfinite(probabilities).all()
    assert probabilities[3].argmax() == sorted(set(labels)).index("animals")


@pytest.mark.parametrize("smallest", [2, 3])
def test_calibrates_with_as_many_folds_as_the_rarest_tag_has_rows(smallest: int) -> None:
    texts, labels = made_up(40)
    texts, labels = texts + ["sextant compass anchor harbour"] * smallest, labels + ["sea"] * smallest
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scikit-learn would warn of a class with fewer rows than folds
        model = fit(frame(texts), labels)
    assert model.named_steps["classifier"].cv.n_splits == smallest
    assert model.predict(frame(["anchor and compass"]))[0] == "sea"


def test_two_tags_are_enough() -> None:
    texts, labels = made_up(60)
    model = fit(frame(texts), ["one" if label == "animals" else "two" for label in labels])
    assert model.predict_proba(frame(texts)).shape == (60, 2)


@pytest.mark.parametrize(
    ("texts", "labels", "sentence"),
    [
        ([], [], "no labeled rows"),
        (["a cat", "a dog"], ["pet", "pet"], "two tags or more"),
        (["a cat", "a dog", "a car"], ["pet", "pet", "thing"], "'thing': each tag needs 2 rows"),
        (["a cat"], ["pet", "pet"], "1 texts and 2 tags"),
        (["", "", "", ""], ["a", "a", "b", "b"], "hold no word"),
        (["cat one", "dog two", "car six", "bus ten"], ["a", "a", "b", "b"], "none that 2 of them share"),
    ],
)
def test_refuses_what_cannot_be_trained_on(texts: list[str], labels: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fit(frame(texts), labels, Params(min_df=2))


@pytest.mark.parametrize(
    "values",
    [
        {"alpha": 0},
        {"alpha": float("nan")},
        {"alpha": float("inf")},
        {"alpha": "1"},
        {"char_weight": -1.0},
        {"word_ngram_max": 0},
        {"word_ngram_max": 4},
        {"char_ngram_max": 7},
        {"char_ngram_max": 3.0},
        {"min_df": 0},
        {"min_df": True},
        {"classifier": "forest"},
        {"colour": "red"},
    ],
)
def test_params_out_of_range_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Params(**values)


def test_params_survive_a_dict_and_are_frozen() -> None:
    params = Params(alpha=1.5, min_df=3)
    assert Params(**params.to_dict()) == params
    assert Params() == DEFAULT
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.alpha = 2  # type: ignore[misc]


@pytest.mark.parametrize("params", [DEFAULT, Params(classifier="svm")])
def test_either_classifier_scores_and_is_calibrated_on_the_real_data(params: Params) -> None:
    _, texts, tags = real()
    result = cross_validate(texts, tags, params, seed=42)
    assert result.score >= 0.88
    assert result.ece <= 0.05
