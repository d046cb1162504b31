"""Wrong labels are found, on made-up rows and on the real ones."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from mlops_platform.ml.labeling.label_quality import find_suspects, out_of_fold
from mlops_platform_tests.ml.corpus import made_up, real

TEXTS, LABELS = made_up(90, noise=0.0)
IDS = list(range(100, 190))
WRONG = {4: "weather", 30: "kitchen", 58: "animals"}  # row to a label that is not its own


def _flipped() -> list[str]:
    assert all(LABELS[row] != label for row, label in WRONG.items())
    return [WRONG.get(row, label) for row, label in enumerate(LABELS)]


def test_flipped_labels_are_found_and_the_right_ones_suggested() -> None:
    found = find_suspects(IDS, TEXTS, _flipped(), repeats=1)
    by_id = {each.id: each for each in found.suspects}
    for row, label in WRONG.items():
        assert by_id[IDS[row]].given == label
        assert by_id[IDS[row]].suggested == LABELS[row]
    assert len(found.suspects) <= 6
    assert found.share == len(found.suspects) / 90
    scores = [each.score for each in found.suspects]
    assert scores == sorted(scores)
    assert all(each.score < each.probability for each in found.suspects)
    json.dumps(found.to_dict())


def test_the_order_of_the_rows_does_not_matter() -> None:
    labels, order = _flipped(), list(range(90))
    random.Random(1).shuffle(order)  # noqa: S311 - not for secrets
    shuffled = find_suspects([IDS[i] for i in order], [TEXTS[i] for i in order], [labels[i] for i in order], repeats=1)
    assert shuffled == find_suspects(IDS, TEXTS, labels, repeats=1)


def test_rare_tags_are_left_unjudged_or_judged_without_failing() -> None:
    texts = [*TEXTS, "volcano lava", "lava crater", "volcano ash", "sonnet verse", "sonnet rhyme"]
    labels = [*LABELS, "geology", "geology", "geology", "poetry", "poetry"]
    found = find_suspects(range(95), texts, labels, repeats=1)
    assert found.unjudged == [93, 94]
    assert found.judged == 93
    assert "poetry" not in {each.suggested for each in found.suspects}


def test_no_row_is_predicted_by_a_model_that_has_seen_it() -> None:
    # the label of a text without any word in common with others cannot be learnt from the rest
    texts = [f"word{i} other{i}" for i in range(60)]
    labels = ["a", "b", "c"] * 20
    probabilities, classes = out_of_fold(texts, labels, repeats=1)
    right = np.mean(np.array(classes)[probabilities.argmax(axis=1)] == labels)
    assert right < 0.6
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


@pytest.mark.parametrize(
    ("ids", "labels", "options", "message"),
    [
        ([1], LABELS, {}, "1 ids, 90 texts"),
        ([1, *IDS[1:89], 1], LABELS, {}, "occurs twice"),
        (IDS, [None, *LABELS[1:]], {}, "1 rows have no label, id 100"),
        (IDS, ["a"] * 90, {}, "two such tags"),
        (IDS, [str(i // 2) for i in range(90)], {}, "0 rows have a tag with 3 rows"),
        (IDS, LABELS, {"folds": 2}, "folds is 2"),
        (IDS, LABELS, {"repeats": 0}, "repeats 0"),
    ],
)
def test_what_cannot_be_judged_is_refused(ids: list[int], labels: list[str], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_suspects(ids, TEXTS, labels, **options)


def test_a_tenth_of_the_real_labels_flipped() -> None:
    ids, texts, tags = real()
    draw = random.Random(0)  # noqa: S311 - not for secrets
    flipped = set(draw.sample(range(len(ids)), len(ids) // 10))
    names = sorted(set(tags))
    labels = [draw.choice([n for n in names if n != tag]) if i in flipped else tag for i, tag in enumerate(tags)]
    found = find_suspects(ids, texts, labels, repeats=1)
    hits = len({each.id for each in found.suspects} & {ids[i] for i in flipped})
    assert hits / len(flipped) > 0.65
    assert hits / len(found.suspects) > 0.65
