"""`dagster job execute` in a subprocess, and the events that it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.settings import PROJECT_ROOT

SMALL = "mlops_platform_tests.production.small_graph"
REAL = "mlops_platform.definitions"
SECONDS = 500


@contextmanager
def started(home: Path, executor: str, graph: str, job: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Start a job in a subprocess, on the instance below a home; it is killed at the end."""
    dagster_home = home / "dagster"
    dagster_home.mkdir(parents=True, exist_ok=True)
    if not (dagster_home / "dagster.yaml").exists():
        (dagster_home / "dagster.yaml").write_text((PROJECT_ROOT / "dagster.yaml").read_text())
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_", "DBT_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster", "job", "execute", "-m", graph, "-j", job],
        cwd=PROJECT_ROOT,
        env={
            **clean,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "MLOPS_HOME": str(home),
            "DAGSTER_HOME": str(dagster_home),
            "MLOPS_EXECUTOR": executor,
            **settings,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()


def execute(home: Path, executor: str, graph: str, job: str, **settings: str) -> tuple[int, int, str]:
    """Execute a job in a subprocess.

    Returns:
        Its exit code, its process id, and what it printed.
    """
    with started(home, executor, graph, job, **settings) as process:
        output, _ = process.communicate(timeout=SECONDS)
    return process.returncode, process.pid, output


def latest_run(home: Path) -> tuple[dg.DagsterRunStatus, list[dg.EventLogEntry]]:
    """Return the status of the latest run below a home, and its log entries that are events."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        (run,) = instance.get_runs(limit=1)
        return run.status, [entry for entry in instance.all_logs(run.run_id) if entry.dagster_event is not None]


def run_events(home: Path) -> list[dg.DagsterEvent]:
    """Return the events of the latest run, which must have succeeded."""
    status, entries = latest_run(home)
    assert status is dg.DagsterRunStatus.SUCCESS
    return [entry.get_dagster_event() for entry in entries]


def materialized(run_events: list[dg.DagsterEvent]) -> dict[str, dict[str, Any]]:
    """Return the metadata of each materialized asset."""
    return {
        event.asset_key.to_user_string(): {
            key: value.value for key, value in event.step_materialization_data.materialization.metadata.items()
        }
        for event in run_events
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key is not None
    }


def without_seconds(printed: str, home: Path) -> list[str]:
    """Return the lines that `mlops run` printed, without its home and what differs from run to run."""
    lines = printed.replace(str(home), "HOME").splitlines()
    return [" ".join(word for word in line.split() if "." not in word) for line in lines if "seconds" not in line]
