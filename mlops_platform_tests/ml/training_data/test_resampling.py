"""What the model is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.ml.classifier.text import compose
from mlops_platform.ml.classifier.text_classifier import fit, frame
from mlops_platform.ml.evaluation.metrics import expected_calibration_error
from mlops_platform.ml.training_data.resampling import Augmentation, Recipe, TrainingRow, augment, balance, compose_rows

LABELS = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
ALL: tuple[Augmentation, ...] = ("drop_words", "swap_words", "title_only", "description_only")


def _rows(ids: range, tag: str = "a") -> list[TrainingRow]:
    return [TrainingRow(i, f"title {i}", " ".join(f"w{i}x{k}" for k in range(30)), tag) for i in ids]


def _counts(rows: list[int]) -> dict[str, int]:
    return dict(Counter(LABELS[i] for i in rows))


def test_weights_and_none_choose_every_row_once() -> None:
    assert balance(LABELS, Recipe()) == balance(LABELS, Recipe("none")) == list(range(100))


def test_oversampling_repeats_and_loses_no_row() -> None:
    rows = balance(LABELS, Recipe("oversample"))
    assert _counts(rows) == {"a": 60, "b": 60, "c": 60}
    assert set(rows) == set(range(100))
    assert _counts(balance(LABELS, Recipe("oversample", 0.4))) == {"a": 60, "b": 30, "c": 24}


def test_undersampling_leaves_out_and_repeats_no_row() -> None:
    rows = balance(LABELS, Recipe("undersample"))
    assert _counts(rows) == {"a": 10, "b": 10, "c": 10}
    assert len(set(rows)) == 30
    assert _counts(balance(LABELS, Recipe("undersample", 0.25))) == {"a": 40, "b": 30, "c": 10}
    assert rows == balance(LABELS, Recipe("undersample"))
    assert rows != balance(LABELS, Recipe("undersample"), seed=1)


def test_one_class_cannot_be_balanced() -> None:
    with pytest.raises(ValueError, match="more than 1 class"):
        balance(["a"] * 3, Recipe("oversample"))


def test_copies_are_light_keep_id_and_tag_and_stay_when_rows_are_added() -> None:
    one, *copies = augment(_rows(range(7, 8)), ALL)
    assert [copy.change for copy in copies] == list(ALL)
    assert {(copy.id, copy.tag) for copy in copies} == {(7, "a")}
    dropped, swapped, title, description = copies
    assert len(dropped.description.split()) == 27
    assert set(dropped.description.split()) < set(one.description.split())
    assert sorted(swapped.description.split()) == sorted(one.description.split())
    moved = sum(a != b for a, b in zip(swapped.description.split(), one.description.split(), strict=True))
    assert 0 < moved <= 6
    assert (title.title, title.description) == (one.title, "")
    assert (description.title, description.description) == ("", one.description)
    among_others = augment(_rows(range(20)), ALL)
    assert [row for row in among_others if row.id == 7] == [one, *copies]
    assert augment(_rows(range(7, 8)), ALL, seed=1) != [one, *copies]


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=40), st.sets(st.sampled_from(ALL)))
def test_no_copy_is_empty_or_equal(title: str, description: str, changes: set[Augmentation]) -> None:
    row = TrainingRow(1, title, description, "a")
    found = augment([row], changes)
    assert found[0] == row
    texts = [compose(each.title, each.description) for each in found]
    assert len(set(texts)) == len(texts)
    assert "" not in texts[1:]


def test_composition_takes_rows_as_they_are_by_default() -> None:
    train = pd.DataFrame({"id": [3, 1], "title": ["a", None], "description": [None, "b"], "tag": ["x", "y"]})
    assert compose_rows(train, Recipe()) == [TrainingRow(3, "a", "", "x"), TrainingRow(1, "", "b", "y")]
    assert Recipe().to_dict() == {} == Recipe(balance_ratio=0.5).to_dict()


def test_composition_balances_and_then_augments() -> None:
    train = pd.DataFrame({"id": [1, 2, 3], "title": "a", "description": "b", "tag": ["x", "x", "y"]})
    rows = compose_rows(train, Recipe("oversample", augment=("title_only",)))
    assert [(row.id, row.change) for row in rows] == [
        (i, change) for i in (1, 2, 3, 3) for change in (None, "title_only")
    ]


def test_copies_do_not_make_the_model_look_surer_than_it_is() -> None:
    rng = np.random.default_rng(1)
    texts = [" ".join(f"w{rng.integers(400)}" for _ in range(8)) for _ in range(120)]
    tags = [("a", "b")[rng.integers(2)] for _ in texts]  # nothing to learn: an honest model is half sure
    rows, groups = [*texts, *texts, *texts], [*range(120)] * 3
    fresh = frame([" ".join(f"w{rng.integers(400)}" for _ in range(8)) for _ in range(300)], [""] * 300)
    truth = [("a", "b")[rng.integers(2)] for _ in range(300)]

    def error(**given: Sequence[int]) -> float:
        model = fit(frame(rows, [""] * 360), [*tags] * 3, **given)  # type: ignore[arg-type]
        return expected_calibration_error(truth, model.predict_proba(fresh), list(model.classes_))

    assert error(groups=groups) < 0.15 < error()
