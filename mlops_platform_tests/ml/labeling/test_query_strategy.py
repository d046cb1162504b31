"""The labeling queue."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from mlops_platform.ml.labeling.label_quality import Suspect
from mlops_platform.ml.labeling.nearest_neighbors import NEAR_DUPLICATE, vectors
from mlops_platform.ml.labeling.query_strategy import Labeled, QueueRow, Shares, Unlabeled, choose, margin_uncertainty
from mlops_platform_tests.ml.corpus import made_up

CLASSES = ["animals", "kitchen", "weather"]
TEXTS, LABELS = made_up(400, noise=0.0)
LABELED = Labeled(range(1000, 1060), TEXTS[:60], [None] * 60, LABELS[:60])
SUSPECTS = [Suspect(1000 + i, LABELS[i], CLASSES[(CLASSES.index(LABELS[i]) + 1) % 3], 0.1, 0.8) for i in range(30)]


def _unlabeled(rows: int = 340, seed: int = 0) -> Unlabeled:
    probabilities = np.random.default_rng(seed).dirichlet([0.5] * 3, size=rows)
    return Unlabeled(range(rows), TEXTS[60 : 60 + rows], [""] * rows, probabilities, CLASSES)


def _ids(queue: list[QueueRow], reason: str) -> list[int]:
    return [row.id for row in queue if row.reason == reason]


def test_margin() -> None:
    p = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.5, 0.3]])
    np.testing.assert_allclose(margin_uncertainty(p), [1.0, 0.0, 0.8])
    np.testing.assert_allclose(margin_uncertainty(np.array([[1.0]])), [0.0])


def test_the_mix_is_what_was_asked_for_in_each_stretch() -> None:
    queue = choose(_unlabeled(), LABELED, size=50, suspects=SUSPECTS)
    assert Counter(row.reason for row in queue) == {"uncertain": 15, "diverse": 15, "random": 10, "suspect": 10}
    assert [row.rank for row in queue] == list(range(1, 51))
    assert len({row.id for row in queue}) == 50
    for start in range(0, 50, 10):
        stretch = Counter(row.reason for row in queue[start : start + 10])
        assert stretch["random"] == 2
        assert stretch["suspect"] == 2
    json.dumps([row.to_dict() for row in queue])


def test_uncertain_rows_are_the_most_uncertain_and_rows_say_what_the_model_thinks() -> None:
    unlabeled = _unlabeled()
    queue = choose(unlabeled, LABELED, size=10, shares=Shares(0, 0, 0))
    scores = margin_uncertainty(unlabeled.probabilities)
    assert [row.id for row in queue] == np.argsort(-scores)[:10].tolist()
    for row in queue:
        assert row.score == scores[row.id]
        assert row.probability == unlabeled.probabilities[row.id].max()
        assert row.guess == CLASSES[unlabeled.probabilities[row.id].argmax()]
        assert row.title == TEXTS[60 + row.id]
        assert len(row.neighbours) == 3


def test_suspects_come_with_their_suggestion_and_without_themselves_as_neighbours() -> None:
    queue = choose(_unlabeled(), LABELED, size=10, suspects=SUSPECTS, shares=Shares(0, 0, 1))
    assert [row.id for row in queue] == [each.id for each in SUSPECTS[:10]]
    for row, suspect in zip(queue, SUSPECTS, strict=False):
        assert (row.reason, row.guess, row.probability, row.score) == ("suspect", suspect.suggested, 0.8, 0.9)
        assert row.id not in {each.id for each in row.neighbours}
        assert len(row.neighbours) == 3


def test_the_random_sample_is_random_and_stays_when_rows_are_added() -> None:
    few, many = _unlabeled(200), _unlabeled(340, seed=1)
    before = _ids(choose(few, LABELED, size=50), "random")
    after = _ids(choose(many, LABELED, size=50), "random")
    assert len(before) == 10
    assert {each for each in after if each < 200} <= set(before)  # only new rows push old ones out
    assert before != _ids(choose(few, LABELED, size=50, seed=1), "random")
    # what the model thinks of a row has no say
    drawn = [i for seed in range(40) for i in _ids(choose(few, LABELED, size=50, seed=seed), "random")]
    uncertainty = margin_uncertainty(few.probabilities)
    assert np.mean(uncertainty[drawn]) == pytest.approx(uncertainty.mean(), abs=0.05)


def test_a_labeled_random_row_makes_room_for_the_next_one() -> None:
    first = _ids(choose(_unlabeled(), LABELED, size=50), "random")
    done = Labeled([*LABELED.ids, first[0]], [*LABELED.titles, "x"], [None] * 61, [*LABELED.tags, "animals"])
    second = _ids(choose(_unlabeled(), done, size=50), "random")
    assert set(first[1:]) < set(second)


def test_labeled_and_excluded_rows_are_left_out() -> None:
    every = {row.id for row in choose(_unlabeled(), LABELED, size=50, suspects=SUSPECTS)}
    tags = [*LABELED.tags, "animals", "animals"]
    labeled = Labeled([*LABELED.ids, 3, 4], [*LABELED.titles, "a", "b"], [None] * 62, tags)
    queue = choose(_unlabeled(), labeled, size=1000, suspects=SUSPECTS, excluded=every)
    assert queue
    assert not {row.id for row in queue} & (every | {3, 4})


def test_near_duplicates_come_once() -> None:
    texts = [text for text in TEXTS[60:160] for _ in range(3)]
    texts = [f"{text} {'' if i % 3 else text}" for i, text in enumerate(texts)]
    rows = len(texts)
    p = np.random.default_rng(0).dirichlet([0.5] * 3, size=rows)
    queue = choose(Unlabeled(range(rows), texts, [""] * rows, p, CLASSES), LABELED, size=60, suspects=SUSPECTS)
    x = vectors([row.title for row in queue])
    cosine = (x @ x.T).toarray() - np.eye(len(queue))
    assert cosine.max() < NEAR_DUPLICATE + 0.1  # weighed on the queue alone, a little differently
    assert len({row.id // 3 for row in queue if row.id < 1000}) == sum(row.id < 1000 for row in queue)


def test_a_flood_of_copies_does_not_leave_the_queue_short() -> None:
    texts = ["the same otter again"] * 600 + TEXTS[60:100]
    p = np.tile([0.5, 0.5, 0.0], (640, 1))
    p[600:] = [0.9, 0.1, 0.0]
    queue = choose(Unlabeled(range(640), texts, [""] * 640, p, CLASSES), LABELED, size=20, shares=Shares(0.1, 0.3, 0))
    assert len(queue) == 20
    assert sum(row.id < 600 for row in queue) == 1


def test_diverse_rows_cover_a_topic_that_uncertain_ones_miss() -> None:
    texts = TEXTS[60:360] + [f"quark lepton boson muon gluon{i} tau{i}" for i in range(40)]
    p = np.tile([0.5, 0.5, 0.0], (340, 1))
    p[300:] = [0.55, 0.45, 0.0]  # a little surer than of all others
    unlabeled = Unlabeled(range(340), texts, [""] * 340, p, CLASSES)
    queue = choose(unlabeled, LABELED, size=40, shares=Shares(random=0, diverse=0.5, suspect=0))
    assert any(each >= 300 for each in _ids(queue, "diverse"))
    assert not any(each >= 300 for each in _ids(queue, "uncertain"))


def test_the_order_of_the_rows_does_not_matter() -> None:
    one = _unlabeled()
    order = np.random.default_rng(5).permutation(340)
    other = Unlabeled(
        [one.ids[i] for i in order],
        [one.titles[i] for i in order],
        [""] * 340,
        one.probabilities[order],
        CLASSES,
    )
    assert choose(other, LABELED, size=50, suspects=SUSPECTS) == choose(one, LABELED, size=50, suspects=SUSPECTS)


def test_few_rows_and_none() -> None:
    nothing = Labeled([], [], [], [])
    assert choose(_unlabeled(0), nothing, size=5) == []
    queue = choose(_unlabeled(3), nothing, size=50)
    assert sorted(row.id for row in queue) == [0, 1, 2]
    assert queue[0].neighbours == []
    empty = Unlabeled([1, 2], [None, ""], [None, float("nan")], np.array([[0.6, 0.4], [0.5, 0.5]]), ["a", "b"])  # type: ignore[list-item]
    assert sorted(row.id for row in choose(empty, nothing, size=5)) == [1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": [1, 2]}, "There are 2 ids, 1 titles"),
        ({"probabilities": np.array([[0.5]])}, r"shape \(1, 1\) for 2 classes"),
        ({"probabilities": np.array([[0.5, np.nan]])}, "probability is missing"),
        ({"ids": [1, 1], "titles": ["", ""], "descriptions": ["", ""], "probabilities": np.zeros((2, 2))}, "twice"),
    ],
)
def test_bad_rows_are_refused(change: dict[str, Any], message: str) -> None:
    good = {"ids": [1], "titles": ["a"], "descriptions": [""], "probabilities": np.array([[0.5, 0.5]])}
    with pytest.raises(ValueError, match=message):
        Unlabeled(**{**good, **change, "classes": ["a", "b"]})


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="size is 0"):
        choose(_unlabeled(), LABELED, size=0)
    with pytest.raises(ValueError, match="1 suspects are not among the labeled rows, id 5"):
        choose(_unlabeled(), LABELED, size=5, suspects=[Suspect(5, "a", "b", 0.1, 0.9)])
    for shares in ((0.5, 0.5, 0.5), (-0.1, 0, 0), (float("nan"), 0, 0)):
        with pytest.raises(ValueError, match="shares"):
            Shares(*shares)
