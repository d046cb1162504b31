"""Tells people what is wrong: failed runs, failed checks, stale assets and decisions that need somebody.

The sensor looks at the present state of the graph each minute; what is new in it is told by ``open_problems``.
"""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mlops_platform.dagster_internals import FreshnessState
from mlops_platform.errors import PlatformError
from mlops_platform.resources.notify import Notifier
from mlops_platform.sensors.open_problems import Observation, account, as_json, from_json, marked_told

INTERVAL_SECONDS = 60
DECISION = dg.AssetKey("retraining_decision")
TITLE = "mlops_platform"
_RUNS_A_LOOK = 500
_OVERLAP_SECONDS = 300  # a run's end may show later than that of another which ended after it


def build_alert_sensor(notifier: Notifier, threshold: int) -> dg.SensorDefinition:
    """Make the sensor `alerts`, which launches nothing.

    Its cursor holds the open problems and the finished runs that were seen of late. A message that could not be sent
    is due again at the next tick.

    Args:
        notifier: Sends the messages.
        threshold: Failures in a row from which on a problem is told.
    """

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        asset_selection=dg.AssetSelection.all(),
        description="Tells owners of failed runs and checks, stale assets and decisions; once, and when it is over.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        cursor = json.loads(context.cursor) if context.cursor else {"problems": [], "since": time.time(), "runs": []}
        assert context.repository_def is not None  # noqa: S101
        graph, instance = context.repository_def.asset_graph, context.instance
        since, runs = cursor["since"], _finished(instance, cursor["since"])
        seen = [_of_run(graph, each.dagster_run) for each in runs if each.dagster_run.run_id not in cursor["runs"]]
        seen += [*_of_checks(instance, graph), *_of_freshness(instance, graph), *_of_decision(instance, graph)]
        problems, due = account(from_json(cursor["problems"]), seen, threshold)
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
        since = max([since, *(each.update_timestamp.timestamp() - _OVERLAP_SECONDS for each in runs)])
        state = {
            "problems": as_json(marked_told(problems, sent)),
            "since": since,
            "runs": [each.dagster_run.run_id for each in runs if each.update_timestamp.timestamp() >= since],
        }
        context.update_cursor(json.dumps(state))
        said = f"{len(problems)} open, {len(sent)} told now"
        return dg.SkipReason(f"{said}; {unsent}" if unsent else said)

    return alerts


def _finished(instance: dg.DagsterInstance, since: float) -> Sequence[dg.RunRecord]:
    """Runs that have ended lately, oldest first."""
    filters = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
        updated_after=datetime.fromtimestamp(since, UTC),
    )
    return instance.get_run_records(filters, limit=_RUNS_A_LOOK, order_by="update_timestamp", ascending=True)


def _of_run(graph: Any, run: dg.DagsterRun) -> Observation:
    failed = run.status is dg.DagsterRunStatus.FAILURE
    keys = run.asset_selection or graph.get_all_asset_keys()
    owners = sorted({owner for key in keys if graph.has(key) for owner in graph.get(key).owners})
    problem = f"Run {run.run_id[:8]} of {run.job_name} failed." if failed else None
    name = run.job_name
    if name.startswith("__"):  # what was chosen by hand has one job for all choices
        name = ",".join(sorted(key.to_user_string() for key in keys))
    return Observation(f"run:{name}", run.run_id, tuple(owners), problem)


def _of_checks(instance: dg.DagsterInstance, graph: Any) -> Iterator[Observation]:
    """Every check's last result; one whose run is still at it, or that never ran, says nothing."""
    keys = list(graph.asset_check_keys)
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    for key, record in latest.items():
        name = f"{key.asset_key.to_user_string()}: {key.name}"
        owners = tuple(graph.get(key.asset_key).owners)
        evaluation = record.event.asset_check_evaluation if record.event is not None else None
        if evaluation is None:
            continue
        why = f" {evaluation.description}" if evaluation.description else ""
        problem = None if evaluation.passed else f"Check {name} failed ({evaluation.severity.value.lower()}).{why}"
        yield Observation(f"check:{name}", record.run_id, owners, problem)


def _of_freshness(instance: dg.DagsterInstance, graph: Any) -> Iterator[Observation]:
    keys = [key for key in graph.materializable_asset_keys if graph.get(key).freshness_policy is not None]
    for key, record in instance.get_freshness_state_records(keys).items():
        stale = record.freshness_state is FreshnessState.FAIL
        name = key.to_user_string()
        problem = f"Asset {name} is stale: it was not materialized within its window." if stale else None
        mark = record.updated_at.isoformat()
        yield Observation(f"stale:{name}", mark, tuple(graph.get(key).owners), problem)


def _of_decision(instance: dg.DagsterInstance, graph: Any) -> Iterator[Observation]:
    """The last decision about the champion, as a problem of its kind; the other kinds are over."""
    event = instance.get_latest_materialization_event(DECISION)
    if event is None or event.asset_materialization is None or not graph.has(DECISION):
        return
    told = {key: str(value.value) for key, value in event.asset_materialization.metadata.items()}
    for kind in ("improve", "inspect", "rollback"):
        problem = f"Decision {kind}: {told.get('reason', '')}" if told.get("decision") == kind else None
        yield Observation(f"decision:{kind}", event.run_id, tuple(graph.get(DECISION).owners), problem)
