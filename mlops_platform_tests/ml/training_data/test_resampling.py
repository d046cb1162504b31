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
from mlops_platform.ml.training_data.config import Recipe
from mlops_platform.ml.training_data.resampling import Augmentation, TrainingRow, augment, balance, compose_rows, mix

LABELS = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
ALL: tuple[Augmentation, ...] = ("drop_words", "swap_words", "title_only", "description_only")


def _rows(ids: range, tag: str = "a") -> list[TrainingRow]:
    return [TrainingRow(i, f"title {i}", " ".join(f"w{i}x{k}" for k in range(30)), tag) for i in ids]


def _counts(rows: np.ndarray) -> dict[str, int]:
    return dict(Counter(LABELS[i] for i in rows))


def test_weights_and_none_choose_every_row_once() -> None:
    for method in ("weights", "none"):
        assert balance(LABELS, method).tolist() == list(range(100))


def test_oversampling_repeats_and_loses_no_row() -> None:
    found = balance(LABELS, "oversample")
    assert _counts(found) == {"a": 60, "b": 60, "c": 60}
    assert set(found.tolist()) == set(range(100))
    assert _counts(balance(LABELS, "oversample", ratio=0.4)) == {"a": 60, "b": 30, "c": 24}


def test_undersampling_leaves_out_and_repeats_no_row() -> None:
    found = balance(LABELS, "undersample")
    assert _counts(found) == {"a": 10, "b": 10, "c": 10}
    assert len(set(found.tolist())) == 30
    assert _counts(balance(LABELS, "undersample", ratio=0.25)) == {"a": 40, "b": 30, "c": 10}
    assert found.tolist() == balance(LABELS, "undersample").tolist()
    assert found.tolist() != balance(LABELS, "undersample", seed=1).tolist()


def test_balance_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="'smote'; it must be one of weights, none"):
        balance(LABELS, "smote")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 rows have 1 tags"):
        balance(["a"] * 3, "oversample")
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
    old = [*_rows(range(900)), *_rows(range(900, 1000), "b"), *_rows(range(1000, 1020), "rare")]
    new = _rows(range(5000, 5100), "c")
    found = mix(old, new, 0.5)
    assert found[-100:] == new
    replayed = Counter(row.tag for row in found[:-100])
    assert replayed["rare"] == 2
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


def _history() -> pd.DataFrame:
    """300 rows of three tags a year ago, then 200 recent ones of two."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(500):
        tag = ("a", "b", "c")[number % 3] if number < 300 else ("a", "b")[number % 2]
        words = " ".join(f"{tag}{rng.integers(30)} common{rng.integers(60)}" for _ in range(6))
        made = "2023-01-01" if number < 300 else "2024-01-01"
        rows.append((number, pd.Timestamp(made), f"title {number}", words, tag))
    return pd.DataFrame(rows, columns=["id", "created_on", "title", "description", "tag"])


def test_recent_rows_alone_forget_an_old_topic_and_replay_keeps_it() -> None:
    history = _history()
    old = history[(history["id"] % 5 == 0) & (history["tag"] == "c")]
    train = history.drop(old.index)

    def recall(recipe: Recipe) -> float:
        rows = compose_rows(train, recipe).rows
        model = fit(frame([r.title for r in rows], [r.description for r in rows]), [r.tag for r in rows])
        said = model.predict(frame(old["title"], old["description"]))
        return float((said == "c").mean())

    assert recall(Recipe(recent_days=30, replay_share=0.0)) == 0.0
    assert recall(Recipe(recent_days=30, replay_share=0.2)) > 0.8
    composed = compose_rows(train, Recipe(recent_days=30, replay_share=0.2))
    assert composed.replayed == pytest.approx(50, abs=2)
    assert composed.replayed + composed.left_out == 280


def test_composition_takes_rows_as_they_are_by_default() -> None:
    history = _history()
    composed = compose_rows(history, Recipe())
    assert [row.id for row in composed.rows] == history["id"].tolist()
    assert (composed.replayed, composed.left_out, composed.copies) == (0, 0, 0)
    assert Recipe().to_dict() == {} == Recipe(balance_ratio=0.5, replay_share=0.1).to_dict()


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
