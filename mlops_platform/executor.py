"""What runs the steps of a run: this process, several processes, Celery workers or Kubernetes.

The graph works on all of them, as its steps share files, tables and the MLflow store, and no memory. DuckDB has
one writing process, so on a laptop steps in other processes go one at a time; BigQuery has no such limit, and
the instance's pool `warehouse` bounds what reaches it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from mlops_platform.settings import ExecutionSettings

# Loaded once by a server that each step's process is forked from: ten trivial steps took 12 s so, and 25 s spawned.
PRELOADED = ("mlops_platform.definitions", "dagster", "sqlalchemy", "alembic.config")


def build_executor(settings: ExecutionSettings) -> dg.ExecutorDefinition:
    """Return the executor that the settings name.

    Args:
        settings: `executor`, whether the warehouse takes several writers, and Celery's broker.

    Returns:
        The executor for all jobs of the graph. With Celery, the workers bound how many steps run at a time.
    """
    one_writer = settings.env == "local"
    if settings.executor == "multiprocess":
        forked: dict[str, Any] = {"start_method": {"forkserver": {"preload_modules": list(PRELOADED)}}}
        return dg.multiprocess_executor.configured(forked | ({"max_concurrent": 1} if one_writer else {}))
    if settings.executor == "celery":
        from dagster_celery import celery_executor

        broker = settings.celery_broker.get_secret_value()
        return celery_executor.configured({"broker": broker, "backend": broker})
    if settings.executor == "k8s":
        from dagster_k8s import k8s_job_executor

        return k8s_job_executor.configured({"max_concurrent": 1}) if one_writer else k8s_job_executor
    return dg.in_process_executor
