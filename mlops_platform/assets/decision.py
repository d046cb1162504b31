"""The asset `retraining_decision`: what follows from a day's drift report, recorded in a table of all decisions.

The rules are in ``ml.monitoring.retraining_policy``; the sensor `decisions` acts on the result.
"""

import datetime as dt
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.assets.declarations import daily_asset, json_digest
from mlops_platform.assets.ingest import markdown_table
from mlops_platform.assets.monitoring import AGAINST_PREVIOUS, ONLINE, REPORT
from mlops_platform.assets.monitoring_window import new_labels
from mlops_platform.assets.preconditions import require_champion, require_tables
from mlops_platform.errors import ModelError, WarehouseError, platform_errors_as_failures
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.registry import deployment_history
from mlops_platform.resources.registry.inspections import inspections, open_inspection
from mlops_platform.resources.registry.model_registry import MlflowTracking, RegisteredVersion
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.parquet_writer import load_rows
from mlops_platform.sql import sql

if TYPE_CHECKING:
    from mlops_platform.ml.monitoring.retraining_policy import (
        Evaluation,
        History,
        LabelDoubt,
        PastAction,
        RetrainingDecision,
        Thresholds,
    )

DECISION = "retraining_decision"
DECISION_TAG = "mlops/decision"  # tag of a run that a decision started; its value is the day
_COLUMNS = {
    "day": "DATE",
    "decision": "VARCHAR",
    "reason": "VARCHAR",
    "rule": "VARCHAR",
    "problems": "VARCHAR",
    "model_version": "VARCHAR",
    "evidence": "VARCHAR",
    "decided_at": "TIMESTAMP",
    "dagster_run_id": "VARCHAR",
}
_SHOWN = 14


def build_decision_asset(first_day: dt.date, thresholds: "dict[str, Any]") -> dg.AssetsDefinition:
    """Build the asset `retraining_decision`; `thresholds` holds fields of `retraining_policy.Thresholds`."""

    @daily_asset(
        first_day,
        name=DECISION,
        group_name="monitoring",
        kinds={"table"},
        deps=[REPORT, "champion_model"],
        description=(
            "One decision per day (continue, improve, inspect or rollback) by a fixed list of rules over the drift "
            "report, the labels, the champion's age and past actions, with its reason and evidence. The table "
            "`retraining_decision` holds every decision; the sensor `decisions` acts on the latest ones."
        ),
    )
    def retraining_decision(
        context: dg.AssetExecutionContext,
        validated_dataset: dict[str, Any],
        label_issues: dict[str, Any],
        warehouse: Warehouse,
        datasets: DatasetStore,
        tracking: MlflowTracking,
    ) -> dg.MaterializeResult[None]:
        from mlops_platform.ml.monitoring import retraining_policy

        limits = retraining_policy.Thresholds(**thresholds)
        identities = []
        with platform_errors_as_failures(ValueError), warehouse.connect():
            champion = require_champion(tracking)
            # the same for every day of a backfill
            labels = new_labels(
                datasets, champion.tags.get("data_version", ""), validated_dataset["version"], label_issues
            )
            # in order: a day's decision depends on those of earlier days
            for key in sorted(context.partition_keys):
                day = dt.date.fromisoformat(key)
                report, figures = _report(warehouse, day, champion.version)
                decision = retraining_policy.decide(
                    report,
                    _evaluation(tracking, champion, figures, *labels),
                    max(0, (day - champion.created_at.date()).days),
                    _history(context.instance, warehouse, tracking, champion, day, limits),
                    limits,
                )
                _record(warehouse, day, champion.version, decision, context.run_id)
                context.log.info(f"{key}: {decision.decision}. {decision.reason}")
                context.add_asset_metadata(_metadata(warehouse, day, champion.version, decision), partition_key=key)
                identities.append([decision.decision, decision.evidence])
        return dg.MaterializeResult(data_version=dg.DataVersion(json_digest(identities)))

    return retraining_decision


def _metadata(warehouse: Warehouse, day: dt.date, version: str, decision: "RetrainingDecision") -> dict[str, Any]:
    recent = warehouse.fetch_rows(
        sql(
            "SELECT day, decision, reason, model_version FROM {table} WHERE day <= ? "
            "ORDER BY day DESC, decided_at DESC LIMIT {rows}",
            table=DECISION,
            rows=_SHOWN,
        ),
        [day],
    )
    return {
        "decision": decision.decision,
        "reason": decision.reason,
        "rule": decision.evidence["rule"],
        "problems": dg.MetadataValue.json(decision.evidence["problems"]),
        "model_version": version,
        "evidence": dg.MetadataValue.json(decision.evidence),
        "recent": dg.MetadataValue.md(markdown_table(["day", "decision", "reason", "version"], recent, 160)),
    }


def _report(warehouse: Warehouse, day: dt.date, version: str) -> tuple[list[Any], dict[str, dict[str, Any]]]:
    """Return the tests of a day's report, and its figures by name."""
    from mlops_platform.ml.monitoring.drift_tests import DriftTest

    require_tables(warehouse, REPORT)
    rows = warehouse.fetch_arrow(sql("SELECT * FROM {table} WHERE day = ?", table=REPORT), [day]).to_pylist()
    if not rows:
        raise WarehouseError(f"There is no drift report for {day}: materialize {REPORT} for that day first.")
    if (reported := rows[0]["model_version"]) != version:
        raise WarehouseError(
            f"The drift report for {day} is about version {reported}, but the champion is now version {version}: "
            f"materialize {REPORT} for that day again."
        )
    figures = {row["name"]: row for row in rows if row["name"] in (ONLINE, AGAINST_PREVIOUS)}
    names = list(DriftTest.__dataclass_fields__)
    tests = [
        DriftTest(**{name: row[name] for name in names} | {"detected": bool(row["detected"])})
        for row in rows
        if row["name"] not in figures
    ]
    return sorted(tests, key=lambda test: test.name), figures


def _evaluation(
    tracking: MlflowTracking,
    champion: RegisteredVersion,
    figures: dict[str, dict[str, Any]],
    label_count: int,
    doubt: "LabelDoubt | None",
) -> "Evaluation":
    from mlops_platform.ml.evaluation.metrics import Difference
    from mlops_platform.ml.monitoring.drift_monitor import SURE
    from mlops_platform.ml.monitoring.drift_tests import Interval
    from mlops_platform.ml.monitoring.retraining_policy import Evaluation

    measured = tracking.metrics(champion.run_id)
    if "test_f1_weighted" not in measured:
        raise ModelError(f"Version {champion.version} was never evaluated: materialize model_evaluation first.")
    online, gap = figures.get(ONLINE), figures.get(AGAINST_PREVIOUS)
    return Evaluation(
        measured["test_f1_weighted"],
        online=Interval(online["statistic"], online["low"], online["high"], online["window_rows"]) if online else None,
        against_previous=(
            Difference(gap["statistic"], gap["low"], gap["high"], SURE, 2000, gap["window_rows"]) if gap else None
        ),
        new_labels=label_count,
        doubt=doubt,
    )


def _history(
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    tracking: MlflowTracking,
    champion: RegisteredVersion,
    day: dt.date,
    limits: "Thresholds",
) -> "History":
    from mlops_platform.ml.monitoring.retraining_policy import History

    moves = deployment_history.history(tracking)
    previous = deployment_history.served_before(moves, champion.version)
    since = [move.at for move in moves if move.version == champion.version]
    days_ago = (day - dt.datetime.fromisoformat(since[-1]).date()).days if since else None
    return History(
        champion.version,
        previous[0] if previous else None,
        # a promotion after this day cannot be the cause of what the day shows
        days_ago if days_ago is not None and days_ago >= 0 else None,
        _actions(instance, warehouse, tracking, day, limits.max_age_days),
        open_inspection(tracking) is not None,
    )


def _actions(
    instance: dg.DagsterInstance, warehouse: Warehouse, tracking: MlflowTracking, day: dt.date, days: int
) -> "list[PastAction]":
    """Return the decisions of earlier days that were acted on, without retrainings that failed."""
    from mlops_platform.ml.monitoring.retraining_policy import PastAction

    if not warehouse.has_table(DECISION):
        return []
    rows = warehouse.fetch_rows(
        sql(
            "SELECT DISTINCT day, decision, problems, rule FROM {table} "
            "WHERE day >= ? AND day < ? AND decision <> 'continue' ORDER BY day",
            table=DECISION,
        ),
        [day - dt.timedelta(days=days), day],
    )
    answered = {
        inspection.day: (day - dt.date.fromisoformat(inspection.answered_at[:10])).days
        for inspection in inspections(tracking)
        if inspection.answered_at
    }
    return [
        PastAction((day - then).days, action, tuple(json.loads(problems)), rule, answered.get(then.isoformat()))
        for then, action, problems, rule in rows
        if action != "improve" or not _failed(instance, then)
    ]


def _failed(instance: dg.DagsterInstance, day: dt.date) -> bool:
    """Return whether the latest run that a day's decision started failed or was canceled."""
    runs = instance.get_runs(dg.RunsFilter(tags={DECISION_TAG: day.isoformat()}), limit=1)
    return bool(runs) and runs[0].status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def _record(warehouse: Warehouse, day: dt.date, version: str, decision: "RetrainingDecision", run_id: str) -> None:
    """Add the decision to the table, where a different decision of the same day stays."""
    row = {
        "day": day,
        "decision": decision.decision,
        "reason": decision.reason,
        "rule": decision.evidence["rule"],
        "problems": json.dumps(decision.evidence["problems"]),
        "model_version": version,
        "evidence": json.dumps(decision.evidence, default=str),
        "decided_at": dt.datetime.now(dt.UTC).replace(tzinfo=None),
        "dagster_run_id": run_id,
    }
    where = {"day": day, "decision": decision.decision, "model_version": version}
    load_rows(warehouse, DECISION, _COLUMNS, [row], where)


def last_decisions(warehouse: Warehouse, count: int) -> Sequence[tuple[Any, ...]]:
    """Return the latest decisions, newest first: day, decision, reason, model version, time.

    Args:
        warehouse: The warehouse, which may not have the table yet.
        count: Maximum number of decisions.
    """
    if not warehouse.has_table(DECISION):
        return []
    return warehouse.fetch_rows(
        sql(
            "SELECT day, decision, reason, model_version, decided_at FROM {table} "
            "ORDER BY day DESC, decided_at DESC LIMIT {rows}",
            table=DECISION,
            rows=count,
        )
    )
