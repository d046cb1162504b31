"""Nearest labeled neighbors, compared with the full similarity matrix."""

from __future__ import annotations

import numpy as np
import pytest

from mlops_platform.ml.labeling import nearest_neighbors
from mlops_platform.ml.labeling.nearest_neighbors import LabeledTexts, nearest_labeled, vectors
from mlops_platform_tests.ml.corpus import real

KNOWN = LabeledTexts(
    ids=[7, 3, 5, 9],
    titles=["Seven", "Three", "Five", "Nine"],
    texts=["red fox jumps", "red fox jumps", "green frog leaps far", ""],
    tags=["a", "b", "c", "d"],
)


def test_nearest_come_first_and_equals_by_id() -> None:
    near, other, none = nearest_labeled(["red fox jumps", "a green frog", "zebra"], KNOWN, k=3)
    assert [(each.id, each.title, each.tag, each.similarity) for each in near] == [
        (3, "Three", "b", 1.0),
        (7, "Seven", "a", 1.0),
    ]
    assert [each.id for each in other] == [5]
    assert 0 < other[0].similarity < 1
    assert none == []


def test_nothing_to_look_for_or_in() -> None:
    assert nearest_labeled([], KNOWN) == []
    assert nearest_labeled(["fox"], LabeledTexts([], [], [], [])) == [[]]
    assert nearest_labeled([""], LabeledTexts([1], [""], [""], ["a"])) == [[]]
    with pytest.raises(ValueError, match="k is 0"):
        nearest_labeled(["fox"], KNOWN, k=0)
    with pytest.raises(ValueError, match="1 ids, 0 titles"):
        LabeledTexts([1], [], [], [])


def test_real_texts_in_blocks_agree_with_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, texts, tags = real()
    known = LabeledTexts(ids, texts, texts, tags)
    monkeypatch.setattr(nearest_neighbors, "BLOCK_ROWS", 100)
    found = nearest_labeled(texts[:250], known, k=2)
    x = vectors([*texts, *texts[:250]])
    cosine = np.sort((x[len(texts) :] @ x[: len(texts)].T).toarray(), axis=1)[:, -2:]
    likeness = [[each.similarity for each in reversed(near)] for near in found]
    np.testing.assert_allclose(likeness, cosine, atol=1e-5)
    assert [near[0].id for near in found] == ids[:250]
