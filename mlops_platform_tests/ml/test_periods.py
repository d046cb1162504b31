"""Slices over time, and what a candidate has forgotten."""

from __future__ import annotations

import pandas as pd
import pytest

from mlops_platform.ml.period_plots import periods_png
from mlops_platform.ml.periods import UNDATED, compare_slices, quarters


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
    assert old.p_value == pytest.approx(2 * 0.5**20)
    assert (new.lost, new.p_value) == (0, 1.0)
    slips = [{"a": "b", "b": "a"}[tag] if place in (1, 50) else tag for place, tag in enumerate(truth)]
    assert all(each.p_value == 1.0 for each in compare_slices(slices, truth, slips, perfect))
    alone = compare_slices(slices, truth, forgot, None)
    assert [(each.champion_f1, each.p_value) for each in alone] == [(None, None), (None, None)]


def test_the_picture_is_one_with_and_without_a_champion() -> None:
    slices, truth = ["2023 Q1 to 2023 Q2"] * 4 + ["2024 Q1"] * 4, ["a", "b"] * 4
    for theirs in (truth, None):
        assert periods_png(compare_slices(slices, truth, truth, theirs)).startswith(b"\x89PNG")
