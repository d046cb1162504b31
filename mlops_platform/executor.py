"""The executor of all jobs: in process, several processes, Celery workers or Kubernetes.

The graph works on each, as steps share files, tables and the MLflow store but no memory. DuckDB allows one writing
process, so locally steps in other processes run one at a time; BigQuery has no such limit, and the instance's pool
`warehouse` limits what reaches it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from mlops_platform.settings import ExecutionSettings

# imported once by the server from which each step's process is forked: ten trivial steps take 12 s, spawned ones 25 s
PRELOADED = ["mlops_platform.definitions", "dagster", "sqlalchemy", "alembic.config"]


def build_executor(settings: ExecutionSettings) -> dg.ExecutorDefinition:
    """Return the executor that the settings name; with Celery, the number of workers limits the concurrent steps."""
    limit: dict[str, Any] = {"max_concurrent": 1} if settings.env == "local" else {}
    if settings.executor == "multiprocess":
        forked = {"start_method": {"forkserver": {"preload_modules": PRELOADED}}}
        return dg.multiprocess_executor.configured(forked | limit)
    if settings.executor == "celery":
        from dagster_celery import celery_executor

        broker = settings.celery_broker.get_secret_value()
        return celery_executor.configured({"broker": broker, "backend": broker})
    if settings.executor == "k8s":
        from dagster_k8s import k8s_job_executor

        return k8s_job_executor.configured(limit) if limit else k8s_job_executor
    return dg.in_process_executor
