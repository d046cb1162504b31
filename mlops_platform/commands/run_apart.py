"""`mlops run` with an executor that takes the steps to other processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster import DagsterEvent, DagsterInstance


def execute_apart(
    instance: DagsterInstance,
    job: str,
    run_id: str,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
    on_event: Callable[[DagsterEvent], None],
) -> bool:
    """Execute a job of the code location, whose processes build the graph from the environment as this one did.

    Args:
        instance: Where the run is stored.
        job: Name of the job.
        run_id: Id of the run.
        config: Run config.
        tags: Tags of the run.
        on_event: Told each event; the instance tells its listeners only what happens in this process.

    Returns:
        Whether the run succeeded.
    """
    from dagster._core.definitions.reconstruct import ReconstructableRepository
    from dagster._core.execution.api import execute_run_iterator

    found = ReconstructableRepository.for_module("mlops_platform.definitions", "defs").get_reconstructable_job(job)
    run = instance.create_run_for_job(
        found.get_definition(),
        run_id=run_id,
        run_config=config,
        tags=tags,
        job_code_origin=found.get_python_origin(),
    )
    for event in execute_run_iterator(found, run, instance):
        on_event(event)
    ended = instance.get_run_by_id(run_id)
    return ended is not None and ended.is_success
