"""The executors, each really running jobs through `dagster job execute`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from mlops_platform.executors import build_executor
from mlops_platform.settings import PROJECT_ROOT, Settings

SMALL = "mlops_platform_tests.production.small_graph"
REAL = "mlops_platform.definitions"
SECONDS = 500


def _execute(home: Path, executor: str, graph: str, job: str, **more: str) -> tuple[int, int, str]:
    """Execute a job in a process of its own.

    Returns:
        Its exit code, its process id, and what it printed.
    """
    dagster_home = home / "dagster"
    dagster_home.mkdir(parents=True, exist_ok=True)
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
            **more,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, process.pid, said


def _events(home: Path) -> list[dg.DagsterEvent]:
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        (run,) = instance.get_runs()
        assert run.status is dg.DagsterRunStatus.SUCCESS
        return [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event is not None]


def _metadata(events: list[dg.DagsterEvent]) -> dict[str, dict[str, Any]]:
    return {
        event.asset_key.to_user_string(): {
            key: value.value for key, value in event.step_materialization_data.materialization.metadata.items()
        }
        for event in events
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key is not None
    }


@pytest.mark.parametrize("executor", ["in_process", "multiprocess", "dask"])
def test_steps_run_where_they_should_and_pass_values_on(tmp_path: Path, executor: str) -> None:
    code, run_pid, said = _execute(tmp_path, executor, SMALL, "both")
    assert code == 0, said
    made = _metadata(_events(tmp_path))
    first, second = made["first"]["pid"], made["second"]["pid"]
    # the value came through a file, whichever process wrote it
    assert made["second"]["upstream_pid"] == first
    if executor == "in_process":
        assert first == second == run_pid
    elif executor == "multiprocess":
        assert len({first, second, run_pid}) == 3
    else:
        # on a laptop there is one Dask worker
        assert first == second != run_pid


@pytest.mark.parametrize("executor", ["multiprocess", "dask"])
def test_dataops_runs_in_other_processes_on_one_duckdb_file(tmp_path: Path, executor: str) -> None:
    code, _, said = _execute(tmp_path, executor, REAL, "dataops")
    assert code == 0, said
    events = _events(tmp_path)
    assert set(_metadata(events)) >= {"projects", "tags", "labeled_projects", "unlabeled_projects"}
    checks = [
        event.asset_check_evaluation_data for event in events if event.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    assert checks
    assert all(check.passed for check in checks)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as warehouse:
        rows = "select count(*) from mlops_course."
        assert warehouse.sql(f"{rows}labeled_projects").fetchall() == warehouse.sql(f"{rows}tags").fetchall() != [(0,)]


@pytest.mark.parametrize("executor", ["multiprocess", "dask"])
def test_what_lies_behind_a_failed_blocking_check_does_not_run(tmp_path: Path, executor: str) -> None:
    code, _, said = _execute(tmp_path, executor, SMALL, "guarded")
    assert code == 1, said
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        (run,) = instance.get_runs()
        assert run.status is dg.DagsterRunStatus.FAILURE
        begun = {
            entry.dagster_event.step_key
            for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
            if entry.dagster_event is not None
        }
    assert begun == {"checked", "checked_is_good"}


def test_a_step_on_dask_is_tried_again(tmp_path: Path) -> None:
    code, _, said = _execute(tmp_path, "dask", SMALL, "flaky_job")
    assert code == 0, said
    kinds = [event.event_type_value for event in _events(tmp_path)]
    assert kinds.count("STEP_UP_FOR_RETRY") == 1
    assert kinds.count("STEP_SUCCESS") == 1


@pytest.mark.parametrize("name", ["in_process", "multiprocess", "dask", "k8s"])
@pytest.mark.parametrize("env", ["local", "production"])
def test_every_executor_can_be_made(tmp_path: Path, name: str, env: str) -> None:
    made = build_executor(Settings(home=tmp_path, executor=name, env=env))
    assert made.name == name
