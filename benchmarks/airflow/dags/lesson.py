"""The lesson's two DAGs, `dataops` and `mlops`: each task calls one of `benchmarks.steps`.

The imports are in the tasks, as Airflow advises: each of them parses this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk import chain, dag, task  # type: ignore[import-not-found]


def _call(name: str) -> Any:
    @task(task_id=name)
    def call(params: dict[str, Any]) -> None:
        from pathlib import Path

        from benchmarks import steps
        from mlops_platform.settings import Settings

        getattr(steps, name)(Settings(home=Path(params["home"])))

    return call()


def _dag(name: str, description: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    decorator: Callable[[Callable[[], None]], Callable[[], None]] = dag(
        name, description=description, schedule=None, params={"home": ""}, tags=[name]
    )
    return decorator


@_dag("dataops", "From the sources to checked tables.")
def dataops() -> None:
    """Load both tables side by side, validate them, transform."""
    transform, validate_transforms = _call("transform"), _call("validate_transforms")
    for table in ("projects", "tags"):
        chain(_call(f"extract_and_load_{table}"), _call(f"validate_{table}"), transform)
    chain(transform, validate_transforms)


@_dag("mlops", "From the labeled table to a champion.")
def mlops() -> None:
    """Snapshot, tune, train; evaluation and deployment are what the lesson leaves to the reader."""
    chain(*(_call(name) for name in ("extract_data", "validate", "optimize", "train_model", "evaluate", "deploy")))


dataops()
mlops()
