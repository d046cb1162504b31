"""Jobs (named selections of the graph) and the schedules that start them; what starts on changes is in ``sensors``."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

RAW = ("projects", "tags")
TRANSFORM = ("labeled_projects", "unlabeled_projects")
DATAOPS = (*RAW, *TRANSFORM)
# with the snapshot: a decision counts the current labels, and label QA evaluates them
_LABELING = ("label_issues", "labeling_queue")
MONITORING = ("validated_dataset", "predictions", "drift_report", "retraining_decision", *_LABELING)
MLOPS = ("validated_dataset", "tuned_params", "trained_model", "model_evaluation", "champion_model")

_RAW_CHECKS = dg.AssetSelection.checks_for_assets(*(dg.AssetKey(name) for name in RAW))


def build_jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """Build the jobs, each of which also runs the checks of its assets; `new_partitions` starts the last two."""
    assets = dg.AssetSelection.assets
    jobs = {
        "dataops": (
            assets(*DATAOPS),
            "From the sources to checked tables: projects, tags, labeled and unlabeled projects.",
        ),
        "mlops": (assets(*MLOPS), "From the labeled table to the champion: snapshot, tune, train, evaluate, promote."),
        "end_to_end": (assets(*DATAOPS, *MLOPS), "From the sources to the champion: `dataops` and `mlops` in one run."),
        "monitoring": (
            assets(*MONITORING),
            "The champion on one day: predictions, drift, decision; and which labels to doubt or to add.",
        ),
        "from_raw": (
            _RAW_CHECKS | assets(*TRANSFORM),
            "From raw tables that another program loaded to checked tables; loads nothing.",
        ),
        "raw_checks": (_RAW_CHECKS, "The checks of the raw tables; loads nothing."),
    }
    return [
        dg.define_asset_job(name, selection=selection, description=description)
        for name, (selection, description) in jobs.items()
    ]


def build_schedule(cron: str) -> dg.ScheduleDefinition:
    """Build the daily schedule (UTC) of `end_to_end`; as the job has no partitions, Dagster catches up on one tick."""
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
