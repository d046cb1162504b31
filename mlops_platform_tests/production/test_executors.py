"""The executors, each really running jobs through `dagster job execute`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from mlops_platform.executor import build_executor
from mlops_platform.settings import PROJECT_ROOT, SAMPLE_DIR, Settings
from mlops_platform_tests.conftest import run_mlops
from mlops_platform_tests.production.job_process import REAL, SMALL, execute, materialized, run_events, without_seconds


@pytest.mark.parametrize("executor", ["in_process", "multiprocess"])
def test_steps_run_where_they_should_and_pass_values_on(tmp_path: Path, executor: str) -> None:
    code, run_pid, said = execute(tmp_path, executor, SMALL, "both")
    assert code == 0, said
    made = materialized(run_events(tmp_path))
    first, second = made["first"]["pid"], made["second"]["pid"]
    # the value came through a file, whichever process wrote it
    assert made["second"]["upstream_pid"] == first
    if executor == "in_process":
        assert first == second == run_pid
    else:
        assert len({first, second, run_pid}) == 3


def test_dataops_runs_in_other_processes_on_one_duckdb_file(tmp_path: Path) -> None:
    code, _, said = execute(tmp_path, "multiprocess", REAL, "dataops")
    assert code == 0, said
    events = run_events(tmp_path)
    assert set(materialized(events)) >= {"projects", "tags", "labeled_projects", "unlabeled_projects"}
    checks = [
        event.asset_check_evaluation_data for event in events if event.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    assert checks
    assert all(check.passed for check in checks)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as warehouse:
        rows = "select count(*) from mlops_course."
        assert warehouse.sql(f"{rows}labeled_projects").fetchall() == warehouse.sql(f"{rows}tags").fetchall() != [(0,)]


def test_what_lies_behind_a_failed_blocking_check_does_not_run(tmp_path: Path) -> None:
    code, _, said = execute(tmp_path, "multiprocess", SMALL, "guarded")
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


@pytest.mark.parametrize("name", ["in_process", "multiprocess", "celery", "k8s"])
@pytest.mark.parametrize("env", ["local", "production"])
def test_every_executor_can_be_made(tmp_path: Path, name: str, env: str) -> None:
    made = build_executor(Settings(home=tmp_path, executor=name, env=env))
    assert made.name == name


def _step_pids(home: Path) -> dict[str, int]:
    """The process of each step of the latest run, as the executor has noted it in the storage."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        (run,) = instance.get_runs(limit=1)
        return {
            str(entry.dagster_event.step_key): int(str(entry.dagster_event.engine_event_data.metadata["pid"].value))
            for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)
            if entry.dagster_event is not None
        }


def test_mlops_run_obeys_the_executor(tmp_path: Path) -> None:
    """What a user sees is what the steps would say in this process; their own chatter goes to the log."""
    here = run_mlops(tmp_path / "here", "run", "dataops")
    home = tmp_path / "apart"
    apart = run_mlops(home, "run", "dataops", MLOPS_EXECUTOR="multiprocess")
    assert (apart.returncode, apart.stderr) == (0, "")
    assert without_seconds(apart.stdout, home) == without_seconds(here.stdout, tmp_path / "here")
    assert "44 passed, 0 failed" in apart.stdout
    assert len(set(_step_pids(home).values())) == 9
    assert (home / "logs" / "run.log").read_text()

    tags = (SAMPLE_DIR / "tags.csv").read_text().replace(",mlops", ",gardening")
    (tmp_path / "tags.csv").write_text(tags)
    failed = run_mlops(home, "run", "dataops", MLOPS_EXECUTOR="multiprocess", MLOPS_TAGS_URI=str(tmp_path / "tags.csv"))
    assert failed.returncode == 1
    assert failed.stderr.startswith("mlops: The run failed: tags: tag_to_be_in_set (error) - ")
    assert failed.stderr.count("\n") == 1
    lines = [line.split() for line in failed.stdout.splitlines()]
    assert ["✗", "tags_expectations"] in lines
    assert ["-", "transform", "not", "run"] in lines

    (tmp_path / "config.yaml").write_text("ops: {nobody: {config: {size: 1}}}")
    refused = run_mlops(
        home, "run", "dataops", "--config", str(tmp_path / "config.yaml"), MLOPS_EXECUTOR="multiprocess"
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("mlops: The run config does not fit the job: ")


def _disturbed(home: Path, step: str, disturb: Callable[[int], None]) -> tuple[int, str]:
    """Run `mlops run dataops`, and do something once a step has begun; returns the exit code and what was said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_platform.cli.main", "run", "dataops"],
        cwd=PROJECT_ROOT,
        env={**os.environ, "MLOPS_HOME": str(home), "MLOPS_EXECUTOR": "multiprocess"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if f"✓ {step} " in line:
            disturb(process.pid)
    code = process.wait(timeout=60)
    deadline = time.monotonic() + 30
    while left := _processes(process.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    return code, said


def _processes(session: int) -> str:
    """What still runs of a session; a process that ended and waits for its parent to notice does not."""
    found = subprocess.run(["ps", "-o", "stat=,args=", "-s", str(session)], capture_output=True, text=True, check=False)
    return "\n".join(line for line in found.stdout.splitlines() if not line.startswith("Z"))


def test_an_interrupt_stops_the_steps_in_other_processes(tmp_path: Path) -> None:
    """As a terminal sends it: to every process of the group."""

    def interrupt(group: int) -> None:
        time.sleep(1)
        os.killpg(group, signal.SIGINT)

    code, said = _disturbed(tmp_path, "tags", interrupt)
    assert code == 130, said
    assert said.splitlines()[-1].startswith("mlops: interrupted; what was there before is kept")
    assert "Traceback" not in said
    assert "transform                                  not run" in said
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        (run,) = instance.get_runs()
        assert run.is_finished
    assert run_mlops(tmp_path, "run", "dataops", MLOPS_EXECUTOR="multiprocess").returncode == 0


def test_a_step_whose_process_is_killed_is_told_in_a_sentence(tmp_path: Path) -> None:
    """As the system does when memory runs out."""

    def kill(_group: int) -> None:
        deadline = time.monotonic() + 30
        while "projects_expectations" not in (pids := _step_pids(tmp_path)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(pids["projects_expectations"], signal.SIGKILL)

    code, said = _disturbed(tmp_path, "tags", kill)
    assert code == 1, said
    assert said.splitlines()[-1].startswith("mlops: The run failed: projects_expectations: its process died;")
    assert "  - projects_expectations" not in said


def test_kubernetes_is_for_runs_that_dagster_launches(tmp_path: Path) -> None:
    refused = run_mlops(tmp_path, "run", "dataops", MLOPS_EXECUTOR="k8s")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("mlops: MLOPS_EXECUTOR=k8s is for runs that Dagster launches")
    assert not (tmp_path / "dagster").exists()
