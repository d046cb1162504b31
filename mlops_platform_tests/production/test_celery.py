"""Steps on Celery workers: a real Redis and real workers, driven by `dagster job execute` and `mlops run`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.cli.doctor import Finding, evaluate, services
from mlops_platform.settings import PROJECT_ROOT, Settings
from mlops_platform_tests.conftest import run_mlops
from mlops_platform_tests.production.job_process import (
    SMALL,
    execute,
    latest_run,
    materialized,
    run_events,
    started,
    without_seconds,
)
from mlops_platform_tests.production.postgres import free_port
from mlops_platform_tests.production.redis_server import PASSWORD, Workers, running_redis, wait_until

INSTANCE = "telemetry: {enabled: false}\nconcurrency: {pools: {default_limit: 1, granularity: op}}\n"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_redis(tmp_path_factory.mktemp("redis")) as address:
        yield address


@pytest.fixture(scope="module")
def two_workers(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Two workers on an instance whose pools have one slot."""
    workers = Workers(tmp_path_factory.mktemp("two workers"), broker)
    (workers.home / "dagster").mkdir()
    (workers.home / "dagster" / "dagster.yaml").write_text(INSTANCE)
    workers.start("one", "two")
    yield workers
    workers.stop()


@pytest.fixture
def small(two_workers: Workers) -> Workers:
    (two_workers.home / "stalled").unlink(missing_ok=True)
    return two_workers


def _execute(workers: Workers, job: str) -> tuple[int, str]:
    code, _, output = execute(workers.home, "celery", SMALL, job, MLOPS_CELERY_BROKER=workers.broker)
    assert PASSWORD not in output
    return code, output


def _workers_of_steps(home: Path) -> dict[str, list[str]]:
    """Return the workers that started each step of the latest run, in order."""
    workers: dict[str, list[str]] = {}
    for event in run_events(home):
        if event.is_engine_event and "Celery worker" in event.engine_event_data.metadata:
            worker = str(event.engine_event_data.metadata["Celery worker"].value)
            workers.setdefault(str(event.step_key), []).append(worker)
    return workers


def _stalled_process(home: Path) -> int:
    """Return the process of the step `stalls_once`, once it stalls."""
    marker = home / "stalled"
    wait_until(lambda: marker.exists() and marker.read_text() != "", "The step did not start")
    return int(marker.read_text())


def test_steps_run_on_both_workers_and_one_whose_process_is_killed_is_started_again(small: Workers) -> None:
    """As when memory runs out."""
    job = "stalls_once_beside_both"
    with started(small.home, "celery", SMALL, job, MLOPS_CELERY_BROKER=small.broker) as run:
        os.kill(_stalled_process(small.home), signal.SIGKILL)
        output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    workers = _workers_of_steps(small.home)
    assert {name for names in workers.values() for name in names} == {"one@test", "two@test"}
    assert {step: len(names) for step, names in workers.items()} == {"stalls_once": 2, "first": 1, "second": 1}
    # the value came through a file, whichever worker wrote it
    metadata = materialized(run_events(small.home))
    assert metadata["second"]["upstream_pid"] == metadata["first"]["pid"]


def test_a_step_whose_process_always_dies_fails_the_run(small: Workers) -> None:
    code, output = _execute(small, "dies_job")
    assert code == 1, output
    status, _ = latest_run(small.home)
    assert status is dg.DagsterRunStatus.FAILURE
    assert "WorkerLostError" in output


def test_two_steps_of_a_pool_with_one_slot_never_overlap(small: Workers) -> None:
    code, output = _execute(small, "rivals")
    assert code == 0, output
    _, entries = latest_run(small.home)
    times = {(entry.step_key, entry.get_dagster_event().event_type): entry.timestamp for entry in entries}
    spans = [
        (times[step, dg.DagsterEventType.STEP_START], times[step, dg.DagsterEventType.STEP_SUCCESS])
        for step in ("first", "rival")
    ]
    (_, end), (begin, _) = sorted(spans)
    assert end <= begin


def test_a_failed_blocking_check_stops_what_is_downstream(small: Workers) -> None:
    code, output = _execute(small, "guarded")
    assert code == 1, output
    status, entries = latest_run(small.home)
    assert status is dg.DagsterRunStatus.FAILURE
    steps = {entry.step_key for entry in entries if entry.get_dagster_event().is_step_start}
    assert steps == {"checked", "checked_is_good"}


def test_a_failed_step_is_retried_by_its_policy(small: Workers) -> None:
    code, output = _execute(small, "flaky_job")
    assert code == 0, output
    kinds = [event.event_type_value for event in run_events(small.home)]
    assert kinds.count("STEP_UP_FOR_RETRY") == 1
    assert kinds.count("STEP_SUCCESS") == 1


def test_doctor_names_the_workers_or_the_broker_that_does_not_answer(small: Workers) -> None:
    def celery(broker: str) -> Finding:
        settings = Settings(env="production", executor="celery", celery_broker=broker)
        (check,) = [check for check in services(settings) if check.name == "Celery"]
        return evaluate(check, settings)

    assert celery(small.broker) == Finding("Celery", "ok", "workers one@test, two@test")
    closed = celery(f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0")
    assert closed.state == "missing"
    assert "(MLOPS_CELERY_BROKER) cannot be reached" in closed.detail
    assert PASSWORD not in closed.detail


def test_a_step_of_a_killed_worker_goes_to_the_worker_that_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as broker:
        workers = Workers(tmp_path, broker)
        try:
            workers.start("lost", MLOPS_CELERY_REDELIVERY_SECONDS="20")
            with started(tmp_path, "celery", SMALL, "stalls_once_job", MLOPS_CELERY_BROKER=broker) as run:
                _stalled_process(tmp_path)
                workers.kill("lost")
                workers.start("replacement", MLOPS_CELERY_REDELIVERY_SECONDS="20")
                output, _ = run.communicate(timeout=240)
        finally:
            workers.stop()
    assert run.returncode == 0, output
    assert _workers_of_steps(tmp_path) == {"stalls_once": ["lost@test", "replacement@test"]}


def test_mlops_run_on_a_worker_prints_what_it_prints_without(tmp_path: Path) -> None:
    here = run_mlops(tmp_path / "here", "run", "dataops")
    home = tmp_path / "celery"
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as broker:
        celery = {"MLOPS_EXECUTOR": "celery", "MLOPS_CELERY_BROKER": broker}
        refused = run_mlops(home, "run", "dataops", **celery)
        assert refused.returncode == 1
        assert refused.stderr.startswith("mlops: No Celery worker answers on redis://127.0.0.1:")
        assert refused.stderr.endswith("start one with `celery --app mlops_platform.celery_app worker`.\n")

        home.mkdir(exist_ok=True)
        workers = Workers(home, broker)
        try:
            workers.start("one")
            on_worker = run_mlops(home, "run", "dataops", **celery)
            interrupted = _interrupted(home, celery)
            again = run_mlops(home, "run", "dataops", **celery)
        finally:
            workers.stop()
    unreachable = run_mlops(home, "run", "dataops", **celery)
    assert (on_worker.returncode, on_worker.stderr) == (0, "")
    assert without_seconds(on_worker.stdout, home) == without_seconds(here.stdout, tmp_path / "here")
    assert interrupted[0] == 130, interrupted[1]
    assert interrupted[1].splitlines()[-1].startswith("mlops: interrupted; earlier results are intact")
    assert again.returncode == 0, again.stderr
    assert unreachable.returncode == 1
    assert "(MLOPS_CELERY_BROKER) cannot be reached" in unreachable.stderr
    assert PASSWORD not in refused.stderr + on_worker.stdout + unreachable.stderr


def _interrupted(home: Path, settings: dict[str, str]) -> tuple[int, str]:
    """Interrupt `mlops run` as a terminal does, after its first step; returns the exit code and the output."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_platform.cli.main", "run", "dataops"],
        cwd=PROJECT_ROOT,
        env={**os.environ, "MLOPS_HOME": str(home), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if "✓ tags " in line:
            os.killpg(process.pid, signal.SIGINT)
    return process.wait(timeout=60), output
