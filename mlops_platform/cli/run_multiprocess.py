"""Execution of a job whose steps run in subprocesses, which rebuild the graph from the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from mlops_platform.dagster_internals import execute_run_iterator


def execute_in_processes(
    instance: dg.DagsterInstance,
    job: str,
    run_id: str,
    config: Mapping[str, Any],
    tags: Mapping[str, str],
    on_event: Callable[[dg.DagsterEvent], None],
) -> bool:
    """Execute a job of the code location with the executor of the settings, and return whether it succeeded.

    `on_event` receives each event; a listener of the instance would see those of this process only.
    """
    rebuilt = dg.build_reconstructable_job(__name__, load_job.__name__, (job,))
    run = instance.create_run_for_job(load_job(job), run_id=run_id, run_config=config, tags=tags)
    for event in execute_run_iterator(rebuilt, run, instance):
        on_event(event)
    finished = instance.get_run_by_id(run_id)
    return finished is not None and finished.is_success


def load_job(name: str) -> dg.JobDefinition:
    """Return a job of the code location; the subprocesses of the steps call this, too."""
    from mlops_platform.definitions import defs

    return defs().resolve_job_def(name)
