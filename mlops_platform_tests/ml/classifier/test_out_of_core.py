"""Out-of-core training: reproducible, good, calibrated, and of stock classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy.special import softmax
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from benchmarks import generate
from mlops_platform.ml.classifier import text_classifier
from mlops_platform.ml.classifier.out_of_core import STREAM, fit_stream, held_out_rows
from mlops_platform.ml.evaluation.metrics import expected_calibration_error, weighted_f1

SMALL = replace(STREAM, bits=14, n_gram_bits=14)
Row = tuple[Any, Any, str]


def rows(many: int, start: int = 0) -> list[Row]:
    made = []
    for batch in generate.batches(many, start=start, per_day=100):
        tags = dict(zip(*(column.to_pylist() for column in batch.tags.columns), strict=True))
        texts = zip(*(batch.projects[name].to_pylist() for name in ("id", "title", "description")), strict=True)
        made += [(title, text, tags[key]) for key, title, text in texts if key in tags]
    return made


LEARNT, UNSEEN = rows(12_000), rows(4_000, start=20_000)


def counts(some: Iterable[Row]) -> dict[str, int]:
    return dict(Counter(tag for *_, tag in some))


def probabilities(pipeline: Any, some: Sequence[Row]) -> Any:
    titles, descriptions, _ = zip(*some, strict=True)
    return pipeline.predict_proba(text_classifier.frame(titles, descriptions))


def test_the_same_rows_give_the_same_bits() -> None:
    some = LEARNT[:5_000]
    one, other = (fit_stream(lambda: iter(some), counts(some), params=SMALL) for _ in range(2))
    assert other.evaluations == one.evaluations
    assert (other.pipeline[-1].coef_ == one.pipeline[-1].coef_).all()
    assert (probabilities(other.pipeline, UNSEEN) == probabilities(one.pipeline, UNSEEN)).all()


@pytest.mark.long
def test_it_is_as_good_as_the_model_in_memory_and_calibrated() -> None:
    truth = [tag for *_, tag in UNSEEN]
    made = fit_stream(lambda: LEARNT, counts(LEARNT))
    said = probabilities(made.pipeline, UNSEEN)
    titles, descriptions, tags = zip(*LEARNT, strict=True)
    whole = text_classifier.fit(text_classifier.frame(titles, descriptions), tags)
    theirs = weighted_f1(truth, whole.classes_[probabilities(whole, UNSEEN).argmax(axis=1)])
    assert weighted_f1(truth, made.pipeline.classes_[said.argmax(axis=1)]) > theirs - 0.015
    assert expected_calibration_error(truth, said, list(made.pipeline.classes_)) < 0.05
    assert made.held_out == held_out_rows(len(LEARNT))


def test_it_is_of_stock_classes_that_a_file_can_hold() -> None:
    made = fit_stream(lambda: LEARNT[:3_000], counts(LEARNT[:3_000]), params=SMALL)
    stored = skops.io.dumps(made.pipeline)
    assert set(skops.io.get_untrusted_types(data=stored)) <= set(text_classifier.TRUSTED_TYPES)
    assert (probabilities(skops.io.loads(stored), UNSEEN) == probabilities(made.pipeline, UNSEEN)).all()
    scores = made.pipeline.decision_function(text_classifier.frame(*list(zip(*UNSEEN, strict=True))[:2]))
    assert np.allclose(softmax(scores, axis=1), probabilities(made.pipeline, UNSEEN))
    assert np.abs(probabilities(made.pipeline, UNSEEN).sum(axis=1) - 1).max() < 1e-12


def test_the_weights_of_words_are_those_of_a_transformer_that_saw_all_rows_at_once() -> None:
    some = LEARNT[:2_000]
    made = fit_stream(lambda: some, counts(some), params=SMALL)
    learnt = some[made.held_out :]
    vectors = HashingVectorizer(n_features=2**14, norm=None, alternate_sign=False, strip_accents="unicode").transform(
        f"{title} {text}" for title, text, _ in learnt
    )
    fitted = TfidfTransformer(sublinear_tf=True).fit(vectors)
    ((_, words, _),) = made.pipeline[0].transformers_
    assert np.allclose(words[-1].idf_, fitted.idf_)


def misspelt(some: Sequence[Row]) -> list[Row]:
    """The rows with one letter wrong in each word of four or more: few words come twice, their parts do."""
    rng = np.random.default_rng(0)

    def wrong(word: str) -> str:
        at = int(rng.integers(len(word)))
        return word[:at] + chr(97 + int(rng.integers(26))) + word[at + 1 :] if len(word) > 3 else word

    return [(" ".join(map(wrong, f"{title or ''} {text or ''}".split())), "", tag) for title, text, tag in some]


def test_character_ngrams_are_taken_where_words_are_misspelt_and_left_where_words_say_it_all() -> None:
    once = replace(SMALL, epochs=1)
    learnt, unseen = misspelt(LEARNT[:5_500]), misspelt(UNSEEN)
    made = fit_stream(lambda: learnt, counts(learnt), params=once)
    words = fit_stream(lambda: learnt, counts(learnt), params=replace(once, least_char_gain=1.0))
    assert made.char_gain == words.char_gain
    assert made.char_gain is not None
    assert made.char_gain > STREAM.least_char_gain
    assert (made.characters, words.characters) == (True, False)
    truth = [tag for *_, tag in unseen]
    with_them, without = (
        weighted_f1(truth, each.pipeline.classes_[probabilities(each.pipeline, unseen).argmax(axis=1)])
        for each in (made, words)
    )
    assert with_them > without + 0.05
    assert made.pipeline[-1].coef_.shape == (4, 2**14 + 2**14)
    stored = skops.io.dumps(made.pipeline)
    assert set(skops.io.get_untrusted_types(data=stored)) <= set(text_classifier.TRUSTED_TYPES)
    assert (probabilities(skops.io.loads(stored), unseen) == probabilities(made.pipeline, unseen)).all()

    rng = np.random.default_rng(0)
    # few words, whose letters say nothing
    names = [f"w{number}" for number in rng.permutation(60)]
    codes = [" ".join(names[at] for at in rng.integers(k * 10, k * 10 + 50, 12)) for k in (0, 1) * 3_000]
    coded: list[Row] = [(text, "", "ab"[k]) for text, k in zip(codes, (0, 1) * 3_000, strict=True)]
    plain = fit_stream(lambda: coded, counts(coded), params=once)
    assert plain.char_gain is not None
    assert plain.char_gain < STREAM.least_char_gain
    assert not plain.characters
    # too few rows to tell
    few = LEARNT[:3_000]
    assert fit_stream(lambda: few, counts(few), params=once).char_gain is None


def test_missing_texts_are_empty_and_two_tags_do() -> None:
    some: list[Row] = [(None, "chart of sales", "b"), ("poem", float("nan"), "a"), (None, None, "a")] * 50
    made = fit_stream(lambda: some, counts(some), params=SMALL)
    said = made.pipeline.predict_proba(pd.DataFrame({"text": ["chart of sales", "poem", ""]}))
    assert said.shape == (3, 2)
    assert list(made.pipeline.classes_[said.argmax(axis=1)]) == ["b", "a", "a"]


@pytest.mark.parametrize(
    ("some", "told", "sentence"),
    [
        ([], {}, "0 labeled rows have 0 tags"),
        ([("a", "b", "x")] * 30, {"x": 30}, "30 labeled rows have 1 tags"),
        ([("", None, "x"), ("", "", "y")] * 30, {"x": 30, "y": 30}, "hold no word"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_a_sentence(some: list[Row], told: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fit_stream(lambda: some, told, params=SMALL)


def test_learning_ends_when_the_held_out_rows_gain_no_more() -> None:
    some = LEARNT[:4_000]
    patient = replace(SMALL, epochs=40, patience=2)
    made = fit_stream(lambda: some, counts(some), params=patient)
    scores = list(made.evaluations.values())
    assert 2 < len(scores) < 40
    best = int(np.argmin(scores))
    # what is kept is the best, not the last
    shorter = fit_stream(lambda: some, counts(some), params=replace(patient, epochs=best + 1))
    assert (probabilities(shorter.pipeline, UNSEEN) == probabilities(made.pipeline, UNSEEN)).all()
    # within an epoch the model is evaluated where it was set
    often = fit_stream(lambda: some, counts(some), params=replace(SMALL, check_rows=2_000, epochs=1))
    assert list(often.evaluations) == [2_000, 4_000 - often.held_out]
