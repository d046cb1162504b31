"""Paired differences over folds, and what they prove."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mlops_platform.ml.classifier.text_classifier import DEFAULT, Params
from mlops_platform.ml.tuning.cross_validation import FoldScorer, stratified_folds
from mlops_platform.ml.tuning.significance import REPEATS, confirm, interval
from mlops_platform_tests.ml.corpus import made_up


def test_the_interval_is_that_of_the_corrected_t_test() -> None:
    found = interval([0.01, 0.03, 0.02, 0.04], held_out=0.25, confidence=0.95)
    error = math.sqrt((1 / 4 + 1 / 4) * np.var([0.01, 0.03, 0.02, 0.04], ddof=1))
    assert found.difference == pytest.approx(0.025)
    assert found.high - found.difference == pytest.approx(stats.t(3).ppf(0.975) * error)
    assert found.difference - found.low == pytest.approx(found.high - found.difference)


@pytest.mark.parametrize(("shift", "better"), [(0.02, True), (0.001, False), (-0.02, False), (0.0, False)])
def test_better_is_what_noise_does_not_explain(shift: float, better: bool) -> None:
    noise = [0.012, -0.011, 0.004, -0.005] * 5
    assert interval([each + shift for each in noise], held_out=0.25).better == better


def test_no_difference_at_all_is_not_better() -> None:
    assert not interval([0.0] * 20, held_out=0.25).better


@pytest.mark.parametrize(("rows", "cuts"), [(764, REPEATS), (3_000, 3), (10_000, 1)])
def test_compares_on_fresh_folds_and_fewer_of_many_rows(rows: int, cuts: int) -> None:
    seeds: list[int] = []
    texts, labels = made_up(60)

    def scorer(seed: int) -> FoldScorer:
        seeds.append(seed)
        return FoldScorer(texts, labels, stratified_folds(texts, labels, n_splits=5, seed=seed))

    measured = confirm(scorer, Params(alpha=0.5), DEFAULT, seed=7, rows=rows)
    assert measured.folds == 5 * cuts
    assert len(set(seeds)) == cuts
    assert 7 not in seeds
