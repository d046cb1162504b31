"""The Dagster instance that the commands use, and what a killed process left in it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import PlatformError
from mlops_platform.packages import require_packages
from mlops_platform.settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    import dagster as dg

RUN_TAG = "mlops/command"
LOCAL_FILE = PROJECT_ROOT / "dagster.yaml"
PRODUCTION_FILE = PROJECT_ROOT / "deploy" / "dagster.yaml"
POSTGRES_VARIABLE = "MLOPS_POSTGRES_URL"  # as PRODUCTION_FILE names it


def prepare_home(settings: Settings) -> None:
    """Make DAGSTER_HOME with the project's dagster.yaml, unless the user has set another.

    Where Postgres is set, it is the production file, which takes the address from the environment.

    Args:
        settings: Where it is, and what it is stored in.

    Raises:
        PlatformError: The folder can't be written.
    """
    if settings.postgres_url is not None:
        # for dagster.yaml, and with its driver; the setting may have come from an .env file
        os.environ[POSTGRES_VARIABLE] = settings.optuna_storage
    if os.environ.get("DAGSTER_HOME"):
        return
    home = settings.dagster_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LOCAL_FILE if settings.postgres_url is None else PRODUCTION_FILE, home / "dagster.yaml")
    except OSError as error:
        raise PlatformError(
            f"{home} cannot be written ({error.strerror}): set MLOPS_HOME to a folder of yours."
        ) from error
    os.environ["DAGSTER_HOME"] = str(home)


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the instance.

    Args:
        settings: Where it is.

    Yields:
        The instance.

    Raises:
        PlatformError: Packages of production are missing, or Postgres can't be reached.
    """
    require_packages(settings)
    prepare_home(settings)
    import dagster as dg

    with ExitStack() as opened:
        if settings.postgres_url is not None:
            # or Dagster's own retries take longer, and end in a traceback
            from mlops_platform.resources.postgres import require_postgres

            require_postgres(settings.optuna_storage)
        yield opened.enter_context(dg.DagsterInstance.get())


@contextmanager
def held_open(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Keep a connection to each SQLite file that a run writes to, for as long as the block takes.

    Dagster opens one for each event and closes it. The last to close a file writes its log back, waits for the disk
    and removes the log: ten trivial steps took 5.5 s so, and 3.9 s while another one was open.

    Args:
        instance: The instance; where it is not on SQLite, nothing is done.
        run_id: The run.
    """
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage

    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        yield
        return
    with ExitStack() as opened:
        held: set[Path] = set()

        def hold(*_: object) -> None:
            for shard in (INDEX_SHARD_NAME, run_id):
                path = Path(storage.path_for_shard(shard))
                if path not in held and path.exists():
                    held.add(path)
                    connection = opened.enter_context(closing(sqlite3.connect(path, check_same_thread=False)))
                    connection.execute("select count(*) from sqlite_master").fetchall()  # it is open once it has read

        hold()
        instance.add_event_listener(run_id, hold)
        yield


@contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Be the only `mlops run` on this MLOPS_HOME.

    Args:
        settings: What is to be had alone.

    Raises:
        PlatformError: Another one runs.
    """
    from filelock import FileLock, Timeout

    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlatformError(
            f"{settings.home} cannot be made ({error.strerror}): set MLOPS_HOME to a folder of yours."
        ) from error
    lock = FileLock(settings.home / ".run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PlatformError(
            f"Another `mlops run` is at work in {settings.home}: wait for it, or set MLOPS_HOME to another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def close_killed_runs(instance: dg.DagsterInstance) -> int:
    """Fail the runs whose `mlops run` was killed; must be called while holding `exclusive`.

    A run that stays STARTED for ever would hold back the automation conditions of its assets.

    Args:
        instance: The instance.

    Returns:
        How many there were.
    """
    import dagster as dg

    running = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    left = instance.get_runs(dg.RunsFilter(statuses=running, tags={RUN_TAG: "run"}))
    for run in left:
        instance.report_run_failed(run, "The process that executed this run was killed.")
        if instance.event_log_storage.supports_global_concurrency_limits:
            # its slots of a pool; the daemon would free them too, but none may be running
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return len(left)
