"""Jobs (named selections of the graph) and the schedules that start them; what starts on changes is in ``sensors``."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

RAW = ("projects", "tags")
TRANSFORM = ("labeled_projects", "unlabeled_projects")
DATAOPS = (*RAW, *TRANSFORM)
# with the snapshot: a decision counts the current labels, and label QA evaluates them
MONITORING = (
    "validated_dataset",
    "predictions",
    "drift_report",
    "retraining_decision",
    "label_issues",
    "labeling_queue",
)
MLOPS = ("validated_dataset", "tuned_params", "trained_model", "model_evaluation", "champion_model")

_RAW_CHECKS = dg.AssetSelection.checks_for_assets(*(dg.AssetKey(name) for name in RAW))


def build_jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """Build the jobs, each of which also runs the checks of its assets.

    The sensor `new_partitions` starts `from_raw` and `raw_checks`.
    """
    return [
        dg.define_asset_job(
            "dataops",
            selection=dg.AssetSelection.assets(*DATAOPS),
            description="From the sources to checked tables: projects, tags, labeled and unlabeled projects.",
        ),
        dg.define_asset_job(
            "mlops",
            selection=dg.AssetSelection.assets(*MLOPS),
            description="From the labeled table to the champion: snapshot, tune, train, evaluate, promote.",
        ),
        dg.define_asset_job(
            "end_to_end",
            selection=dg.AssetSelection.assets(*DATAOPS, *MLOPS),
            description="From the sources to the champion: `dataops` and `mlops` in one run.",
        ),
        dg.define_asset_job(
            "monitoring",
            selection=dg.AssetSelection.assets(*MONITORING),
            description="The champion on one day: predictions, drift, decision; and which labels to doubt or to add.",
        ),
        dg.define_asset_job(
            "from_raw",
            selection=_RAW_CHECKS | dg.AssetSelection.assets(*TRANSFORM),
            description="From raw tables that another program loaded to checked tables; loads nothing.",
        ),
        dg.define_asset_job(
            "raw_checks", selection=_RAW_CHECKS, description="The checks of the raw tables; loads nothing."
        ),
    ]


def build_schedule(cron: str) -> dg.ScheduleDefinition:
    """Build the daily schedule (UTC) of `end_to_end`.

    The job has no partitions, so Dagster's scheduler catches up on at most one missed tick.
    """
    return dg.ScheduleDefinition(
        name="daily",
        job_name="end_to_end",
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Runs end_to_end once a day, so that no asset becomes stale.",
    )


def build_monitoring_schedule(cron: str) -> dg.ScheduleDefinition:
    """Build the schedule (UTC) of `monitoring`, which runs the previous day: the current one is incomplete."""

    @dg.schedule(
        name="monitoring_daily",
        job_name="monitoring",
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Runs monitoring once a day for the previous day.",
    )
    def monitoring_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = (context.scheduled_execution_time - timedelta(days=1)).date().isoformat()
        return dg.RunRequest(run_key=day, partition_key=day)

    return monitoring_daily
