"""The frozen evaluation set."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.ml.evaluation.holdout import (
    EvaluationSet,
    check_never_trained_on,
    choose_evaluation_set,
    refresh_reason,
    refreshed,
)
from mlops_platform.ml.training_data.resampling import TrainingRow, augment
from mlops_platform.ml.training_data.splits import assign_splits
from mlops_platform_tests.ml.corpus import real

IDS = list(range(2000))
LABELS = ["a" if i % 10 < 6 else "b" if i % 10 < 9 else "c" for i in IDS]
TEST = [i for i, split in zip(IDS, assign_splits(IDS, 0.2), strict=True) if split == "test"]
CHOSEN = choose_evaluation_set(IDS, LABELS, TEST, rows=100)


def _test_rows(ids: list[int]) -> list[int]:
    return [i for i, split in zip(ids, assign_splits(ids, 0.2), strict=True) if split == "test"]


def test_each_tag_has_its_share_and_all_rows_are_of_the_test_split() -> None:
    assert Counter(CHOSEN.tags.values()) == {"a": 60, "b": 30, "c": 10}
    assert set(assign_splits(CHOSEN.tags, 0.2)) == {"test"}
    assert all(LABELS[i] == tag for i, tag in CHOSEN.tags.items())


def test_it_is_a_random_choice_that_the_order_of_the_rows_does_not_change() -> None:
    assert choose_evaluation_set(IDS[::-1], LABELS[::-1], TEST[::-1], rows=100) == CHOSEN
    assert np.mean(list(CHOSEN.tags)) == pytest.approx(1000, abs=200)


def test_by_default_all_test_rows_are_taken_if_their_mix_is_fair() -> None:
    every = choose_evaluation_set(IDS, LABELS, TEST)
    assert list(every.tags) == TEST
    skewed = [i for i in TEST if LABELS[i] != "a" or i % 40 < 10]
    fair = choose_evaluation_set(IDS, LABELS, skewed)
    assert set(fair.tags) < set(skewed)
    shares = Counter(fair.tags.values())
    assert shares["b"] < Counter(LABELS[i] for i in skewed)["b"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=40), st.integers(1, 50))
def test_no_choice_meets_a_training_row(ids: list[int], rows: int) -> None:
    test = _test_rows(ids)
    if not test:
        return
    chosen = choose_evaluation_set(ids, ["a"] * len(ids), test, rows=rows)
    check_never_trained_on(chosen, set(ids) - set(test))
    with pytest.raises(ValueError, match="evaluation set"):
        check_never_trained_on(chosen, ids)


def test_a_copy_of_an_evaluation_row_is_caught() -> None:
    held_out = next(iter(CHOSEN.tags))
    copies = augment([TrainingRow(held_out, "a title", "and words", "a")], ["title_only"])[1:]
    with pytest.raises(ValueError, match=f"1 rows of evaluation set 1 .* id {held_out}"):
        check_never_trained_on(CHOSEN, [copy.id for copy in copies])


def test_it_outlives_json() -> None:
    assert EvaluationSet.from_dict(json.loads(json.dumps(CHOSEN.to_dict()))) == CHOSEN


def test_it_serves_until_the_rows_say_otherwise() -> None:
    def reason(ids: list[int], labels: list[str], test: list[int] | None = None) -> str:
        return str(refresh_reason(CHOSEN, ids, labels, _test_rows(ids)[:150] if test is None else test))

    able = sorted({*CHOSEN.tags, *TEST[:60]})
    assert refresh_reason(CHOSEN, IDS, LABELS, able) is None
    more = list(range(2000, 2400))
    assert refresh_reason(CHOSEN, IDS + more, LABELS + LABELS[:400], able) is None
    held = list(CHOSEN.tags)
    assert "no longer labeled" in reason(IDS[: held[-1]], LABELS[: held[-1]])
    changed = [("b" if LABELS[i] == "a" else "a") if i == held[0] else LABELS[i] for i in IDS]
    assert f"another tag now, id {held[0]}" in reason(IDS, changed)
    assert f"1 of its 100 rows are trained on now, id {held[0]}" in reason(
        IDS, LABELS, [i for i in able if i != held[0]]
    )
    assert "no row of the tag new" in reason(IDS + more, LABELS + ["new"] * 400, [*able, 2001])
    assert "class mix departs" in reason(IDS + more, LABELS + ["c"] * 400, able)
    assert "less than half of the" in reason(IDS, LABELS, TEST)


def test_refreshing_makes_the_next_version_and_none_without_need() -> None:
    first = refreshed(None, IDS, LABELS, TEST)
    assert (first.version, first.reason) == (1, "It is the first one.")
    assert refreshed(first, IDS, LABELS, TEST) is first
    ids, labels = IDS + list(range(2000, 6000)), LABELS * 3
    second = refreshed(first, ids, labels, _test_rows(ids))
    assert second.version == 2
    assert "less than half" in second.reason
    # rows that cannot give a better mix make no version a day
    poor = refreshed(None, IDS, LABELS, [i for i in TEST if LABELS[i] == "a"])
    assert refreshed(poor, IDS, LABELS, [i for i in TEST if LABELS[i] == "a"]) is poor


def test_a_rare_tag_gets_a_row() -> None:
    labels = ["rare" if i == next(iter(CHOSEN.tags)) else label for i, label in enumerate(LABELS)]
    assert Counter(choose_evaluation_set(IDS, labels, TEST, rows=100).tags.values())["rare"] == 1


def test_what_cannot_be_chosen_from_is_refused() -> None:
    with pytest.raises(ValueError, match="rows is 0"):
        choose_evaluation_set(IDS, LABELS, TEST, rows=0)
    with pytest.raises(ValueError, match="1 distinct ids in 2"):
        choose_evaluation_set([1, 1], ["a", "a"], [1], rows=1)
    with pytest.raises(ValueError, match="No row of the test split is new"):
        choose_evaluation_set([1, 3], ["a", "a"], [], rows=1)


def test_the_real_rows() -> None:
    ids, _, tags = real()
    test = _test_rows(list(ids))
    chosen = choose_evaluation_set(ids, tags, test)
    assert list(chosen.tags) == sorted(test)
    assert refresh_reason(chosen, ids, tags, test) is None
