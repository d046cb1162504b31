"""The Dagster instance of the commands: its home, its lock, and the cleanup after killed runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import PlatformError
from mlops_platform.optional_dependencies import require_training_packages
from mlops_platform.settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    import dagster as dg

RUN_TAG = "mlops/command"
LOCAL_FILE = PROJECT_ROOT / "dagster.yaml"
PRODUCTION_FILE = PROJECT_ROOT / "deploy" / "dagster.yaml"
POSTGRES_VARIABLE = "MLOPS_POSTGRES_URL"  # as PRODUCTION_FILE names it


def prepare_home(settings: Settings) -> None:
    """Create DAGSTER_HOME with the project's dagster.yaml, unless the user has set another one.

    With Postgres it is the production file, which reads the address from the environment.
    """
    if settings.postgres_url is not None:
        # for dagster.yaml, and with its driver; the setting may be from an .env file
        os.environ[POSTGRES_VARIABLE] = settings.optuna_storage
    if os.environ.get("DAGSTER_HOME"):
        return
    home = settings.dagster_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LOCAL_FILE if settings.postgres_url is None else PRODUCTION_FILE, home / "dagster.yaml")
    except OSError as error:
        raise _not_writable(home, error) from error
    os.environ["DAGSTER_HOME"] = str(home)


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the instance, or raise a `PlatformError` if packages are missing or Postgres cannot be reached."""
    require_training_packages(settings)
    prepare_home(settings)
    import dagster as dg

    if settings.postgres_url is not None:
        # Dagster's own retries take longer, and end in a traceback
        from mlops_platform.resources.postgres import require_postgres

        require_postgres(settings.optuna_storage)
    with dg.DagsterInstance.get() as instance:
        yield instance


@contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Hold the lock that allows one `mlops run` at a time in a home, or raise a `PlatformError`."""
    from filelock import FileLock, Timeout

    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(settings.home / ".run.lock").acquire(timeout=0)
    except Timeout:
        raise PlatformError(
            f"Another `mlops run` is in progress in {settings.home}: wait for it, or set MLOPS_HOME to another folder."
        ) from None
    except OSError as error:
        raise _not_writable(settings.home, error) from error
    with lock:
        yield


def close_killed_runs(instance: dg.DagsterInstance) -> int:
    """Mark the runs whose `mlops run` was killed as failed, and return their number; call it while holding `exclusive`.

    A run that stays STARTED forever would block the automation conditions of its assets.
    """
    import dagster as dg

    running = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    killed = instance.get_runs(dg.RunsFilter(statuses=running, tags={RUN_TAG: "run"}))
    for run in killed:
        instance.report_run_failed(run, "The process that executed this run was killed.")
        if instance.event_log_storage.supports_global_concurrency_limits:
            # the daemon would free its pool slots too, but it may not be running
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return len(killed)


def _not_writable(folder: Path, error: OSError) -> PlatformError:
    return PlatformError(f"{folder} cannot be written ({error.strerror}): set MLOPS_HOME to a folder of yours.")
