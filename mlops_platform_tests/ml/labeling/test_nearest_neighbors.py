"""Neighbours and near-duplicates, against the plain way of finding them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.ml.labeling import nearest_neighbors
from mlops_platform.ml.labeling.nearest_neighbors import LabeledTexts, near_duplicates, nearest_labeled, vectors
from mlops_platform_tests.ml.corpus import real

TEXTS = st.lists(st.lists(st.sampled_from("ox ant bee cow dog elk fox".split()), max_size=6).map(" ".join), max_size=12)  # noqa: SIM905
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


def _plain(texts: list[str], threshold: float) -> list[int]:
    distinct = sorted(set(texts))
    cosine = (vectors(distinct) @ vectors(distinct).T).toarray() >= threshold - 1e-9
    first = list(range(len(texts)))
    for _ in texts:  # the longest chain has as many links as texts
        for i, one in enumerate(texts):
            for j, other in enumerate(texts):
                if one == other or cosine[distinct.index(one), distinct.index(other)]:
                    first[i] = first[j] = min(first[i], first[j])
    return first


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.sampled_from([0.2, 0.5, 0.7, 0.8, 0.95, 1.0]), st.sampled_from([1, 7, 4_000_000]))
def test_no_near_duplicate_is_missed(texts: list[str], threshold: float, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest_neighbors, "BLOCK_PAIRS", block)
        assert near_duplicates(texts, threshold).tolist() == _plain(texts, threshold)


def test_near_duplicates_of_real_texts() -> None:
    _, texts, _ = real()
    changed = texts[5] + " again"
    groups = near_duplicates([*texts, changed, texts[9]])
    assert groups[len(texts)] == groups[5]
    assert groups[-1] == groups[9]
    assert len(set(groups.tolist())) > 700


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        near_duplicates(["a"], threshold)
