"""The search: selection, pruning, resumption, budget, and what a killed process leaves behind."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from mlops_platform.ml.classifier.text_classifier import DEFAULT, TEXT, Params, build_pipeline
from mlops_platform.ml.evaluation.metrics import weighted_f1
from mlops_platform.ml.tuning import search as tuning
from mlops_platform.ml.tuning.cross_validation import FoldScorer, stratified_folds
from mlops_platform.ml.tuning.search import TrialRecord, TuningResult, tune
from mlops_platform_tests.ml.corpus import made_up

TEXTS, LABELS = made_up(120, noise=0.25)
OTHER = made_up(120, seed=9, noise=0.25)
optuna.logging.set_verbosity(optuna.logging.ERROR)


def new_study() -> optuna.Study:
    return optuna.create_study(direction="maximize", study_name="optimization")


def file_study(path: Path) -> optuna.Study:
    return optuna.create_study(
        direction="maximize", study_name="optimization", storage=f"sqlite:///{path}", load_if_exists=True
    )


def run(study: optuna.Study, num_trials: int, version: str = "v1", **more: object) -> TuningResult:
    texts, labels = (TEXTS, LABELS) if version == "v1" else OTHER
    arguments = {"num_trials": num_trials, "seed": 0, "data_version": version, **more}
    return tune(study, texts, labels, **arguments)  # type: ignore[arg-type]


def without_times(result: TuningResult) -> list[tuple[object, ...]]:
    return [(t.number, t.score, t.pruned, t.source, t.params, t.fold_scores) for t in result.trials]


@pytest.fixture(scope="module")
def undisturbed() -> TuningResult:
    return run(new_study(), 14)


def test_a_fresh_study_starts_with_the_default_and_is_never_worse(undisturbed: TuningResult) -> None:
    assert undisturbed.trials[0].source == "default"
    assert undisturbed.trials[0].params == DEFAULT
    assert undisturbed.trials[0].score == undisturbed.baseline_score
    assert undisturbed.score >= undisturbed.baseline_score
    assert undisturbed.trials_run == len(undisturbed.trials) == 14


def test_scores_are_those_of_the_model_that_will_be_trained(undisturbed: TuningResult) -> None:
    for trial in [t for t in undisturbed.trials if not t.pruned][:3]:
        frame, tags, scores = pd.DataFrame({TEXT: TEXTS}), np.array(LABELS), []
        for train, held_out in stratified_folds(TEXTS, LABELS, n_splits=tuning.FOLDS, seed=0):
            model = build_pipeline(trial.params).fit(frame.iloc[train], tags[train])
            scores.append(weighted_f1(tags[held_out], model.predict(frame.iloc[held_out])))
        assert scores == pytest.approx(trial.fold_scores)
        assert trial.score == pytest.approx(np.mean(scores))


def test_pruning_stops_sampled_trials_that_are_behind(undisturbed: TuningResult) -> None:
    complete: list[TrialRecord] = []
    for trial in undisturbed.trials:
        assert trial.pruned == (len(trial.fold_scores) < tuning.FOLDS)
        if trial.pruned:
            assert trial.source == "sampled"
            assert len(complete) >= tuning.PRUNE_AFTER
            means = [np.mean(each.fold_scores[: len(trial.fold_scores)]) for each in complete]
            assert trial.score < max(means) + 1e-12
        else:
            complete.append(trial)
    assert 0 < sum(trial.pruned for trial in undisturbed.trials) < 14
    missing = sum(tuning.FOLDS - len(t.fold_scores) for t in undisturbed.trials)
    assert undisturbed.folds_saved == pytest.approx(missing / (tuning.FOLDS * 14))


def test_both_classifiers_are_searched(undisturbed: TuningResult) -> None:
    assert {trial.params.classifier for trial in undisturbed.trials} == {"ridge", "svm"}


def test_with_many_classes_the_svm_is_the_default_and_the_only_classifier() -> None:
    texts = [f"{letter * 4} number{n}" for letter in "abcdefghijklmnopqrst" for n in range(6)]
    result = tune(new_study(), texts, [text[0] for text in texts], num_trials=4, seed=0, data_version="v")
    assert result.trials[0].params == dataclasses.replace(DEFAULT, classifier="svm")
    assert {trial.params.classifier for trial in result.trials} == {"svm"}


def test_row_order_does_not_matter(undisturbed: TuningResult) -> None:
    reversed_rows = tune(new_study(), TEXTS[::-1], LABELS[::-1], num_trials=14, seed=0, data_version="anything")
    assert without_times(reversed_rows) == without_times(undisturbed)
    assert reversed_rows.params == undisturbed.params


def test_a_second_call_runs_nothing_and_a_larger_one_adds(undisturbed: TuningResult) -> None:
    study = new_study()
    six = run(study, 6)
    again = run(study, 6)
    assert again.trials_run == 0
    assert (again.params, again.score, again.trials) == (six.params, six.score, six.trials)
    full = run(study, 14)
    assert full.trials_run == 8
    assert without_times(full) == without_times(undisturbed)
    assert full.params == undisturbed.params
    assert run(study, 6).trials == six.trials  # the answer to a question does not depend on later ones


def test_another_seed_shares_no_scores() -> None:
    study = new_study()
    run(study, 3)
    other = run(study, 3, seed=1)
    assert other.trials_run == 3


def prefer(params: Params, by: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `params` score higher by `by` than anything else does."""
    scores = FoldScorer.score

    def biased(self: FoldScorer, fold: int, tried: Params) -> float:
        return 0.8 * scores(self, fold, DEFAULT) + (by if tried == params else 0.0)

    monkeypatch.setattr(FoldScorer, "score", biased)


def study_of(params: Params, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """A study that has chosen `params` on the data before."""
    study = new_study()
    with monkeypatch.context() as patch:
        prefer(params, 0.1, patch)
        run(study, 5)
    return study


@pytest.mark.parametrize(("by", "moves"), [(0.02, True), (0.005, False)])
def test_the_default_stays_unless_the_gain_is_more_than_noise(
    monkeypatch: pytest.MonkeyPatch, undisturbed: TuningResult, by: float, moves: bool
) -> None:
    target = undisturbed.trials[4].params
    prefer(target, by, monkeypatch)
    result = run(new_study(), 5)
    assert result.params == (target if moves else DEFAULT)
    assert result.score - result.baseline_score == pytest.approx(by if moves else 0.0)
    assert ("The tuned parameters are taken" in result.verdict) == moves
    assert ("The default is kept" in result.verdict) != moves


def test_the_default_stays_where_the_gain_is_gone_on_fresh_folds(
    monkeypatch: pytest.MonkeyPatch, undisturbed: TuningResult
) -> None:
    target = undisturbed.trials[4].params
    study = new_study()
    with monkeypatch.context() as patch:
        prefer(target, 0.02, patch)
        assert run(study, 5).params == target
    # the trials remain, and with them their gain on the folds of the search
    result = run(study, 5)
    assert result.trials_run == 0
    assert result.params == DEFAULT
    assert result.confirmation is not None
    assert not result.confirmation.better
    assert result.verdict.startswith("The default is kept: the tuned parameters gain 0.0200 on the folds")


def test_the_previous_best_comes_after_the_default_on_new_data(
    monkeypatch: pytest.MonkeyPatch, undisturbed: TuningResult
) -> None:
    target = undisturbed.trials[4].params
    prefer(target, 0.1, monkeypatch)
    study = new_study()
    assert run(study, 5).params == target
    on_new_data = run(study, 4, "v2")
    assert [t.source for t in on_new_data.trials] == ["default", "previous_best", "sampled", "sampled"]
    assert on_new_data.trials[1].params == target
    assert on_new_data.params == target
    assert on_new_data.source == "previous_best"
    # a trial of one data version does not count for another
    assert run(study, 5).trials_run == 0


def test_the_previous_best_stays_where_it_is_as_good_as_the_best(
    monkeypatch: pytest.MonkeyPatch, undisturbed: TuningResult
) -> None:
    target = undisturbed.trials[4].params
    study = study_of(target, monkeypatch)
    scores = FoldScorer.score
    gains = {target: 0.005, DEFAULT: 0.0}
    monkeypatch.setattr(
        FoldScorer,
        "score",
        lambda self, fold, tried: 0.8 * scores(self, fold, DEFAULT) + gains.get(tried, 0.012),
    )
    result = run(study, 3, "v2")
    assert max(trial.score for trial in result.trials) - result.baseline_score == pytest.approx(0.012)
    assert result.source == "previous_best"
    assert result.verdict.startswith("The tuned parameters are taken: against the default they gain +0.0050")


def test_scores_of_other_data_do_not_steer_the_sampler(
    monkeypatch: pytest.MonkeyPatch, undisturbed: TuningResult
) -> None:
    study = new_study()
    run(study, 12, "v2")
    monkeypatch.setattr(tuning, "MIN_GAIN", 1.0)  # the default wins there, so here no previous best comes first
    after_others = run(study, 14)
    assert without_times(after_others) == without_times(undisturbed)


def test_one_trial_on_new_data_is_the_default(monkeypatch: pytest.MonkeyPatch, undisturbed: TuningResult) -> None:
    result = run(study_of(undisturbed.trials[4].params, monkeypatch), 1, "v2")
    assert result.params == DEFAULT
    assert result.score == result.baseline_score > 0


def test_trials_that_others_left_have_no_influence(undisturbed: TuningResult) -> None:
    study = new_study()
    run(study, 5)
    ghost = study.ask()  # running, with a score that would mislead everything after it
    ghost.set_user_attr("data_version", "v1")
    ghost.report(0.99, 0)
    study.enqueue_trial({"alpha": 1.0})  # still in the queue
    result = run(study, 14)
    assert without_times(result) == without_times(undisturbed)
    assert result.params == undisturbed.params


def test_the_search_stops_when_its_cpu_budget_is_used_up() -> None:
    study = new_study()
    result = run(study, 14, cpu_seconds=1e-6)
    assert [trial.source for trial in result.trials] == ["default"]
    assert result.trials[0].seconds > 0
    assert "The search stopped after 1 of 14 trials: its budget of 0 CPU seconds was used up." in result.verdict
    assert run(study, 14, cpu_seconds=1e-6).trials_run == 0
    more = run(study, 3, cpu_seconds=600)
    assert more.trials_run == 2
    assert "budget" not in more.verdict


KILLED = """
import os, signal, sys
from pathlib import Path
from mlops_platform.ml.tuning.cross_validation import FoldScorer
from mlops_platform.ml.tuning import search as tuning
from mlops_platform_tests.ml.tuning import test_search as t

finished = []
scores = FoldScorer.score
def score(self, fold, params):
    if len(finished) >= 6 and fold:
        os.kill(os.getpid(), signal.SIGKILL)
    return scores(self, fold, params)
FoldScorer.score = score
t.run(t.file_study(Path(sys.argv[1])), 14, callback=lambda trial, best: finished.append(trial))
"""


def test_killed_in_the_middle_and_resumed_ends_in_the_same_place(undisturbed: TuningResult, tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    study = file_study(path)
    done = len(study.trials)
    assert 6 <= done < 14
    assert all(trial.state.is_finished() for trial in study.trials)  # what was half done is not there
    resumed = run(study, 14)
    assert resumed.trials_run == 14 - done
    assert without_times(resumed) == without_times(undisturbed)
    assert resumed.params == undisturbed.params


def test_a_failing_trial_leaves_nothing_and_the_error_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> float:
        raise MemoryError("no room")

    study = new_study()
    with monkeypatch.context() as patch:
        patch.setattr(FoldScorer, "score", broken)
        with pytest.raises(MemoryError):
            run(study, 2)
    assert study.trials == []
    assert len(run(study, 2).trials) == 2


def test_calls_back_after_each_trial() -> None:
    seen: list[tuple[TrialRecord, float]] = []
    result = run(new_study(), 3, callback=lambda *trial: seen.append(trial))
    assert [trial for trial, _ in seen] == result.trials
    assert [best for _, best in seen] == [max(t.score for t in result.trials[: n + 1]) for n in range(3)]


def test_a_tag_with_fewer_rows_than_folds_is_no_obstacle() -> None:
    texts, labels = TEXTS + ["sextant compass anchor"] * 2, LABELS + ["sea"] * 2
    assert tune(new_study(), texts, labels, num_trials=2, seed=0, data_version="v3").trials_run == 2


def test_many_rows_have_fewer_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "LARGE_ROWS", 100)
    assert len(run(new_study(), 1).trials[0].fold_scores) == tuning.LARGE_FOLDS


def test_refuses_what_cannot_be_tuned() -> None:
    with pytest.raises(ValueError, match="must maximize"):
        run(optuna.create_study(direction="minimize"), 2)
    with pytest.raises(ValueError, match="no labeled rows"):
        tune(new_study(), [], [], num_trials=1, seed=0, data_version="v")
