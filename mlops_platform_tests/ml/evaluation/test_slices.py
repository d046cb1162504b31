"""Slices over time, and what a candidate has forgotten."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from mlops_platform.ml.evaluation.plots import periods_png
from mlops_platform.ml.evaluation.slices import UNDATED, SliceComparison, compare_slices, forgotten, quarters, sign_test

ALPHA = 0.05


def test_quarters_with_few_rows_join_their_neighbours() -> None:
    times = [
        *[pd.Timestamp("2023-01-15")] * 25,
        *[pd.Timestamp("2023-05-01")] * 5,
        *[pd.Timestamp("2023-08-01")] * 30,
        *[pd.Timestamp("2024-01-01")] * 3,
        None,
        pd.NaT,
    ]
    found = quarters(times)
    assert found[0] == "2023 Q1"
    assert set(found[25:63]) == {"2023 Q2 to 2024 Q1"}
    assert found[-2:] == [UNDATED, UNDATED]
    assert quarters([pd.Timestamp("2023-01-15")] * 3) == ["2023 Q1"] * 3
    assert quarters([None]) == [UNDATED]
    assert quarters([]) == []


def test_what_was_forgotten_is_found_and_chance_is_not() -> None:
    slices = ["old"] * 40 + ["new"] * 40
    truth = ["a", "b"] * 40
    perfect = list(truth)
    forgot = ["a"] * 40 + truth[40:]
    new, old = compare_slices(slices, truth, forgot, perfect)
    assert (old.name, old.rows, old.lost, old.won, old.champion_f1) == ("old", 40, 20, 0, 1.0)
    assert old.p_value == pytest.approx(0.5**20)
    assert (new.lost, new.p_value) == (0, 1.0)
    slips = [{"a": "b", "b": "a"}[tag] if place in (1, 50) else tag for place, tag in enumerate(truth)]
    assert not forgotten(compare_slices(slices, truth, slips, perfect), ALPHA)
    assert [each.name for each in forgotten([new, old], ALPHA)] == ["old"]
    alone = compare_slices(slices, truth, forgot, None)
    assert forgotten(alone, ALPHA) == []
    assert [(each.champion_f1, each.p_value) for each in alone] == [(None, None), (None, None)]


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 3), (1, 0), (5, 0), (7, 2), (20, 20)])
def test_the_sign_test_is_scipys(lost: int, won: int) -> None:
    expected = binomtest(lost, lost + won, 0.5, alternative="greater").pvalue if lost + won else 1.0
    assert sign_test(lost, won) == pytest.approx(expected)


def _slice(name: str, lost: int, won: int) -> SliceComparison:
    return SliceComparison(name, 40, 0.5, 0.5, lost, won, sign_test(lost, won))


@pytest.mark.parametrize(
    ("slices", "named"),
    [
        ([_slice("a", 5, 0)], ["a"]),
        ([_slice("a", 4, 0)], []),
        # where the models hardly differ there is nothing to correct for
        ([_slice("a", 5, 0), _slice("b", 2, 2), _slice("c", 0, 0), _slice("d", 3, 1)], ["a"]),
        # but a slice that could have been lost counts, though it was not
        ([_slice("a", 5, 0), _slice("b", 2, 6)], []),
        ([_slice("a", 6, 0), _slice("b", 2, 6)], ["a"]),
        ([_slice("a", 7, 0), _slice("b", 6, 0), _slice("c", 7, 3)], ["a", "b"]),
        ([], []),
    ],
)
def test_slices_are_corrected_for_those_that_could_have_been_lost(
    slices: list[SliceComparison], named: list[str]
) -> None:
    assert [each.name for each in forgotten(slices, ALPHA)] == named


@pytest.mark.parametrize("differ", [0.05, 0.1, 0.3])
def test_models_that_are_as_good_are_suspected_as_seldom_as_promised(differ: float) -> None:
    """Rows that two models answer differently, and a coin that says who is right: the sizes of a real test split."""
    draw = np.random.default_rng(4)
    period, tag = np.repeat([0, 1], [47, 34]), draw.permutation(np.repeat([0, 1, 2, 3], [35, 30, 8, 8]))
    draws, alarms = 2000, 0
    for _ in range(draws):
        differs, lost = draw.random(81) < differ, draw.random(81) < 0.5
        slices = [
            _slice(f"{kind} {name}", int((differs & lost & rows).sum()), int((differs & ~lost & rows).sum()))
            for kind, of in (("period", period), ("tag", tag))
            for name in range(of.max() + 1)
            for rows in [of == name]
        ]
        alarms += bool(forgotten(slices, ALPHA))
    # neither more often than promised, nor never
    assert 0.001 * draws < alarms < ALPHA * draws


def test_the_picture_is_one_with_and_without_a_champion() -> None:
    slices, truth = ["2023 Q1 to 2023 Q2"] * 4 + ["2024 Q1"] * 4, ["a", "b"] * 4
    for theirs in (truth, None):
        assert periods_png(compare_slices(slices, truth, truth, theirs)).startswith(b"\x89PNG")
