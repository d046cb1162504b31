"""Dagster's storage and Optuna's studies in a real Postgres server, with the production dagster.yaml."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import optuna
import pytest
from optuna.trial import TrialState
from pydantic import SecretStr

from mlops_platform.cli.instance import PRODUCTION_FILE, RUN_TAG, close_killed_runs, open_instance
from mlops_platform.errors import PlatformError
from mlops_platform.ml.tuning.search import TuningResult, tune
from mlops_platform.resources.postgres import advisory_lock
from mlops_platform.resources.study_store import StudyStore
from mlops_platform.settings import PROJECT_ROOT, Settings
from mlops_platform_tests import retained
from mlops_platform_tests.ml.corpus import made_up

if TYPE_CHECKING:
    from mlops_platform_tests.production.postgres import Server

pytest_plugins = ["mlops_platform_tests.production.postgres"]

GRAPH = "mlops_platform_tests.production.small_graph"
TEXTS, LABELS = made_up(120, noise=0.25)
WAIT_SECONDS = 150.0


@pytest.fixture
def settings(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a new home and an empty database; the environment is as it was when the test is over."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("MLOPS_POSTGRES_URL", "")
    return Settings(home=tmp_path / "home", postgres_url=SecretStr(postgres.new_database()))


def _url(settings: Settings) -> str:
    assert settings.postgres_url is not None
    return settings.postgres_url.get_secret_value()


def _environment(settings: Settings) -> dict[str, str]:
    """What a process of its own is given; DAGSTER_HOME is there once the instance was opened."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_", "DBT_"))}
    return {
        **clean,
        "MLOPS_HOME": str(settings.home),
        "MLOPS_POSTGRES_URL": settings.optuna_storage,
        "DAGSTER_HOME": str(settings.dagster_home),
    }


def _until(condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


@dg.asset
def something() -> int:
    return 1


def test_a_run_is_stored_in_postgres_and_the_password_nowhere(postgres: Server, settings: Settings) -> None:
    with open_instance(settings) as instance:
        result = dg.materialize([something], instance=instance)
        assert result.success
        assert not instance.telemetry_enabled
        assert instance.run_retries_enabled
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 4
    # asked past Dagster
    events = postgres.query(
        _url(settings), f"select dagster_event_type from event_logs where run_id = '{result.run_id}'"
    )
    assert ("ASSET_MATERIALIZATION",) in events
    assert postgres.query(_url(settings), f"select status from runs where run_id = '{result.run_id}'") == [("SUCCESS",)]
    assert (settings.dagster_home / "dagster.yaml").read_text() == PRODUCTION_FILE.read_text()
    assert not list(settings.home.rglob("*.db"))
    for path in settings.home.rglob("*"):
        if path.is_file():
            assert postgres.password not in path.read_text(errors="replace")
    # another process finds it there
    with open_instance(settings) as instance:
        assert instance.get_run_by_id(result.run_id) is not None


@pytest.mark.parametrize("changes", [False, True])
def test_pruning_old_runs_changes_no_answer(postgres: Server, settings: Settings, changes: bool) -> None:
    with open_instance(settings) as instance:
        retained.fill_and_prune(instance, changes=changes)
        left = {run.run_id for run in instance.get_runs()}
    assert {run_id for (run_id,) in postgres.query(_url(settings), "select distinct run_id from event_logs")} == left


@contextmanager
def _daemon(settings: Settings, log: Path) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-m", GRAPH],
            cwd=PROJECT_ROOT,
            env=_environment(settings),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def test_two_runs_are_queued_and_share_a_pool(settings: Settings, tmp_path: Path) -> None:
    """Through the real daemon: both wait in the queue, both run at once, and one of them at a time has the slot."""
    finished = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    with open_instance(settings) as instance:
        instance.event_log_storage.set_concurrency_slots("warehouse", 1)
        for _ in range(2):
            subprocess.run(
                [sys.executable, "-m", "dagster", "job", "launch", "-m", GRAPH, "-j", "both"],
                cwd=PROJECT_ROOT,
                env=_environment(settings),
                check=True,
                capture_output=True,
            )
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.QUEUED}
        with _daemon(settings, tmp_path / "daemon.log"):
            _until(lambda: len(instance.get_runs(dg.RunsFilter(statuses=finished))) == 2)
        runs = instance.get_runs()
        assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 2, (tmp_path / "daemon.log").read_text()
        spans = []
        for run in runs:
            times = {
                entry.dagster_event.event_type: entry.timestamp
                for entry in instance.all_logs(run.run_id)
                if entry.dagster_event is not None and entry.dagster_event.step_key == "first"
            }
            spans.append((times[dg.DagsterEventType.STEP_START], times[dg.DagsterEventType.STEP_SUCCESS]))
        one, other = sorted(spans)
        assert one[1] <= other[0]
        assert instance.event_log_storage.get_concurrency_info("warehouse").claimed_slots == []


KILLED = f"""
import sys, time
import dagster as dg

@dg.asset(pool="warehouse")
def slow():
    print("holding", flush=True)
    time.sleep(600)

with dg.DagsterInstance.get() as instance:
    dg.materialize([slow], instance=instance, tags={{"{RUN_TAG}": "run"}})
"""


def test_a_killed_run_gives_its_slot_back(settings: Settings) -> None:
    with open_instance(settings) as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots("warehouse", 1)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED], env=_environment(settings), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert "holding" in process.stdout.readline()
        assert storage.get_concurrency_info("warehouse").active_slot_count == 1
        process.kill()
        process.communicate()
        assert storage.get_concurrency_info("warehouse").active_slot_count == 1
        assert close_killed_runs(instance) == 1
        assert storage.get_concurrency_info("warehouse").active_slot_count == 0


def _search(store: StudyStore, num_trials: int = 6, workers: int = 1) -> TuningResult:
    with store.hold("optimization") as study:
        return tune(study, TEXTS, LABELS, num_trials=num_trials, seed=0, data_version="v1", workers=workers)


def _scores(result: TuningResult) -> list[tuple[object, ...]]:
    return [(t.score, t.pruned, t.source, t.params, t.fold_scores) for t in result.trials]


def test_a_search_in_postgres_is_that_in_memory_and_workers_share_it(settings: Settings) -> None:
    store = StudyStore(url=settings.optuna_storage)
    in_memory = tune(optuna.create_study(direction="maximize"), TEXTS, LABELS, num_trials=6, seed=0, data_version="v1")
    assert _scores(_search(store)) == _scores(in_memory)
    assert _search(store, num_trials=8, workers=3).trials_run == 2
    assert _search(store, num_trials=8, workers=2).trials_run == 0


SEARCH = """
import sys
from mlops_platform.resources.study_store import StudyStore
from mlops_platform_tests.production import test_postgres as t

print(t._search(StudyStore(url=sys.stdin.read())).trials_run)
"""


def test_two_searches_at_once_take_turns(settings: Settings) -> None:
    """The one that comes second finds the trials of the first; neither fails a trial of the other."""
    searches = [
        subprocess.Popen(
            [sys.executable, "-c", SEARCH], cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for search in searches:
        assert search.stdin is not None
        search.stdin.write(settings.optuna_storage)
        search.stdin.close()
        search.stdin = None
    ran = [int(search.communicate(timeout=WAIT_SECONDS)[0]) for search in searches]
    assert sorted(ran) == [0, 6]
    states = [trial.state for trial in StudyStore(url=settings.optuna_storage).open("optimization").trials]
    assert len(states) == 6
    assert TrialState.FAIL not in states


def test_the_lock_of_a_killed_search_is_free(settings: Settings) -> None:
    held = (
        "import sys, time\n"
        "from mlops_platform.resources.postgres import advisory_lock\n"
        "with advisory_lock(sys.stdin.read(), 'study s'):\n"
        "    print('held', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", held], cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(settings.optuna_storage)
    process.stdin.close()
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    began = time.monotonic()
    with advisory_lock(settings.optuna_storage, "study s"):
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("first", ["dagster", "optuna"])
def test_dagster_and_optuna_share_a_database(postgres: Server, settings: Settings, first: str) -> None:
    """Both keep a table alembic_version: in one schema, whichever comes second fails."""

    def open_dagster() -> None:
        with open_instance(settings) as instance:
            assert dg.materialize([something], instance=instance).success

    def open_optuna() -> None:
        study = StudyStore(url=settings.optuna_storage).open("s")
        study.tell(study.ask(), 0.5)

    for opened in (open_dagster, open_optuna) if first == "dagster" else (open_optuna, open_dagster):
        opened()
    open_dagster()
    assert StudyStore(url=settings.optuna_storage).open("s").best_value == 0.5
    schemas = postgres.query(
        _url(settings), "select table_schema from information_schema.tables where table_name = 'alembic_version'"
    )
    assert sorted(schemas) == [("optuna",), ("public",)]


def _refused(postgres: Server, kind: str) -> tuple[str, str]:
    if kind == "wrong password":
        return postgres.url("postgres", password="hunter2@x"), "password authentication failed"  # noqa: S106
    if kind == "no server":
        return "postgresql://mlops:hunter2@127.0.0.1:9/x", "refused"
    if kind == "no database":
        return postgres.url("nowhere"), 'database "nowhere" does not exist'
    if kind == "no port":
        return "postgresql://mlops:hunter2@x@127.0.0.1:hunter2/x", "is no address of the form"
    return "postgresql+asyncpg://mlops:hunter2@127.0.0.1/x", "is no address of the form"


@pytest.mark.parametrize("kind", ["wrong password", "no server", "no database", "no port", "driver"])
def test_what_cannot_be_opened_is_a_sentence_without_the_password(
    postgres: Server, settings: Settings, kind: str
) -> None:
    url, says = _refused(postgres, kind)
    refused = settings.model_copy(update={"postgres_url": SecretStr(url)})
    for opening in (lambda: StudyStore(url=refused.optuna_storage).open("s"), lambda: _enter(refused)):
        began = time.monotonic()
        with pytest.raises(PlatformError, match=says) as caught:
            opening()
        assert time.monotonic() - began < 15
        said = str(caught.value)
        assert "MLOPS_POSTGRES_URL" in said
        assert "\n" not in said
        assert "hunter2" not in said
        assert postgres.password not in said


def _enter(settings: Settings) -> None:
    with open_instance(settings):
        pass


def test_a_server_that_says_nothing_is_given_up(settings: Settings) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://mlops:hunter2@127.0.0.1:{silent.getsockname()[1]}/x"
        began = time.monotonic()
        with pytest.raises(PlatformError, match=r"timeout expired.* set MLOPS_POSTGRES_URL"):
            _enter(settings.model_copy(update={"postgres_url": SecretStr(url)}))
        assert time.monotonic() - began < 25
