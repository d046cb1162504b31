"""The frozen evaluation set."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.ml.composition import TrainingRow, augment
from mlops_platform.ml.evaluation_set import (
    EvaluationSet,
    check_never_trained_on,
    choose_evaluation_set,
    refresh_reason,
)
from mlops_platform.ml.splits import assign_splits
from mlops_platform_tests.ml.corpus import real

IDS = list(range(2000))
LABELS = ["a" if i % 10 < 6 else "b" if i % 10 < 9 else "c" for i in IDS]
CHOSEN = choose_evaluation_set(IDS, LABELS, test_share=0.2, rows=100)


def test_each_tag_has_its_share_and_all_rows_are_of_the_test_split() -> None:
    assert Counter(CHOSEN.tags.values()) == {"a": 60, "b": 30, "c": 10}
    assert set(assign_splits(CHOSEN.tags, 0.2)) == {"test"}
    assert all(LABELS[i] == tag for i, tag in CHOSEN.tags.items())


def test_it_is_a_random_choice_that_another_version_makes_anew() -> None:
    assert choose_evaluation_set(IDS[::-1], LABELS[::-1], test_share=0.2, rows=100) == CHOSEN
    other = choose_evaluation_set(IDS, LABELS, test_share=0.2, rows=100, version=2)
    assert len(other.tags.keys() & CHOSEN.tags.keys()) < 50
    assert np.mean(list(CHOSEN.tags)) == pytest.approx(1000, abs=200)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=40), st.integers(1, 50), st.integers(1, 9))
def test_no_version_meets_a_training_row(ids: list[int], rows: int, version: int) -> None:
    train = [i for i, split in zip(ids, assign_splits(ids, 0.3), strict=True) if split == "train"]
    if len(train) == len(ids):
        return
    chosen = choose_evaluation_set(ids, ["a"] * len(ids), test_share=0.3, rows=rows, version=version)
    check_never_trained_on(chosen, train)
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
    assert refresh_reason(CHOSEN, IDS, LABELS) is None
    more = list(range(2000, 2400))
    assert refresh_reason(CHOSEN, IDS + more, LABELS + LABELS[:400]) is None
    held = list(CHOSEN.tags)
    assert "no longer labeled" in str(refresh_reason(CHOSEN, IDS[: held[-1]], LABELS[: held[-1]]))
    changed = [("b" if LABELS[i] == "a" else "a") if i == held[0] else LABELS[i] for i in IDS]
    assert f"another tag now, id {held[0]}" in str(refresh_reason(CHOSEN, IDS, changed))
    assert "no row of the tag new" in str(refresh_reason(CHOSEN, IDS + more, LABELS + ["new"] * 400))
    assert "class mix departs" in str(refresh_reason(CHOSEN, IDS + more, LABELS + ["c"] * 400))


def test_a_rare_tag_gets_a_row_and_few_rows_are_taken_whole() -> None:
    labels = ["rare" if i == next(iter(CHOSEN.tags)) else label for i, label in enumerate(LABELS)]
    assert Counter(choose_evaluation_set(IDS, labels, test_share=0.2, rows=100).tags.values())["rare"] == 1
    every = choose_evaluation_set(IDS, LABELS, test_share=0.2, rows=10_000)
    assert len(every.tags) == (assign_splits(IDS, 0.2) == "test").sum()


def test_what_cannot_be_chosen_from_is_refused() -> None:
    with pytest.raises(ValueError, match="rows is 0"):
        choose_evaluation_set(IDS, LABELS, test_share=0.2, rows=0)
    with pytest.raises(ValueError, match="1 distinct ids in 2"):
        choose_evaluation_set([1, 1], ["a", "a"], test_share=0.2, rows=1)
    with pytest.raises(ValueError, match="No labeled row is in the test split"):
        choose_evaluation_set([1, 3], ["a", "a"], test_share=0.2, rows=1)


def test_the_real_rows() -> None:
    ids, _, tags = real()
    chosen = choose_evaluation_set(ids, tags, test_share=0.2, rows=100)
    assert set(chosen.tags.values()) == set(tags)
    assert refresh_reason(chosen, ids, tags) is None
