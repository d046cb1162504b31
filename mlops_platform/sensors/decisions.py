"""The sensor `decisions`, which acts on `retraining_decision`: retrain, roll back, or put promotion on hold.

The sensor only launches runs; deciding belongs in ``assets.decision``.
"""

import datetime as dt
from typing import Any

import dagster as dg

from mlops_platform.assets.decision import DECISION, DECISION_TAG
from mlops_platform.assets.preconditions import require_champion
from mlops_platform.errors import ModelError, platform_errors_as_failures
from mlops_platform.resources.registry import deployment_history, inspections
from mlops_platform.resources.registry.model_registry import MlflowTracking

INTERVAL_SECONDS = 30
_LATE_DAYS = 2  # decisions about older days come from a backfill, and are only recorded
_EVENTS_A_TICK = 100


class ActConfig(dg.Config):
    """The decision to act on."""

    day: str
    decision: str
    model_version: str
    reason: str
    problems: list[str]


@dg.op(description="Rolls back to the previous champion, or holds automatic promotion until a person answers.")
def act(context: dg.OpExecutionContext, config: ActConfig, tracking: MlflowTracking) -> None:
    """Carry out a decision; a repeated or outdated one changes nothing."""
    with platform_errors_as_failures():
        champion = require_champion(tracking)
        if champion.version != config.model_version:
            context.log.warning(
                f"The decision is about version {config.model_version}, but the champion is now version "
                f"{champion.version}: nothing was changed."
            )
        elif config.decision == "rollback":
            restored = deployment_history.rollback(
                tracking, by="dagster", reason=config.reason, dagster_run_id=context.run_id
            )
            context.log.info(f"The champion is version {restored.version} again.")
        elif config.decision == "inspect":
            inspections.ask(
                tracking,
                day=config.day,
                version=champion.version,
                problems=tuple(config.problems),
                reason=config.reason,
                dagster_run_id=context.run_id,
            )
            context.log.info("Automatic promotion is on hold until a person answers with `mlops decide`.")
        else:
            raise ModelError(f"Decision {config.decision!r} is not one to act on: only rollback and inspect are.")


@dg.job(description="Carries out a decision: rollback or inspect.")
def act_on_decision() -> None:
    """Run the only step."""
    act()


def build_decision_sensor(retrain_cron: str, training: "dg.UnresolvedAssetJobDefinition") -> dg.SensorDefinition:
    """Build the sensor `decisions`.

    Its cursor is the storage id of the last event that it handled. Each day's decision is acted on once, and a
    retraining starts at most once per window. A decision about a day more than two days ago is only recorded.

    Args:
        retrain_cron: Cron (UTC) of the retraining windows.
        training: The job `mlops`.
    """

    @dg.sensor(
        name="decisions",
        jobs=[training, act_on_decision],
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Acts on new decisions: improve starts mlops, rollback and inspect start act_on_decision.",
    )
    def decisions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        after = int(context.cursor) if context.cursor else None
        records = context.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(DECISION), after_storage_id=after),
            limit=_EVENTS_A_TICK,
            ascending=True,
        ).records
        if not records:
            return dg.SkipReason("No new decision.")
        requests = [request for record in records if (request := _request(record, retrain_cron)) is not None]
        return dg.SensorResult(run_requests=requests, cursor=str(records[-1].storage_id))

    return decisions


def _request(record: dg.EventLogRecord, retrain_cron: str) -> dg.RunRequest | None:
    """Return the run that a decision requires; None for one that requires none."""
    event = record.asset_materialization
    assert event is not None  # noqa: S101
    metadata: dict[str, Any] = {key: value.value for key, value in event.metadata.items()}
    day, decision = str(event.partition), str(metadata["decision"])
    age = dt.datetime.now(dt.UTC).date() - dt.date.fromisoformat(day)
    if decision == "continue" or age.days > _LATE_DAYS:
        return None
    tags = {DECISION_TAG: day}
    if decision == "improve":
        # the last complete window of a cron ends at its latest tick
        windows = dg.TimeWindowPartitionsDefinition(start="2020-01-01", fmt="%Y-%m-%d", cron_schedule=retrain_cron)
        window = windows.get_last_partition_window()
        assert window is not None  # noqa: S101
        return dg.RunRequest(run_key=f"improve in {window.end.isoformat()}", job_name="mlops", tags=tags)
    version = str(metadata["model_version"])
    config = ActConfig(
        day=day,
        decision=decision,
        model_version=version,
        reason=str(metadata["reason"]),
        problems=list(metadata["problems"]),
    )
    return dg.RunRequest(
        run_key=f"{decision} of {day}, version {version}",
        job_name=act_on_decision.name,
        run_config=dg.RunConfig({"act": config}),
        tags=tags,
    )
