"""`mlops run`: execute a job here and now, show progress, end with a summary."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlops_platform.cli.instance import RUN_TAG, close_killed_runs, exclusive, open_instance
from mlops_platform.cli.terminal import library_output_to
from mlops_platform.errors import PlatformError
from mlops_platform.resources.celery_workers import celery_workers
from mlops_platform.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

PARTITION_TAG = "dagster/partition"


def run_job(
    settings: Settings, job: str, config: Mapping[str, Any], *, day: date | None = None, debug: bool = False
) -> None:
    """Execute a job of the graph with the executor of the settings.

    Args:
        settings: What to run on.
        job: Name of the job.
        config: Run config.
        day: The day (UTC) of a partitioned job; by default yesterday.
        debug: Leave what libraries print on the terminal; else it goes to `logs/run.log` in the home.

    Raises:
        PlatformError: The run failed, the job is unknown, the config or the day is invalid, another run is in
            progress, the executor is Kubernetes, or no Celery worker answers.
    """
    if settings.executor == "k8s":
        raise PlatformError(
            "MLOPS_EXECUTOR=k8s is for runs that Dagster launches: use its UI or `dagster job launch`, or unset it."
        )
    if settings.executor == "celery":
        # without a worker the run would wait for ever
        celery_workers(settings)
    log = None if debug else settings.home / "logs" / "run.log"
    with exclusive(settings), open_instance(settings) as instance, library_output_to(log) as terminal:
        from rich.console import Console

        from mlops_platform.cli.run_progress import Progress
        from mlops_platform.cli.run_summary import print_summary

        if log is not None:
            log.write_bytes(b"")
        console = Console(file=terminal, soft_wrap=True)
        if close_killed_runs(instance):
            console.print("An earlier run was killed; this one heals what it left.")
        console.print("Loading the graph ...", style="dim")
        from mlops_platform.build import build_definitions

        definition = _job(build_definitions(settings), job)
        partition = _partition(definition, job, day)
        console.print(
            f"Running {job}{f' for {partition}' if partition else ''} ({settings.home})", highlight=False, markup=False
        )
        progress, run_id = Progress(console), str(uuid.uuid4())
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **config}
        tags = {RUN_TAG: "run", **({PARTITION_TAG: partition} if partition else {})}
        try:
            if settings.executor == "in_process":
                instance.add_event_listener(run_id, progress.on_entry)
                success = definition.execute_in_process(
                    run_config=quiet, instance=instance, run_id=run_id, raise_on_error=False, tags=tags
                ).success
            else:
                from mlops_platform.cli.run_multiprocess import execute_in_processes

                success = execute_in_processes(instance, job, run_id, quiet, tags, progress.on_event)
        except Exception as error:
            raise _as_sentence(error) from error
        progress.on_end(_planned_steps(instance, run_id))
        print_summary(console, settings, progress, success=success)
    if progress.interrupted:
        raise KeyboardInterrupt
    if not success:
        raise PlatformError(f"The run failed: {'; '.join(progress.problems) or f'see {log}'}")


def _planned_steps(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    run = instance.get_run_by_id(run_id)
    if run is None or run.execution_plan_snapshot_id is None:
        return []
    return list(instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute)


def _job(defs: dg.Definitions, name: str) -> dg.JobDefinition:
    from dagster import DagsterInvariantViolationError

    try:
        return defs.resolve_job_def(name)
    except DagsterInvariantViolationError:
        raise PlatformError(f"There is no job {name}: choose dataops, mlops, end_to_end or monitoring.") from None


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


def _as_sentence(error: Exception) -> Exception:
    from dagster import DagsterInvalidConfigError

    if isinstance(error, DagsterInvalidConfigError):
        problems = "; ".join(problem.message.strip() for problem in error.errors)
        return PlatformError(f"The run config does not fit the job: {problems}")
    return error
