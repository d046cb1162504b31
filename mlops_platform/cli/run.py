"""`mlops run`: execute a job in the foreground, show its progress, and print a summary."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from mlops_platform.cli.instance import RUN_TAG, close_killed_runs, exclusive, open_instance
from mlops_platform.errors import PlatformError, first_line
from mlops_platform.resources.celery_workers import celery_workers
from mlops_platform.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

PARTITION_TAG = "dagster/partition"


def run(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="dataops, mlops, end_to_end or monitoring.")] = "end_to_end",
    config: Annotated[Path | None, typer.Option(help="YAML file with run config.")] = None,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day (UTC) of monitoring; yesterday by default.")
    ] = None,
) -> None:
    """Run a job of the graph in the foreground, with progress and a summary."""
    debug = context.find_root().params["debug"]
    run_job(Settings(), job, _read_config(config), day=day.date() if day else None, debug=debug)


def run_job(
    settings: Settings, job: str, config: Mapping[str, Any], *, day: date | None = None, debug: bool = False
) -> None:
    """Execute a job of the graph with the executor of the settings.

    Args:
        settings: Those of the environment, which the job is loaded with.
        job: Name of the job.
        config: Run config.
        day: The day (UTC) of a partitioned job; by default yesterday.
        debug: Show the output of libraries on the terminal; otherwise it goes to `logs/run.log` in the home.

    Raises:
        PlatformError: The run failed, the job is unknown, the config or the day is invalid, another run is in
            progress, the executor is Kubernetes, or no Celery worker answers.
    """
    if settings.executor == "k8s":
        raise PlatformError(
            "MLOPS_EXECUTOR=k8s is for runs that Dagster launches: use its UI or `dagster job launch`, or unset it."
        )
    if settings.executor == "celery":
        celery_workers(settings)  # without a worker the run would wait for ever
    log = None if debug else settings.home / "logs" / "run.log"
    with exclusive(settings), open_instance(settings) as instance, library_output_to(log) as terminal:
        import dagster as dg
        from rich.console import Console

        from mlops_platform.cli.run_progress import Progress, print_summary
        from mlops_platform.dagster_internals import execute_run_iterator

        console = Console(file=terminal, soft_wrap=True, highlight=False)
        if close_killed_runs(instance):
            console.print("An earlier run was killed; this one repairs its state.")
        console.print("Loading the graph ...", style="dim")
        # steps that run in subprocesses load the job again by these names
        reconstructable = dg.build_reconstructable_job(__name__, load_job.__name__, (job,))
        definition = reconstructable.get_definition()
        partition = _partition(definition, job, day)
        console.print(f"Running {job}{f' for {partition}' if partition else ''} ({settings.home})", markup=False)
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **config}
        tags = {RUN_TAG: "run", **({PARTITION_TAG: partition} if partition else {})}
        try:
            run = instance.create_run_for_job(definition, run_config=quiet, tags=tags)
        except dg.DagsterInvalidConfigError as error:
            problems = "; ".join(problem.message.strip() for problem in error.errors)
            raise PlatformError(f"The run config does not fit the job: {problems}") from error
        progress = Progress(console)
        for event in execute_run_iterator(reconstructable, run, instance):
            progress.on_event(event)
        finished = instance.get_run_by_id(run.run_id)
        success = finished is not None and finished.is_success
        progress.on_end(_planned_steps(instance, run))
        print_summary(console, settings, progress, success=success)
    if progress.interrupted:
        raise KeyboardInterrupt
    if not success:
        raise PlatformError(f"The run failed: {'; '.join(progress.problems) or f'see {log}'}")


def load_job(name: str) -> dg.JobDefinition:
    """Return a job of the code location; the subprocesses of the steps call this, too."""
    from dagster import DagsterInvariantViolationError

    from mlops_platform.definitions import defs

    try:
        return defs().resolve_job_def(name)
    except DagsterInvariantViolationError:
        raise PlatformError(f"There is no job {name}: choose dataops, mlops, end_to_end or monitoring.") from None


@contextmanager
def library_output_to(log: Path | None) -> Iterator[TextIO]:
    """Redirect the output of libraries and child processes to a file, and yield the terminal for our own lines.

    The file is emptied first; None leaves their output on the terminal.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # file descriptors and not `sys.stdout`: native code and child processes write to these
    saved = [os.dup(1), os.dup(2)]
    try:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb", buffering=0) as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
        with os.fdopen(os.dup(saved[0]), "w", buffering=1, encoding="utf-8") as terminal:
            yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def _read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlatformError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlatformError(f"{path} is not YAML: {first_line(error)}.") from error
    if not isinstance(config, dict):
        raise PlatformError(f"{path} is not a run config: it should begin with `ops:`.")
    return config


def _planned_steps(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    if run.execution_plan_snapshot_id is None:
        return []
    return list(instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute)


def _partition(definition: dg.JobDefinition, job: str, day: date | None) -> str | None:
    """Return the partition that a job runs for; None for a job without partitions."""
    if definition.partitions_def is None:
        if day is not None:
            raise PlatformError(f"The job {job} has no partitions: leave out --day.")
        return None
    key = (day or datetime.now(UTC).date() - timedelta(days=1)).isoformat()
    if not definition.partitions_def.has_partition_key(key):
        keys = definition.partitions_def.get_partition_keys()
        raise PlatformError(
            f"{key} is not a partition of the job {job}: choose one from {keys[0]} (MLOPS_FIRST_DAY) to {keys[-1]}."
        )
    return key
