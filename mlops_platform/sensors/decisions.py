"""Acts on decisions: starts a retraining, returns to the champion before, or puts promotion on hold.

The sensor looks at what `retraining_decision` has decided; the work is done in runs, which the UI shows.
"""

import datetime as dt
from typing import Any

import dagster as dg
from dagster._utils.schedules import get_latest_completed_cron_tick

from mlops_platform.assets.decision import DECISION, DECISION_TAG
from mlops_platform.assets.failures import sentences
from mlops_platform.errors import ModelError
from mlops_platform.resources import deployments, inspections
from mlops_platform.resources.tracking import CHAMPION, MlflowTracking

INTERVAL_SECONDS = 30
ACT_JOB = "act_on_decision"
_LATE_DAYS = 2  # older days are history that somebody has had worked up again, not news
_EVENTS_A_TICK = 100


class ActConfig(dg.Config):
    """The decision that is acted upon."""

    day: str
    decision: str
    model_version: str
    reason: str
    problems: list[str]


@dg.op(name="act", description="Returns to the champion before, or holds automatic promotion until a person answers.")
def act(context: dg.OpExecutionContext, config: ActConfig, tracking: MlflowTracking) -> None:
    """Do what a decision says; a repetition changes nothing, and neither does one that came too late."""
    with sentences():
        champion = tracking.by_alias(CHAMPION)
        if champion is None:
            raise ModelError("There is no champion to act on: materialize champion_model first.")
        if champion.version != config.model_version:
            context.log.warning(
                f"Nothing is done: the decision is about version {config.model_version}, and the champion is version "
                f"{champion.version} by now."
            )
        elif config.decision == "rollback":
            move = deployments.rollback(tracking, by="dagster", reason=config.reason, dagster_run_id=context.run_id)
            context.log.info(f"The champion is version {move.version} again.")
        elif config.decision == "inspect":
            inspections.ask(
                tracking,
                day=config.day,
                version=champion.version,
                problems=tuple(config.problems),
                reason=config.reason,
                dagster_run_id=context.run_id,
            )
            context.log.info("Automatic promotion is on hold until somebody answers by `mlops decide`.")
        else:
            raise ModelError(f"Decision {config.decision!r} is none that is acted upon here: rollback or inspect.")


def build_act_job() -> dg.JobDefinition:
    """Make the job that acts on a decision."""

    @dg.job(name=ACT_JOB, description="Acts on a decision of the day: rollback or inspect.")
    def job() -> None:
        act()

    return job


def build_decision_sensor(
    retrain_cron: str, training: "dg.UnresolvedAssetJobDefinition", acting: dg.JobDefinition
) -> dg.SensorDefinition:
    """Make the sensor `decisions`.

    Its cursor is the last event that it has seen. Each day's decision is acted upon once; a retraining starts at most
    once in a window. A decision about a day that is more than two days past is a record only.

    Args:
        retrain_cron: Cron (UTC) of the windows.
        training: The job `mlops`.
        acting: The job of `build_act_job`.
    """

    @dg.sensor(
        name="decisions",
        jobs=[training, acting],
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Acts on the decisions of the day: improve retrains, rollback and inspect go to act_on_decision.",
    )
    def decisions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        after = int(context.cursor) if context.cursor else None
        found = context.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(DECISION), after_storage_id=after),
            limit=_EVENTS_A_TICK,
            ascending=True,
        ).records
        if not found:
            return dg.SkipReason("No new decision.")
        now = dt.datetime.now(dt.UTC)
        requests = [request for record in found if (request := _request(record, retrain_cron, now)) is not None]
        return dg.SensorResult(run_requests=requests, cursor=str(found[-1].storage_id))

    return decisions


def _request(record: dg.EventLogRecord, retrain_cron: str, now: dt.datetime) -> dg.RunRequest | None:
    """What a decision asks for; None where it is to be recorded only."""
    event = record.asset_materialization
    assert event is not None  # noqa: S101
    told: dict[str, Any] = {key: value.value for key, value in event.metadata.items()}
    day, decision = str(event.partition), str(told["decision"])
    if decision == "continue" or (now.date() - dt.date.fromisoformat(day)).days > _LATE_DAYS:
        return None
    tags = {DECISION_TAG: day}
    if decision == "improve":
        window = get_latest_completed_cron_tick(retrain_cron, now, "UTC")
        return dg.RunRequest(run_key=f"improve in {window.isoformat()}", job_name="mlops", tags=tags)
    config = {
        "day": day,
        "decision": decision,
        "model_version": str(told["model_version"]),
        "reason": str(told["reason"]),
        "problems": list(told["problems"]),
    }
    return dg.RunRequest(
        run_key=f"{decision} of {day}, version {told['model_version']}",
        job_name=ACT_JOB,
        run_config={"ops": {"act": {"config": config}}},
        tags=tags,
    )
