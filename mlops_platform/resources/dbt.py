"""dbt: its runs, in this process.

What belongs here: calling dbt and saying in a sentence why it failed. Its manifest is made in `dbt_manifest.py`; what
its models and tests mean to the asset graph is in `assets/transform.py`; the SQL is in `dbt_transforms/`.

dbt runs in process because a subprocess imports dbt again for each run (4.7 s of CPU for 0.4 s of work) and,
if the run is killed, lives on and keeps the warehouse file locked.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.resources.dbt_manifest import PreparedProject, TransformError, dbt_options, first_lines
from mlops_platform.resources.job_labels import job_labels


@dataclass(frozen=True)
class NodeResult:
    """How one model or test ended; `status` is dbt's word: success, error, pass, fail, warn or skipped."""

    unique_id: str
    status: str
    message: str
    failures: int
    seconds: float
    sql: str


@dataclass(frozen=True)
class BuildResult:
    """How a `dbt build` ended: its nodes in the order they finished, what dbt said meanwhile, where to read more."""

    nodes: Sequence[NodeResult]
    log: str
    url: str | None = None


@dataclass(frozen=True)
class DbtSecrets:
    """Environment variables that hold secrets, for dbt alone and only while it runs."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Puts them into the environment of the process, and takes them out at the end."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


class Dbt(dg.ConfigurableResource, ABC):
    """What runs dbt for the graph."""

    @abstractmethod
    def build(self, select: Sequence[str], *, full_refresh: bool = False, growth: str = "{}") -> BuildResult:
        """Run `dbt build` for exactly these models and tests, in dbt's order.

        A model or test that fails doesn't raise: see the statuses.

        Args:
            select: Fully qualified names of dbt nodes.
            full_refresh: Build incremental models whole.
            growth: What the raw tables have grown by since they were built of (`Growth.to_json`).

        Raises:
            TransformError: dbt stopped before it ran anything.
        """


class DbtRunner(Dbt):
    """Runs dbt in this process."""

    project_dir: str
    target_path: str
    target: str
    variables: dict[str, str]
    # not a config field: the UI shows those
    secrets: dg.ResourceDependency[DbtSecrets] = DbtSecrets()  # type: ignore[assignment]

    @classmethod
    def of(cls, project: PreparedProject, secrets: DbtSecrets | None = None) -> "DbtRunner":
        """Return the runner of a prepared project.

        Args:
            project: The project, from `Preparation.finish`.
            secrets: What the profile's target takes from the environment; by default nothing.
        """
        return cls(
            project_dir=str(project.project_dir),
            target_path=str(project.target_path),
            target=project.target,
            variables=dict(project.variables),
            secrets=secrets or DbtSecrets(),
        )

    def build(self, select: Sequence[str], *, full_refresh: bool = False, growth: str = "{}") -> BuildResult:
        """Run `dbt build` in this process; see `Dbt.build`."""
        from dbt.cli.main import dbtRunner

        lines: list[str] = []
        runner = dbtRunner(callbacks=[lambda event: _keep_line(event, lines)])
        options = dbt_options(Path(self.project_dir), Path(self.target_path), self.target, self.variables)
        # no JSON: the artifacts would tell what the result tells, for 0.3 s
        arguments = ["build", *options, "--no-write-json", "--indirect-selection", "empty"]
        if full_refresh:
            arguments.append("--full-refresh")
        # not as variables, since dbt parses anew when one changes
        told = {"MLOPS_JOB_LABELS": json.dumps(job_labels()), "MLOPS_GROWTH": growth}
        with self.secrets.exported(), DbtSecrets(told).exported():
            outcome = runner.invoke([*arguments, "--select", *select])
        if outcome.exception is not None and not isinstance(outcome.exception, Exception):
            raise outcome.exception  # an interrupt, which dbt hands back as a result
        results = getattr(outcome.result, "results", None)
        if results is None:
            raise TransformError(f"dbt stopped: {first_lines(str(outcome.exception))}.") from outcome.exception
        return BuildResult([_node_result(result) for result in results], "\n".join(lines))


def _keep_line(event: Any, lines: list[str]) -> None:
    # what was built and what is wrong; passed tests show as checks
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
