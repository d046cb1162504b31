"""Paired differences over folds, and what they prove."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mlops_platform.ml.confirmation import REPEATS, confirm, interval


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


def test_asks_on_folds_of_several_cuts_that_are_not_the_searchs() -> None:
    seeds: list[int] = []

    def differences(seed: int) -> list[float]:
        seeds.append(seed)
        return [0.01] * 5

    found = confirm(lambda seed: iter(differences(seed)), folds=5, seed=7)
    assert found.folds == 5 * REPEATS == 20
    assert len(set(seeds)) == REPEATS
    assert 7 not in seeds
