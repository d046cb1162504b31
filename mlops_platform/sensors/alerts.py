"""The sensor `alerts`: reports failed runs and checks, stale assets, and decisions other than `continue`.

It reads the current state of the graph each minute. A problem is reported once after enough consecutive failures, and
once more when it is resolved.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
from pydantic import BaseModel, Field

from mlops_platform.errors import PlatformError
from mlops_platform.resources.notifier import Notifier

INTERVAL_SECONDS = 60
DECISION = dg.AssetKey("retraining_decision")
TITLE = "mlops_platform"
_RUNS_PER_TICK = 500
_OVERLAP_SECONDS = 300  # runs may be stored in another order than they ended


@dataclass(frozen=True)
class Observation:
    """The latest state of something that can fail, such as a check.

    Attributes:
        key: Identifies what can fail.
        mark: Identifies the observed event, such as an evaluation: an event that is observed twice counts once.
        owners: Who is alerted.
        problem: A sentence; None if it did not fail.
    """

    key: str
    mark: str
    owners: tuple[str, ...]
    problem: str | None


class OpenProblem(BaseModel):
    """A failure that is not resolved, as last observed; `times` counts consecutive failures."""

    key: str
    mark: str
    owners: tuple[str, ...]
    problem: str
    times: int = 1
    reported: bool = False


class Cursor(BaseModel):
    """The sensor's cursor: the open problems, and the runs that finished since a time (seconds since 1970)."""

    problems: list[OpenProblem] = []
    since: float = Field(default_factory=time.time)
    runs: list[str] = []


def update_problems(
    known: Sequence[OpenProblem],
    observations: Sequence[Observation],
    threshold: int,
    send: Callable[[Sequence[str], str], bool],
) -> list[OpenProblem]:
    """Update the open problems with new observations, and send the alerts that are due.

    Args:
        known: Open problems from the previous tick.
        observations: What was observed since; a problem without an observation stays open.
        threshold: Consecutive failures after which a problem is reported, at least 1.
        send: Sends a text to owners, and returns whether that succeeded; if not, the problem is reported at a later
            tick.
    """
    problems = {problem.key: problem for problem in known}
    for latest in observations:
        previous = problems.pop(latest.key, None)
        if latest.problem is None:
            if previous is not None and previous.reported:
                send(previous.owners, f"Resolved: {previous.problem}")
            continue
        current = OpenProblem(key=latest.key, mark=latest.mark, owners=latest.owners, problem=latest.problem)
        if previous is not None:
            current.times = previous.times + (latest.mark != previous.mark)
            current.reported = previous.reported
        if not current.reported and current.times >= threshold:
            count = f" ({current.times} times in a row)" if current.times > 1 else ""
            current.reported = send(current.owners, f"{current.problem}{count}")
        problems[latest.key] = current
    return list(problems.values())


def build_alert_sensor(notifier: Notifier, threshold: int) -> dg.SensorDefinition:
    """Build the sensor `alerts`, which launches no run; it reports after `threshold` consecutive failures."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        asset_selection=dg.AssetSelection.all(),
        description="Alerts owners to failed runs and checks, stale assets and decisions: once, and when resolved.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        cursor = Cursor.model_validate_json(context.cursor or "{}")
        repository, instance = context.repository_def, context.instance
        assert repository is not None  # noqa: S101
        sent, errors = [], []

        def send(owners: Sequence[str], text: str) -> bool:
            context.log.warning(text)
            try:
                notifier.send(owners, TITLE, text)
            except PlatformError as error:
                errors.append(str(error))
                context.log.error(str(error))
                return False
            sent.append(text)
            return True

        runs = _finished_runs(instance, cursor.since)
        observations = [
            *(_of_run(repository, run.dagster_run) for run in runs if run.dagster_run.run_id not in cursor.runs),
            *_of_checks(instance, repository),
            *_of_freshness(instance, repository),
            *_of_decision(instance, repository),
        ]
        problems = update_problems(cursor.problems, observations, threshold, send)
        since = max([cursor.since, *(run.update_timestamp.timestamp() - _OVERLAP_SECONDS for run in runs)])
        recent = [run.dagster_run.run_id for run in runs if run.update_timestamp.timestamp() >= since]
        context.update_cursor(Cursor(problems=problems, since=since, runs=recent).model_dump_json())
        return dg.SkipReason("; ".join([f"{len(problems)} open, {len(sent)} reported now", *errors[-1:]]))

    return alerts


def _finished_runs(instance: dg.DagsterInstance, since: float) -> Sequence[dg.RunRecord]:
    """Return the runs that finished since a time (seconds since 1970), oldest first."""
    filters = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
        updated_after=datetime.fromtimestamp(since, UTC),
    )
    return instance.get_run_records(filters, limit=_RUNS_PER_TICK, order_by="update_timestamp", ascending=True)


def _of_run(repository: dg.RepositoryDefinition, run: dg.DagsterRun) -> Observation:
    graph = repository.asset_graph
    keys = run.asset_selection or graph.get_all_asset_keys()
    owners = sorted({owner for key in keys if graph.has(key) for owner in graph.get(key).owners})
    failed = run.status is dg.DagsterRunStatus.FAILURE
    problem = f"Run {run.run_id[:8]} of {run.job_name} failed." if failed else None
    name = run.job_name
    if name.startswith("__"):  # Dagster runs all ad hoc selections under one job name
        name = ",".join(sorted(key.to_user_string() for key in keys))
    return Observation(f"run:{name}", run.run_id, tuple(owners), problem)


def _of_checks(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> Iterator[Observation]:
    """Yield the latest result of each check that has one."""
    graph = repository.asset_graph
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(graph.asset_check_keys))
    for key, record in latest.items():
        evaluation = record.event.asset_check_evaluation if record.event is not None else None
        if evaluation is None:
            continue
        name = f"{key.asset_key.to_user_string()}: {key.name}"
        reason = f" {evaluation.description}" if evaluation.description else ""
        problem = None if evaluation.passed else f"Check {name} failed ({evaluation.severity.value.lower()}).{reason}"
        yield Observation(f"check:{name}", record.run_id, tuple(graph.get(key.asset_key).owners), problem)


def _of_freshness(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> Iterator[Observation]:
    graph = repository.asset_graph
    keys = [key for key in graph.materializable_asset_keys if graph.get(key).freshness_policy is not None]
    for key, record in instance.get_freshness_state_records(keys).items():
        stale = record.freshness_state.value == "FAIL"
        name = key.to_user_string()
        problem = f"Asset {name} is stale: it was not materialized within its freshness window." if stale else None
        yield Observation(f"stale:{name}", record.updated_at.isoformat(), tuple(graph.get(key).owners), problem)


def _of_decision(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> Iterator[Observation]:
    """Yield the latest decision as a problem of its kind, and the other kinds as resolved."""
    graph = repository.asset_graph
    event = instance.get_latest_materialization_event(DECISION)
    if event is None or event.asset_materialization is None or not graph.has(DECISION):
        return
    metadata = {key: str(value.value) for key, value in event.asset_materialization.metadata.items()}
    for kind in ("improve", "inspect", "rollback"):
        problem = f"Decision {kind}: {metadata.get('reason', '')}" if metadata.get("decision") == kind else None
        yield Observation(f"decision:{kind}", event.run_id, tuple(graph.get(DECISION).owners), problem)
