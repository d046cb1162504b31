"""Several trials of a search at once: nothing is lost, and a killed search is resumed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlops_platform.ml.tuning.search import TrialRecord, TuningResult, tune
from mlops_platform.resources.study_store import StudyStore
from mlops_platform.settings import PROJECT_ROOT
from mlops_platform_tests.ml.corpus import made_up

TEXTS, LABELS = made_up(120, noise=0.25)
TRIALS = 8


def _search(store: StudyStore, workers: int, callback: object = None) -> TuningResult:
    arguments = {"num_trials": TRIALS, "seed": 0, "data_version": "v1", "workers": workers, "callback": callback}
    with store.hold("optimization") as study:
        return tune(study, TEXTS, LABELS, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    return StudyStore(url=f"sqlite:///{tmp_path / 'optuna.db'}")


def test_two_workers_share_a_study(store: StudyStore) -> None:
    threads: set[int] = set()

    def note(_: TrialRecord, best: float) -> None:
        assert 0 < best <= 1
        threads.add(threading.get_ident())

    result = _search(store, 2, note)
    assert (result.trials_run, len(result.trials)) == (TRIALS, TRIALS)
    assert len(threads) == 2
    assert len({repr(trial.params) for trial in result.trials}) == TRIALS
    assert sum(trial.source == "default" for trial in result.trials) == 1
    assert _search(store, 2).trials_run == 0
    # the default is scored as one worker scores it
    alone = _search(StudyStore(url=store.url.replace("optuna.db", "alone.db")), 1)
    assert result.baseline_score == pytest.approx(alone.baseline_score, abs=1e-12)


KILLED = """
import os, signal, sys
from mlops_platform.resources.study_store import StudyStore
from mlops_platform_tests.production import test_tuning_workers as t

def callback(trial, best):
    if trial.number == 3:
        os.kill(os.getpid(), signal.SIGKILL)

t._search(StudyStore(url=sys.argv[1]), 2, callback)
"""


def test_a_killed_search_is_resumed(store: StudyStore) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, store.url], cwd=PROJECT_ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    with store.hold("optimization") as study:
        done = len(study.trials)
    assert 4 <= done < TRIALS
    resumed = _search(store, 2)
    assert resumed.trials_run == TRIALS - done
    assert len(resumed.trials) == TRIALS
