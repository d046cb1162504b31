"""One window held against a champion's training rows, end to end on made-up texts."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_platform.ml.classifier.prediction import predict
from mlops_platform.ml.classifier.text_classifier import Params, fit, frame
from mlops_platform.ml.monitoring.drift_monitor import LabeledRows, WindowRows, folds_of, watch
from mlops_platform_tests.ml.corpus import made_up

TEXTS, TAGS = made_up(300, seed=1)
BLANK = [None] * 300
TRAINING = LabeledRows(TEXTS, BLANK, TAGS)
NEW, TRUTH = made_up(80, seed=2)
NONE = LabeledRows([], [], [])
WINDOW = WindowRows(NEW, [None] * 80, TRUTH, [80])


@pytest.fixture(scope="module")
def champion() -> Any:
    return fit(frame(TEXTS, BLANK), TAGS)


def test_a_quiet_window(champion: Any) -> None:
    seen = watch(champion, Params(), TRAINING, NONE, WINDOW, [80] * 20)
    assert not [test.name for test in seen.tests if test.detected]
    assert all(test.p_value is not None for test in seen.tests)
    assert seen.online is not None
    assert seen.online.rows == 80
    assert seen.against_previous is None
    assert seen == watch(champion, Params(), TRAINING, NONE, WINDOW, [80] * 20, fitted=folds_of(Params(), TRAINING))


def test_the_champion_before_is_compared_on_the_labelled_rows(champion: Any) -> None:
    bad = fit(frame(TEXTS, BLANK), [TAGS[(i + 1) % 300] for i in range(300)])
    some = WindowRows(NEW, [None] * 80, [tag if i % 4 else None for i, tag in enumerate(TRUTH)], [80])
    against = watch(bad, Params(), TRAINING, NONE, some, [], previous=champion).against_previous
    assert against is not None
    assert against.is_loss
    assert against.rows == 60
    few = WindowRows(NEW, [None] * 80, [tag if i < 49 else None for i, tag in enumerate(TRUTH)], [80])
    assert watch(bad, Params(), TRAINING, NONE, few, [], previous=champion).against_previous is None


def test_an_empty_window_runs_no_test(champion: Any) -> None:
    seen = watch(champion, Params(), TRAINING, NONE, WindowRows([], [], []), [])
    assert all(test.p_value is None for test in seen.tests)
    assert seen.online is None


def test_a_tag_too_rare_to_learn_is_left_out_and_one_tag_is_refused(champion: Any) -> None:
    rare = LabeledRows([*TEXTS, "odd", "odder"], [*BLANK, None, None], [*TAGS, "odd", "odd"])
    assert len(watch(champion, Params(), rare, NONE, WINDOW, []).reference.titles) == 300
    with pytest.raises(ValueError, match="Fewer than two tags"):
        folds_of(Params(), LabeledRows(["a", "b", "c"], [None] * 3, ["x", "x", "y"]))


def test_confidence_is_held_against_models_of_as_many_rows(champion: Any) -> None:
    """The champion is fitted on more rows than the models of the folds; both sides must come from the latter."""
    seen = watch(champion, Params(), TRAINING, NONE, WINDOW, [])
    own = [each.probability for each in predict(champion, NEW, [None] * 80)]
    assert list(seen.window.confidence) != own
    swapped = fit(frame(TEXTS, BLANK), TAGS, Params(alpha=100.0))
    assert watch(swapped, Params(), TRAINING, NONE, WINDOW, []).window.confidence == seen.window.confidence
