"""Studies outlive the process that made them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from mlops_platform.errors import PlatformError
from mlops_platform.resources.study_store import StudyStore
from mlops_platform.settings import PROJECT_ROOT

BEGIN = """
import os, sys
from mlops_platform.resources.study_store import StudyStore

study = StudyStore(url=sys.argv[1]).open("search")
study.tell(study.ask(), 0.5)
study.ask()
os._exit(9)
"""


def test_a_study_goes_on_after_its_process_was_killed(tmp_path: Path) -> None:
    store = StudyStore(url=f"sqlite:///{tmp_path / 'a new folder' / 'stüdies.db'}")
    killed = subprocess.run([sys.executable, "-c", BEGIN, store.url], cwd=PROJECT_ROOT, check=False, timeout=120)
    assert killed.returncode == 9

    study = store.open("search")
    states = [trial.state for trial in study.get_trials()]
    assert states == [optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.RUNNING]
    study.tell(study.ask(), 0.75)
    # it maximizes
    assert store.open("search").best_value == 0.75
    assert store.open("another").get_trials() == []


def test_a_storage_that_is_damaged_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_bytes(b"no database " * 100)
    with pytest.raises(PlatformError, match=r"optuna.db cannot be opened .* move the file away") as caught:
        StudyStore(url=f"sqlite:///{tmp_path / 'optuna.db'}").open("search")
    assert "\n" not in str(caught.value)
