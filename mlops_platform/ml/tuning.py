"""Choosing the model's parameters with Optuna: by cross-validation over the training rows, resumable.

Runs and scores trials; which trials count, what is tried next and which one wins is `ml.trials`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mlops_platform.ml.features import FoldFeatures, Rows
from mlops_platform.ml.metrics import weighted_f1
from mlops_platform.ml.model import DEFAULT, Params, build_classifier, check_classes, stratified_folds
from mlops_platform.ml.trials import MIN_GAIN, SPACE, Ledger, best_of, choose
from mlops_platform.ml.workers import FoldWorkers, usable

FOLDS = 5
PRUNE_MARGIN = 0.01


class PairedPruner(optuna.pruners.BasePruner):
    """Stops a trial whose mean over the folds so far lies under the incumbent's over the same folds.

    Trials report the running mean at each fold, so two trials compare on the same held-out rows and the
    spread between folds, larger than the difference between parameters, cancels.
    """

    def __init__(self, margin: float = PRUNE_MARGIN) -> None:
        """Set the margin, in F1, that a trial may lie under the incumbent."""
        self.margin = margin
        self.incumbent: FrozenTrial | None = None

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:  # noqa: ARG002 - Optuna's signature
        """Say whether the trial should stop now."""
        step = trial.last_step
        if step is None or self.incumbent is None or step not in self.incumbent.intermediate_values:
            return False
        return trial.intermediate_values[step] < self.incumbent.intermediate_values[step] - self.margin


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial.

    Attributes:
        number: Its number in the study.
        score: Mean weighted F1 over its folds; of a pruned trial, over the folds it reached.
        pruned: Whether it was stopped early.
        source: "previous_best", "default" or "sampled".
        params: Its parameters.
        fold_scores: Weighted F1 of each fold it reached.
    """

    number: int
    score: float
    pruned: bool
    source: str
    params: Params
    fold_scores: list[float]


@dataclass(frozen=True)
class TuningResult:
    """What tuning chose and what it saw.

    Attributes:
        params: The chosen parameters.
        score: Their mean weighted F1 over the folds.
        fold_scores: Their weighted F1 in each fold.
        baseline_score: The same mean for the default parameters; never above `score`.
        source: Where the chosen parameters came from: "previous_best", "default" or "sampled".
        trials_run: Trials that this call finished.
        trials_pruned: Pruned ones among all `trials_total`.
        trials_total: Finished trials of this data version that the choice rests on.
        trials: All of them, in the order they ran.
    """

    params: Params
    score: float
    fold_scores: list[float]
    baseline_score: float
    source: str
    trials_run: int
    trials_pruned: int
    trials_total: int
    trials: list[TrialRecord]


def _record(trial: FrozenTrial) -> TrialRecord:
    steps = sorted(trial.intermediate_values)
    means = [trial.intermediate_values[step] for step in steps]
    return TrialRecord(
        number=trial.number,
        score=means[-1],
        pruned=trial.state == TrialState.PRUNED,
        source=trial.user_attrs["source"],
        params=Params.from_dict(trial.params),
        fold_scores=trial.user_attrs["fold_scores"],
    )


def tune(
    study: optuna.Study,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    num_trials: int,
    seed: int,
    data_version: str,
    workers: int = 1,
    callback: Callable[[TrialRecord], None] | None = None,
) -> TuningResult:
    """Choose parameters by stratified 5-fold cross-validation over the given (training) rows.

    For a fresh data version the best parameters of the version before are tried first, then the default,
    then what Optuna's TPE sampler draws (Bergstra et al. 2011). Neither of the first two is ever pruned, so
    the choice is never worse than the default on these folds. The result depends on the rows (not on their
    order), `seed`, `num_trials` and what the study held of other data versions; neither that a process was killed
    on the way nor the number of workers changes it. One call may work on a study at a time.

    Args:
        study: An Optuna study that maximizes, with a storage of the caller's choice.
        texts: n texts of the training split.
        labels: Tag of each text, length n.
        num_trials: Finished trials that this data version shall have; those already there are not run again.
        seed: Cuts the folds and drives the sampler.
        data_version: Says which trials of the study were measured on these rows.
        workers: Processes that score the folds of a trial; with 1, this process does.
        callback: Called with each trial that finishes.

    Returns:
        The choice, out of the first `num_trials` trials of this data version.

    Raises:
        ValueError: The study does not maximize, `num_trials` is below 1, or the rows cannot be trained on.
    """
    if study.directions != [optuna.study.StudyDirection.MAXIMIZE]:
        raise ValueError(f"The study {study.study_name!r} must maximize one value: make it anew.")
    if num_trials < 1:
        raise ValueError(f"num_trials is {num_trials}; it must be 1 or more.")
    if len(texts) != len(labels):
        raise ValueError(f"There are {len(texts)} texts and {len(labels)} tags; give one tag a text.")
    check_classes(list(labels))

    ledger = Ledger(study, data_version, seed)
    ledger.discard_unfinished()
    folds: _Folds | None = None
    run = 0
    with ExitStack() as stack:
        while len(finished := ledger.finished()) < num_trials:
            folds = folds or _folds(texts, labels, seed, workers, stack)
            params, source = ledger.next_candidate(finished)
            trial = _run_trial(study, folds, ledger, finished, params, source)
            run += 1
            if callback:
                callback(_record(trial))

    used = finished[:num_trials]
    complete = [trial for trial in used if trial.state == TrialState.COMPLETE]
    chosen = _record(choose(complete))
    baseline = next((t.value for t in complete if t.user_attrs["source"] == "default"), None)
    if baseline is None:  # one trial only, and the previous best took it
        scores = list(_Scorer(texts, labels, seed).scores(DEFAULT))
        baseline = float(np.mean(scores))
        if chosen.score - baseline < MIN_GAIN:
            chosen = TrialRecord(chosen.number, baseline, False, "default", DEFAULT, scores)
    return TuningResult(
        params=chosen.params,
        score=chosen.score,
        fold_scores=chosen.fold_scores,
        baseline_score=baseline,
        source=chosen.source,
        trials_run=run,
        trials_pruned=len(used) - len(complete),
        trials_total=len(used),
        trials=[_record(trial) for trial in used],
    )


class _Folds(Protocol):
    """Fixed folds of the training rows, on which parameters are scored."""

    folds: int

    def scores(self, params: Params) -> Iterator[float]:
        """Yield the score of each fold in turn."""
        ...


class _Scorer:
    """Scores parameters on fixed folds of the training rows, on features that are computed once."""

    def __init__(self, texts: Sequence[str], labels: Sequence[str], seed: int) -> None:
        self._tags = np.array([str(label) for label in labels])
        self._folds = _cut(texts, labels, seed)
        self._features = FoldFeatures(texts, self._folds)
        self.folds = len(self._folds)

    def __call__(self, fold: int, params: Params) -> float:
        train, held_out = self._folds[fold]
        x_train, x_held_out = self._features(fold, params)
        with threadpool_limits(1):
            model = build_classifier(params).fit(x_train, self._tags[train])
            return weighted_f1(self._tags[held_out], model.predict(x_held_out))

    def scores(self, params: Params) -> Iterator[float]:
        return (self(fold, params) for fold in range(self.folds))


def _cut(texts: Sequence[str], labels: Sequence[str], seed: int) -> list[tuple[Rows, Rows]]:
    with warnings.catch_warnings():
        # a tag with fewer rows than folds is missing from some of them, which is no reason to stop
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return list(stratified_folds(texts, list(labels), n_splits=FOLDS, seed=seed))


def _folds(texts: Sequence[str], labels: Sequence[str], seed: int, workers: int, stack: ExitStack) -> _Folds:
    """Make what scores the folds: this process, or workers that end with the stack."""
    if usable(workers) == 1:
        return _Scorer(texts, labels, seed)
    return stack.enter_context(
        FoldWorkers(partial(_Scorer, texts, labels, seed), len(_cut(texts, labels, seed)), workers)
    )


def _run_trial(
    study: optuna.Study,
    folds: _Folds,
    ledger: Ledger,
    finished: Sequence[FrozenTrial],
    values: dict[str, Any],
    source: str,
) -> FrozenTrial:
    """Evaluate one set of parameters fold by fold, as a trial of the study."""
    complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    pruner = PairedPruner()
    if source == "sampled" and complete:
        pruner.incumbent = best_of(complete)
    study.pruner = pruner
    study.enqueue_trial(values, user_attrs={**ledger.key, "source": source})
    trial = study.ask(SPACE)
    params = Params.from_dict(trial.params)
    scores: list[float] = []
    try:
        for fold, score in enumerate(folds.scores(params)):
            scores.append(score)
            trial.report(math.fsum(scores) / len(scores), fold)
            if fold + 1 < folds.folds and trial.should_prune():
                trial.set_user_attr("fold_scores", scores)
                return study.tell(trial, state=TrialState.PRUNED)
        trial.set_user_attr("fold_scores", scores)
        return study.tell(trial, math.fsum(scores) / len(scores))
    except BaseException:
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        raise
