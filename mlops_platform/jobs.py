"""Named selections of the graph that a person, a schedule or a sensor runs as one."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

RAW = ("projects", "tags")
TRANSFORM = ("labeled_projects", "unlabeled_projects")
DATAOPS = (*RAW, *TRANSFORM)
# the snapshot too: a decision counts the labels that are there now, and label QA looks at them
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
    """Make the jobs; each runs the checks of its assets too.

    `from_raw` and `raw_checks` are started by the sensor `new_partitions`.
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
            description="The whole graph, from raw CSV to a promoted model.",
        ),
        dg.define_asset_job(
            "monitoring",
            selection=dg.AssetSelection.assets(*MONITORING),
            description="The champion on a day: predictions, drift, what follows; doubtful labels, what to label.",
        ),
        dg.define_asset_job(
            "from_raw",
            selection=_RAW_CHECKS | dg.AssetSelection.assets(*TRANSFORM),
            description="From raw tables that somebody else loaded to checked tables; loads nothing.",
        ),
        dg.define_asset_job(
            "raw_checks", selection=_RAW_CHECKS, description="The checks of the raw tables; loads nothing."
        ),
    ]


def build_schedule(cron: str) -> dg.ScheduleDefinition:
    """Make the daily schedule of `end_to_end`.

    The job has no partitions, so Dagster's scheduler makes up for at most one of the ticks it missed.

    Args:
        cron: When, UTC.
    """
    return dg.ScheduleDefinition(
        name="daily",
        job_name="end_to_end",
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Runs the whole graph once a day, so that no asset grows stale.",
    )


def build_monitoring_schedule(cron: str) -> dg.ScheduleDefinition:
    """Make the schedule of `monitoring`, which is about the day before: that one is complete.

    Args:
        cron: When, UTC.
    """

    @dg.schedule(
        name="monitoring_daily",
        job_name="monitoring",
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Runs monitoring once a day for the day before.",
    )
    def monitoring_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = (context.scheduled_execution_time - timedelta(days=1)).date().isoformat()
        return dg.RunRequest(run_key=day, partition_key=day)

    return monitoring_daily
