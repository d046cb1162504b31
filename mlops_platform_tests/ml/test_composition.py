"""What the model is trained on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.ml.composition import Augmentation, TrainingRow, augment, balance, mix
from mlops_platform.ml.text import compose

LABELS = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
ALL: tuple[Augmentation, ...] = ("drop_words", "swap_words", "title_only", "description_only")


def _rows(ids: range, tag: str = "a") -> list[TrainingRow]:
    return [TrainingRow(i, f"title {i}", " ".join(f"w{i}x{k}" for k in range(30)), tag) for i in ids]


def _counts(rows: np.ndarray) -> dict[str, int]:
    return dict(Counter(LABELS[i] for i in rows))


def test_weights_make_the_classes_equal() -> None:
    found = balance(LABELS, "weights")
    assert found.rows.tolist() == list(range(100))
    assert found.weights.mean() == pytest.approx(1.0)
    for tag in "abc":
        assert found.weights[np.array(LABELS) == tag].sum() == pytest.approx(100 / 3)
    assert (balance(LABELS, "none").weights == 1).all()


def test_oversampling_repeats_and_loses_no_row() -> None:
    found = balance(LABELS, "oversample")
    assert _counts(found.rows) == {"a": 60, "b": 60, "c": 60}
    assert set(found.rows.tolist()) == set(range(100))
    assert _counts(balance(LABELS, "oversample", ratio=0.4).rows) == {"a": 60, "b": 30, "c": 24}


def test_undersampling_leaves_out_and_repeats_no_row() -> None:
    found = balance(LABELS, "undersample")
    assert _counts(found.rows) == {"a": 10, "b": 10, "c": 10}
    assert len(set(found.rows.tolist())) == 30
    assert _counts(balance(LABELS, "undersample", ratio=0.25).rows) == {"a": 40, "b": 30, "c": 10}
    assert found.rows.tolist() == balance(LABELS, "undersample").rows.tolist()
    assert found.rows.tolist() != balance(LABELS, "undersample", seed=1).rows.tolist()


def test_balance_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="'smote'; it must be one of none, weights"):
        balance(LABELS, "smote")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 rows have 1 tags"):
        balance(["a"] * 3, "weights")
    for ratio in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="ratio"):
            balance(LABELS, "oversample", ratio=ratio)


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


def test_an_unknown_augmentation_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown augmentation translate"):
        augment([], ["translate"])  # type: ignore[list-item]


def test_replay_takes_the_share_of_each_tag() -> None:
    old = [*_rows(range(900)), *_rows(range(900, 1000), "b"), *_rows(range(1000, 1002), "rare")]
    new = _rows(range(5000, 5100), "c")
    found = mix(old, new, 0.5)
    assert found[-100:] == new
    replayed = Counter(row.tag for row in found[:-100])
    assert replayed["rare"] == 1
    assert replayed["a"] == pytest.approx(90, abs=2)
    assert replayed["b"] == pytest.approx(10, abs=2)
    assert {row.id for row in found} <= {row.id for row in mix(old, new, 0.6)}
    assert mix(old, new, 0.5) == found


def test_replay_of_little_or_nothing() -> None:
    new = _rows(range(10, 20))
    assert mix(_rows(range(10)), new, 0.0) == new
    assert mix([], new, 0.5) == new
    assert mix(_rows(range(10)), [], 0.5) == []
    assert len(mix(_rows(range(5)), new, 0.9)) == 15
    relabeled = _rows(range(10, 20), "b")
    assert mix(relabeled, new, 0.5) == new
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="share"):
            mix([], new, share)
