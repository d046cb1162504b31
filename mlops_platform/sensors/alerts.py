"""The sensor `alerts`: reports failed runs and checks, stale assets, and decisions other than `continue`.

It reads the current state of the graph each minute; ``alert_state`` decides which alerts are due.
"""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from mlops_platform.errors import PlatformError
from mlops_platform.resources.notifier import Notifier
from mlops_platform.sensors.alert_state import Observation, as_json, from_json, mark_reported, update_problems

INTERVAL_SECONDS = 60
DECISION = dg.AssetKey("retraining_decision")
TITLE = "mlops_platform"
_RUNS_PER_TICK = 500
_OVERLAP_SECONDS = 300  # runs may be stored in another order than they ended


def build_alert_sensor(notifier: Notifier, threshold: int) -> dg.SensorDefinition:
    """Build the sensor `alerts`, which launches no run.

    Its cursor holds the open problems and the recently finished runs. An alert that could not be sent is retried at the
    next tick.

    Args:
        notifier: Sends the alerts.
        threshold: Consecutive failures after which a problem is reported.
    """

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        asset_selection=dg.AssetSelection.all(),
        description="Alerts owners to failed runs and checks, stale assets and decisions: once, and when resolved.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        cursor = json.loads(context.cursor) if context.cursor else {"problems": [], "since": time.time(), "runs": []}
        repository, instance = context.repository_def, context.instance
        assert repository is not None  # noqa: S101
        since, runs = cursor["since"], _finished_runs(instance, cursor["since"])
        observations = [
            *(_of_run(repository, run.dagster_run) for run in runs if run.dagster_run.run_id not in cursor["runs"]),
            *_of_checks(instance, repository),
            *_of_freshness(instance, repository),
            *_of_decision(instance, repository),
        ]
        problems, due = update_problems(from_json(cursor["problems"]), observations, threshold)
        sent, unsent = [], None
        for alert in due:
            context.log.warning(alert.text)
            try:
                notifier.send(alert.owners, TITLE, alert.text)
            except PlatformError as error:
                unsent = str(error)
                context.log.error(unsent)
            else:
                sent.append(alert)
        since = max([since, *(run.update_timestamp.timestamp() - _OVERLAP_SECONDS for run in runs)])
        state = {
            "problems": as_json(mark_reported(problems, sent)),
            "since": since,
            "runs": [run.dagster_run.run_id for run in runs if run.update_timestamp.timestamp() >= since],
        }
        context.update_cursor(json.dumps(state))
        summary = f"{len(problems)} open, {len(sent)} reported now"
        return dg.SkipReason(f"{summary}; {unsent}" if unsent else summary)

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
    failed = run.status is dg.DagsterRunStatus.FAILURE
    keys = run.asset_selection or graph.get_all_asset_keys()
    owners = sorted({owner for key in keys if graph.has(key) for owner in graph.get(key).owners})
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
        name = f"{key.asset_key.to_user_string()}: {key.name}"
        evaluation = record.event.asset_check_evaluation if record.event is not None else None
        if evaluation is None:
            continue
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
