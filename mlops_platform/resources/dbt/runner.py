"""Runs of dbt's models and tests in this process; how these become assets and checks is in `assets/transform.py`.

dbt runs in process because a subprocess imports dbt again for each run (4.7 s of CPU for 0.4 s of work) and,
if the run is killed, survives it and keeps the warehouse file locked.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_platform.errors import TransformError
from mlops_platform.resources.dbt.manifest import first_lines, invoke_dbt
from mlops_platform.resources.warehouse.bigquery.job_labels import job_labels


@dataclass(frozen=True)
class NodeResult:
    """How one model or test ended; `status` is dbt's own: success, error, pass, fail, warn or skipped."""

    unique_id: str
    status: str
    message: str
    failures: int
    seconds: float
    sql: str


@dataclass(frozen=True)
class BuildResult:
    """How a `dbt build` ended: its nodes in the order they finished, its log, and the URL of the run if it has one."""

    nodes: Sequence[NodeResult]
    log: str
    url: str | None = None


@dataclass(frozen=True)
class DbtSecrets:
    """Environment variables that hold secrets, for dbt alone and only while it runs."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Dbt(dg.ConfigurableResource, ABC):
    """What runs dbt for the graph."""

    @abstractmethod
    def build(self, select: Sequence[str], *, full_refresh: bool = False) -> BuildResult:
        """Run `dbt build` for exactly these models and tests (fully qualified names), in dbt's order.

        A model or test that fails raises nothing: its status says so. If dbt stops before it runs anything, that is a
        `TransformError`.
        """


class DbtRunner(Dbt):
    """Runs dbt in this process."""

    options: list[str] = Field(description="Options of the dbt command, such as `PreparedProject.options`.")
    # not a config field, since the UI shows those
    secrets: dg.ResourceDependency[DbtSecrets] = DbtSecrets()  # type: ignore[assignment]

    def build(self, select: Sequence[str], *, full_refresh: bool = False) -> BuildResult:
        """Run `dbt build` in this process; see `Dbt.build`."""
        lines: list[str] = []
        # no JSON: the artifacts repeat the result, and take 0.3 s
        arguments = ["build", *self.options, "--no-write-json", "--indirect-selection", "empty"]
        if full_refresh:
            arguments.append("--full-refresh")
        # not a variable, since dbt parses the project again when one changes
        with _environment({**self.secrets.environment, "MLOPS_JOB_LABELS": json.dumps(job_labels())}):
            outcome = invoke_dbt([*arguments, "--select", *select], [lambda event: _keep_line(event, lines)])
        results = getattr(outcome.result, "results", None)
        if results is None:
            raise TransformError(f"dbt stopped: {first_lines(str(outcome.exception))}.") from outcome.exception
        return BuildResult([_node_result(result) for result in results], "\n".join(lines))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of the process within the block."""
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


def _keep_line(event: Any, lines: list[str]) -> None:
    # models and problems; passed tests show as checks
    if event.info.name == "LogModelResult" or event.info.level in {"warn", "error"}:
        lines.append(event.info.msg.strip())


def _node_result(result: Any) -> NodeResult:
    return NodeResult(
        unique_id=result.node.unique_id,
        status=str(result.status),
        message=result.message or "",
        failures=result.failures or 0,
        seconds=round(result.execution_time, 3),
        sql=(getattr(result.node, "compiled_code", None) or "").strip(),
    )
