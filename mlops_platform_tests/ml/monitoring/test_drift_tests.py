"""Drift tests on the sample: quiet where nothing changed, loud where something did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlops_platform.ml.classifier.text import compose
from mlops_platform.ml.evaluation.multiple_testing import holm
from mlops_platform.ml.monitoring import drift_tests as drift
from mlops_platform.ml.monitoring.drift_tests import DriftTest, Sample, drift_tests
from mlops_platform.ml.tuning.cross_validation import cross_validate
from mlops_platform.settings import SAMPLE_DIR

N = 120


class History:
    """The labeled sample with out-of-fold predictions."""

    def __init__(self) -> None:
        projects = pd.read_csv(SAMPLE_DIR / "projects.csv").merge(pd.read_csv(SAMPLE_DIR / "tags.csv"), on="id")
        self.titles, self.descriptions = projects["title"].tolist(), projects["description"].tolist()
        self.tags: list[str] = projects["tag"].tolist()
        texts = [compose(*pair) for pair in zip(self.titles, self.descriptions, strict=True)]
        validated = cross_validate(texts, self.tags)
        probabilities = np.asarray(validated.probabilities)
        self.predicted = [validated.classes[best] for best in probabilities.argmax(axis=1)]
        self.confidence = probabilities.max(axis=1).tolist()

    def sample(self, rows: np.ndarray) -> Sample:
        return Sample(
            [self.titles[i] for i in rows],
            [self.descriptions[i] for i in rows],
            [self.predicted[i] for i in rows],
            [self.confidence[i] for i in rows],
            truth=[self.tags[i] for i in rows],
        )

    def split(self, seed: int) -> tuple[Sample, Sample]:
        order = np.random.default_rng(1000 + seed).permutation(len(self.tags))
        return self.sample(order[N:]), self.sample(order[:N])


@pytest.fixture(scope="module")
def history() -> History:
    return History()


def _fired(tests: list[DriftTest]) -> set[str]:
    return {each.name for each in tests if each.detected}


@pytest.mark.long
def test_random_splits_alarm_no_more_often_than_they_say(history: History) -> None:
    """At alpha .05, 8 or more alarms of 50 have a probability of .4%."""
    alarms = sum(bool(_fired(drift_tests(*history.split(seed), alpha=0.05, seed=seed))) for seed in range(50))
    assert alarms <= 7


def test_a_class_that_is_gone_is_seen(history: History) -> None:
    order = np.random.default_rng(0).permutation(len(history.tags))
    rest = [i for i in order if history.tags[i] != "natural-language-processing"]
    window = np.array(rest[:N])
    reference = np.setdiff1d(order, window)
    fired = _fired(drift_tests(history.sample(reference), history.sample(window)))
    assert {"text", "classes"} <= fired


def test_texts_that_have_gone_null_are_seen(history: History) -> None:
    reference, window = history.split(1)
    damaged = replace(window, descriptions=[None if i % 8 == 0 else each for i, each in enumerate(window.descriptions)])
    assert "null_descriptions" in _fired(drift_tests(reference, damaged))


def test_probabilities_of_trained_rows_are_no_reference(history: History) -> None:
    """What the docstring warns of: a model is surer of rows that it has learnt."""
    reference, window = history.split(2)
    sure = replace(reference, confidence=[min(1.0, each + 0.15) for each in reference.confidence])
    assert "confidence" in _fired(drift_tests(sure, window))


def test_an_f1_that_fell_is_seen_and_has_an_interval(history: History) -> None:
    reference, window = history.split(3)
    labels = sorted(set(history.tags))
    after = {label: labels[(number + 1) % len(labels)] for number, label in enumerate(labels)}
    wrong = [after[str(tag)] if i % 3 == 0 else tag for i, tag in enumerate(window.truth)]
    fallen = replace(window, truth=wrong)
    assert "f1" in _fired(drift_tests(reference, fallen))
    interval = drift.online_f1(fallen)
    assert interval is not None
    assert interval.low < interval.value < interval.high < 0.8
    assert interval.rows == N


def test_too_little_is_said_and_not_guessed(history: History) -> None:
    reference, _ = history.split(4)
    few = history.sample(np.arange(3))
    for test in drift_tests(reference, few):
        assert test.p_value is None
        assert not test.detected
        assert test.detail


def test_the_same_rows_give_the_same_answers(history: History) -> None:
    assert drift_tests(*history.split(5)) == drift_tests(*history.split(5))


def test_holms_correction() -> None:
    """The example of any textbook: the smallest p times m, and never less than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
