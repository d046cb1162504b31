"""Scores are the same by either way, and other folds are other folds."""

from __future__ import annotations

import pytest

from mlops_platform.ml import scoring
from mlops_platform.ml.model import DEFAULT, Params
from mlops_platform.ml.scoring import Scorer
from mlops_platform_tests.ml.corpus import made_up

TEXTS, LABELS = made_up(120, noise=0.4)
TRIED = [DEFAULT, Params(alpha=0.3, char_ngram_max=5, min_df=2, char_weight=1.7)]


def test_many_rows_are_scored_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [list(Scorer(TEXTS, LABELS, 0).scores(params)) for params in TRIED]
    monkeypatch.setattr(scoring, "MOST_ROWS", 0)
    many = [list(Scorer(TEXTS, LABELS, 0).scores(params)) for params in TRIED]
    assert few == many


def test_other_folds_are_those_of_a_new_scorer() -> None:
    first = Scorer(TEXTS, LABELS, 0)
    before = list(first.scores(DEFAULT))
    anew = list(first.anew(5).scores(DEFAULT))
    assert anew == list(Scorer(TEXTS, LABELS, 5).scores(DEFAULT))
    assert anew != before
    assert list(first.scores(DEFAULT)) == before
