"""Ten tasks in a row that do nothing: the remaining time is the orchestrator's."""

from __future__ import annotations

from airflow.sdk import chain, dag, task  # type: ignore[import-not-found]


@task
def nothing() -> None:
    """Do nothing."""


@dag("trivial", schedule=None)
def trivial() -> None:
    """Ten in a row."""
    chain(*(nothing.override(task_id=f"step_{number}")() for number in range(10)))


trivial()
