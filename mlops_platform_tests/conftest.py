"""What several tests share: a home in which the whole graph has run once, and the command as it is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from mlops_platform.settings import PROJECT_ROOT

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def run_mlops(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the `mlops` command in a process of its own, as a user would."""
    # nothing of the developer's own settings may reach a test
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_", "DBT_"))}
    return subprocess.run(
        [sys.executable, "-m", "mlops_platform.cli.main", *arguments],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        env={**clean, "MLOPS_HOME": str(home), "MLOPS_NUM_TRIALS": "2", **settings},
        timeout=300,
    )


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home in which `mlops run` has succeeded once, and what it printed; tests only read it."""
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    home, log = shared / "ran once", shared / "ran-once.log"
    with FileLock(shared / "ran-once.lock"):
        if not log.exists():
            answer = run_mlops(home, "run")
            assert answer.returncode == 0, answer.stdout + answer.stderr
            assert answer.stderr == ""
            log.write_text(answer.stdout, encoding="utf-8")
    return home, log.read_text(encoding="utf-8")
