"""Choosing the model's parameters with Optuna: by cross-validation over the training rows, resumable.

Runs and scores trials; which trials count, what is tried next and which one wins is `ml.trials`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from mlops_platform.ml.confirmation import CONFIDENCE, Confirmation, confirm
from mlops_platform.ml.encoder import Encoder
from mlops_platform.ml.model import Params, check_classes, default_of
from mlops_platform.ml.scoring import FOLDS, Scorer, cut
from mlops_platform.ml.trials import MIN_GAIN, Ledger, choose
from mlops_platform.ml.workers import FoldWorkers, usable

KEPT_SHARE = 0.1  # at 0.2, three searches of 200 trials saved .38 to .60 of the folds; at 0.1, .67 to .70
PRUNE_AFTER = 4


def behind(scores: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Say whether a trial should stop: whether too many had a better mean over the folds that it has seen.

    Compared on the same held-out rows, the spread between folds, larger than the difference between parameters,
    cancels. To be among the best and not to be near the best is what is asked, since the best so far may owe its
    first folds to luck.

    Args:
        scores: Of the folds that the trial has seen.
        others: Scores of the trials before it, each of the folds that it reached.
    """
    folds = len(scores)
    means = [math.fsum(each[:folds]) for each in others if len(each) >= folds]
    better = sum(each > math.fsum(scores) for each in means)
    return len(means) >= PRUNE_AFTER and better > KEPT_SHARE * len(means)


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
        confirmation: How much better the best trial is than the default on folds that the search has not seen; None
            where it was not better enough on those of the search to be asked.
        verdict: A sentence that says whether the default was kept, and why.
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
    confirmation: Confirmation | None
    verdict: str
    trials_run: int
    trials_pruned: int
    trials_total: int
    trials: list[TrialRecord]

    @property
    def folds_saved(self) -> float:
        """Share of the fold evaluations that pruning saved."""
        return 1 - sum(len(trial.fold_scores) for trial in self.trials) / (FOLDS * len(self.trials))


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
    encoder: Encoder | None = None,
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
        encoder: Makes the sentence vectors, where the model shall have them: each text is encoded once.
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

    ledger = Ledger(study, data_version, seed, encoder.digest if encoder else None)
    ledger.discard_unfinished()
    finished = ledger.finished()
    make = partial(Scorer, texts, labels, seed, None if encoder is None else encoder.encode(texts))
    folds: _Folds | None = None
    run = 0
    with ExitStack() as stack:
        while len(finished) < num_trials:
            folds = folds or _folds(make, texts, labels, seed, workers, stack)
            params, source = ledger.next_candidate(finished)
            finished.append(_run_trial(folds, ledger, finished, params, source))
            run += 1
            if callback:
                callback(_record(finished[-1]))

    used = finished[:num_trials]
    complete = [trial for trial in used if trial.state == TrialState.COMPLETE]
    chosen, baseline, confirmation = _conclude(complete, make, default_of(encoder), seed)
    return TuningResult(
        params=chosen.params,
        score=chosen.score,
        fold_scores=chosen.fold_scores,
        baseline_score=baseline.score,
        source=chosen.source,
        confirmation=confirmation,
        verdict=_verdict(max(trial.values[0] for trial in complete) - baseline.score, confirmation),
        trials_run=run,
        trials_pruned=len(used) - len(complete),
        trials_total=len(used),
        trials=[_record(trial) for trial in used],
    )


def _conclude(
    complete: Sequence[FrozenTrial], make: Callable[[], Scorer], otherwise: Params, seed: int
) -> tuple[TrialRecord, TrialRecord, Confirmation | None]:
    """Choose between the best trial and the default; what is better only on the folds of the search is not better."""
    chosen = _record(choose(complete))
    default = next((_record(trial) for trial in complete if trial.user_attrs["source"] == "default"), None)
    if chosen == default:
        return chosen, chosen, None
    scorer = make()
    if default is None:  # one trial only, and the previous best took it
        scores = list(scorer.scores(otherwise))
        default = TrialRecord(chosen.number, math.fsum(scores) / len(scores), False, "default", otherwise, scores)
        if chosen.score - default.score < MIN_GAIN:
            return default, default, None

    def differences(fresh: int) -> Iterator[float]:
        folds = scorer.anew(fresh)
        return (a - b for a, b in zip(folds.scores(chosen.params), folds.scores(otherwise), strict=True))

    confirmation = confirm(differences, scorer.folds, seed)
    return (chosen if confirmation.better else default), default, confirmation


def _verdict(gain: float, confirmation: Confirmation | None) -> str:
    """Say in a sentence whether the default was kept, and why."""
    if confirmation is None:
        return (
            f"The default is kept: the best trial gains {max(gain, 0.0):.4f} F1 on the folds of the search, and less "
            f"than {MIN_GAIN} is noise."
        )
    said = (
        f"{confirmation.difference:+.4f} F1 on {confirmation.folds} fresh folds "
        f"({CONFIDENCE:.0%} interval {confirmation.low:+.4f} to {confirmation.high:+.4f})"
    )
    if confirmation.better:
        return f"The tuned parameters are taken: against the default they gain {said}."
    return f"The default is kept: the tuned parameters gain {gain:.4f} on the folds of the search, but {said}."


class _Folds(Protocol):
    """Fixed folds of the training rows, on which parameters are scored."""

    folds: int

    def scores(self, params: Params) -> Iterator[float]:
        """Yield the score of each fold in turn."""
        ...


def _folds(
    make: Callable[[], Scorer], texts: Sequence[str], labels: Sequence[str], seed: int, workers: int, stack: ExitStack
) -> _Folds:
    """Make what scores the folds: this process, or workers that end with the stack."""
    if usable(workers) == 1:
        return make()
    return stack.enter_context(FoldWorkers(make, len(cut(texts, labels, seed)), workers))


def _run_trial(
    folds: _Folds, ledger: Ledger, finished: Sequence[FrozenTrial], values: dict[str, Any], source: str
) -> FrozenTrial:
    """Evaluate one set of parameters fold by fold; the trial enters the study when it has finished."""
    others = [trial.user_attrs["fold_scores"] for trial in finished]
    started = datetime.now()
    scores: list[float] = []
    pruned = False
    for score in folds.scores(Params.from_dict(values)):
        scores.append(score)
        if source == "sampled" and len(scores) < folds.folds and behind(scores, others):
            pruned = True
            break
    return ledger.record(values, source, scores, pruned=pruned, started=started)
