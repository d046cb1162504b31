"""The holdout set."""

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
TAGS, MIX = dict(zip(IDS, LABELS, strict=True)), Counter(LABELS)
CURRENT = EvaluationSet(
    1,
    "chosen by hand",
    {i: tag for tag, n in (("a", 60), ("b", 30), ("c", 10)) for i in [j for j in TEST if TAGS[j] == tag][:n]},
)
# of the tag c all test rows are eligible, of the others a part, so the mix is not that of all rows
SKEWED = [i for i in TEST if TAGS[i] == "c" or i % 40 < 20]


def _test_rows(ids: list[int]) -> list[int]:
    return [i for i, split in zip(ids, assign_splits(ids, 0.2), strict=True) if split == "test"]


def test_all_eligible_rows_are_chosen_if_their_mix_is_representative() -> None:
    assert list(choose_evaluation_set(TAGS, TEST, MIX).tags) == TEST


def test_otherwise_each_tag_has_its_share() -> None:
    chosen = choose_evaluation_set(TAGS, SKEWED, MIX).tags
    assert set(chosen) < set(SKEWED)
    assert all(TAGS[i] == tag for i, tag in chosen.items())
    eligible, shares = Counter(TAGS[i] for i in SKEWED), Counter(chosen.values())
    assert shares == {tag: min(eligible[tag], round(len(SKEWED) * MIX[tag] / len(IDS))) for tag in "abc"}
    assert shares["c"] < eligible["c"]


def test_it_is_a_random_choice_that_the_order_of_the_rows_does_not_change() -> None:
    chosen = choose_evaluation_set(TAGS, SKEWED, MIX)
    assert choose_evaluation_set(dict(reversed(TAGS.items())), SKEWED[::-1], MIX) == chosen
    assert np.mean(list(chosen.tags)) == pytest.approx(1000, abs=200)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=40), st.integers(1, 3))
def test_no_choice_meets_a_training_row(ids: list[int], tags: int) -> None:
    test = _test_rows(ids)
    if not test:
        return
    tag_of = {id_: str(id_ % tags) for id_ in ids}
    chosen = choose_evaluation_set(tag_of, test, Counter(tag_of.values()))
    check_never_trained_on(chosen, set(ids) - set(test))
    with pytest.raises(ValueError, match="evaluation set"):
        check_never_trained_on(chosen, ids)


def test_a_copy_of_an_evaluation_row_is_caught() -> None:
    held_out = next(iter(CURRENT.tags))
    copies = augment([TrainingRow(held_out, "a title", "and words", "a")], ["title_only"])[1:]
    with pytest.raises(ValueError, match=f"1 rows of evaluation set 1 .* id {held_out}"):
        check_never_trained_on(CURRENT, [copy.id for copy in copies])


def test_it_outlives_json() -> None:
    assert EvaluationSet.from_dict(json.loads(json.dumps(CURRENT.to_dict()))) == CURRENT


def test_it_is_valid_until_rows_or_models_change() -> None:
    def reason(labels: list[str], test: list[int], ids: list[int] = IDS) -> str:
        return str(refresh_reason(CURRENT, dict(zip(ids, labels, strict=True)), test, Counter(labels)))

    eligible = sorted({*CURRENT.tags, *TEST[:60]})
    more = list(range(2000, 2400))
    assert reason(LABELS, eligible) == reason(LABELS + LABELS[:400], eligible, IDS + more) == "None"
    last, first = max(CURRENT.tags), next(iter(CURRENT.tags))
    assert "no longer labeled" in reason(LABELS[:last], _test_rows(IDS[:last]), IDS[:last])
    changed = [("b" if LABELS[i] == "a" else "a") if i == first else LABELS[i] for i in IDS]
    assert f"another tag now, id {first}" in reason(changed, eligible)
    assert f"1 of its 100 rows are trained on now, id {first}" in reason(LABELS, [i for i in eligible if i != first])
    assert "no row of the tag new" in reason(LABELS + ["new"] * 400, [*eligible, 2001], IDS + more)
    assert "class mix departs" in reason(LABELS + ["c"] * 400, eligible, IDS + more)
    assert "less than half of the" in reason(LABELS, TEST)


def test_refreshing_makes_the_next_version_and_none_without_need() -> None:
    first = refreshed(None, TAGS, TEST, MIX)
    assert (first.version, first.reason) == (1, "It is the first one.")
    assert refreshed(first, TAGS, TEST, MIX) is first
    tags = dict(enumerate(LABELS * 3))
    second = refreshed(first, tags, _test_rows(list(tags)), Counter(tags.values()))
    assert second.version == 2
    assert "less than half" in second.reason
    # if the rows allow no better mix, there is not a new version every day
    one_tag = [i for i in TEST if TAGS[i] == "a"]
    poor = refreshed(None, TAGS, one_tag, MIX)
    assert refreshed(poor, TAGS, one_tag, MIX) is poor


def test_a_rare_tag_gets_a_row() -> None:
    tags = {**TAGS, SKEWED[0]: "rare"}
    chosen = choose_evaluation_set(tags, SKEWED, Counter(tags.values()))
    assert Counter(chosen.tags.values())["rare"] == 1


def test_without_eligible_rows_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="No row of the test split is new"):
        choose_evaluation_set({1: "a", 3: "a"}, [], {"a": 2})


def test_the_real_rows() -> None:
    ids, _, tags = real()
    test, tag_of = _test_rows(list(ids)), dict(zip(ids, tags, strict=True))
    chosen = choose_evaluation_set(tag_of, test, Counter(tags))
    assert list(chosen.tags) == sorted(test)
    assert refresh_reason(chosen, tag_of, test, Counter(tags)) is None
