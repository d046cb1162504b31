"""Workers of a search die, and their parent dies: nothing is left over, and the search ends in the same place."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from mlops_platform.ml.tuning import TrialRecord, TuningResult, tune
from mlops_platform.ml.workers import usable
from mlops_platform.resources.studies import StudyStore
from mlops_platform.settings import PROJECT_ROOT
from mlops_platform_tests.ml.corpus import made_up

TEXTS, LABELS = made_up(120, noise=0.25)
TRIALS = 8


def _search(study: optuna.Study, workers: int, callback: object = None) -> TuningResult:
    arguments = {"num_trials": TRIALS, "seed": 0, "data_version": "v1", "workers": workers, "callback": callback}
    return tune(study, TEXTS, LABELS, **arguments)  # type: ignore[arg-type]


def _scores(result: TuningResult) -> list[tuple[object, ...]]:
    return [(t.score, t.pruned, t.source, t.params, t.fold_scores) for t in result.trials]


@pytest.fixture(scope="module")
def alone() -> TuningResult:
    return _search(optuna.create_study(direction="maximize"), workers=1)


def test_more_workers_than_folds_find_the_same_and_end_with_the_search(alone: TuningResult) -> None:
    seen: set[int | None] = set()

    def look(_: TrialRecord) -> None:
        seen.update(child.pid for child in multiprocessing.active_children())

    many = _search(optuna.create_study(direction="maximize"), workers=9, callback=look)
    assert _scores(many) == _scores(alone)
    assert len(seen) == 5
    _until_gone({pid for pid in seen if pid is not None})


def test_a_worker_that_dies_is_a_sentence_and_the_next_search_goes_on(alone: TuningResult) -> None:
    study = optuna.create_study(direction="maximize")

    def kill_one(trial: TrialRecord) -> None:
        if trial.number == 2:
            victim = multiprocessing.active_children()[0]
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            victim.join()

    with pytest.raises(ValueError, match=r"tuning worker died.* fewer workers"):
        _search(study, workers=2, callback=kill_one)
    assert len(study.trials) == 3
    assert all(trial.state.is_finished() for trial in study.trials)
    assert _scores(_search(study, workers=2)) == _scores(alone)


KILLED = """
import multiprocessing, os, signal, sys
from mlops_platform.resources.studies import StudyStore
from mlops_platform_tests.production import test_tuning_workers as t

def callback(trial):
    if trial.number == 2:
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

with StudyStore(url=sys.argv[1]).hold("optimization") as study:
    t._search(study, 3, callback)
"""


def test_a_killed_search_leaves_no_worker_and_is_resumed(alone: TuningResult, tmp_path: Path) -> None:
    store = StudyStore(url=f"sqlite:///{tmp_path / 'optuna.db'}")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, store.url], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    workers = {int(pid) for pid in killed.stdout.split()}
    assert len(workers) == 3
    _until_gone(workers)
    with store.hold("optimization") as study:
        resumed = _search(study, workers=2)
    assert resumed.trials_run == TRIALS - 3
    assert _scores(resumed) == _scores(alone)


def _until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 30
    while left := [pid for pid in pids if _lives(pid)]:
        assert time.monotonic() < deadline, f"workers live on: {left}"
        time.sleep(0.2)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _in_daemon(answers: multiprocessing.Queue[int]) -> None:
    answers.put(usable(4))


def test_a_process_that_may_have_no_children_works_alone() -> None:
    """A worker of Dask is such a process."""
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=_in_daemon, args=(answers,), daemon=True)
    process.start()
    assert answers.get(timeout=60) == 1
    process.join()
    assert usable(4) == 4
