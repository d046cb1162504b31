"""Folds and the scores of parameters on them."""

from __future__ import annotations

import numpy as np
import pytest

from mlops_platform.ml.classifier.text_classifier import DEFAULT, Params, fit, frame
from mlops_platform.ml.evaluation.metrics import weighted_f1
from mlops_platform.ml.tuning import fold_scorer
from mlops_platform.ml.tuning.fold_scorer import Scorer, cut
from mlops_platform_tests.ml.corpus import made_up

TEXTS, LABELS = made_up(120, noise=0.4)


@pytest.mark.parametrize("params", [DEFAULT, Params(classifier="svm", alpha=0.3, char_ngram_max=5, char_weight=1.7)])
def test_scores_are_those_of_the_calibrated_model(params: Params) -> None:
    folds = cut(TEXTS, LABELS, 0)
    train, held_out = folds[1]
    model = fit(frame([TEXTS[i] for i in train], [""] * len(train)), [LABELS[i] for i in train], params)
    predicted = model.predict(frame([TEXTS[i] for i in held_out], [""] * len(held_out)))
    expected = weighted_f1(np.array(LABELS)[held_out], predicted)
    assert list(Scorer(TEXTS, LABELS, folds).scores(params))[1] == pytest.approx(expected)


def test_many_rows_have_fewer_folds_that_hold_out_each_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(cut(TEXTS, LABELS, 0)) == 5
    monkeypatch.setattr(fold_scorer, "LARGE_ROWS", 100)
    folds = cut(TEXTS, LABELS, 0)
    assert len(folds) == 3
    assert sorted(row for _, held_out in folds for row in held_out) == list(range(120))
