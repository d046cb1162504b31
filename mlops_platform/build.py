"""Assembles the graph from `Settings` and what the other modules define; avoid deciding anything here."""

from __future__ import annotations

import dagster as dg

from mlops_platform import automation, jobs, run_retention
from mlops_platform.assets.airbyte import build_airbyte_assets
from mlops_platform.assets.dataset import build_dataset_asset
from mlops_platform.assets.dbt_cloud import build_dbt_cloud_assets
from mlops_platform.assets.decision import build_decision_asset
from mlops_platform.assets.evaluation import model_evaluation
from mlops_platform.assets.ingest import build_ingest_assets
from mlops_platform.assets.labeling import build_queue_asset, label_issues
from mlops_platform.assets.monitoring import build_drift_asset
from mlops_platform.assets.predictions import build_predictions_asset
from mlops_platform.assets.promotion import build_deployment_asset
from mlops_platform.assets.training import build_training_asset
from mlops_platform.assets.transform import build_transform_assets
from mlops_platform.assets.tuning import build_tuning_asset
from mlops_platform.checks.expectations import suite_checks
from mlops_platform.checks.labels import build_conflict_check, build_label_check
from mlops_platform.checks.model import build_model_checks
from mlops_platform.checks.rejects import build_ingest_checks
from mlops_platform.executor import build_executor
from mlops_platform.ml.training_data.resampling import Recipe
from mlops_platform.optional_dependencies import require_training_packages
from mlops_platform.resources.factory import build_resources, dbt_project, dbt_resource
from mlops_platform.resources.notifier import Notifier
from mlops_platform.resources.prediction_log import log_store
from mlops_platform.sensors.alerts import build_alert_sensor
from mlops_platform.sensors.decisions import act_on_decision, build_decision_sensor
from mlops_platform.sensors.new_partitions import build_partition_sensor
from mlops_platform.sensors.source_files import build_source_sensor
from mlops_platform.settings import Settings


def build_definitions(settings: Settings | None = None) -> dg.Definitions:
    """Assemble the graph from these settings, by default those of the environment.

    Raises:
        PlatformError: An optional package that the settings need is missing, or dbt cannot read its project.
    """
    settings = settings or Settings()
    require_training_packages(settings)
    project = dbt_project(settings)
    asset_jobs = jobs.build_jobs()
    training_job = next(job for job in asset_jobs if job.name == "mlops")
    sensors = [
        automation.automation_sensor(),
        build_partition_sensor(settings.partition_sensor),
        build_alert_sensor(Notifier(settings.alerts), settings.alert_after),
        build_decision_sensor(settings.retrain_cron, training_job),
    ]
    if settings.source_loader == "airbyte":
        raw = build_airbyte_assets(
            settings.airbyte_projects_connection, settings.airbyte_tags_connection, settings.event_log_path
        )
    else:
        raw = build_ingest_assets(
            settings.projects_uri, settings.tags_uri, settings.fetch_timeout, settings.event_log_path
        )
        sensors.append(build_source_sensor(settings.projects_uri, settings.tags_uri, settings.event_log_path))
    assets = [
        *raw,
        build_dbt_cloud_assets(project) if settings.dbt_runner == "cloud" else build_transform_assets(project),
        build_dataset_asset(settings.test_share, settings.stream_above_rows),
        build_tuning_asset(settings.num_trials, settings.tuning_workers, settings.tuning_cpu_seconds),
        build_training_asset(Recipe(settings.balance, settings.balance_ratio, settings.augment)),
        model_evaluation,
        build_deployment_asset(settings.min_f1),
        build_predictions_asset(settings.first_day, log_store(settings)),
        build_drift_asset(
            settings.first_day, settings.drift_window_days, settings.drift_minimum_rows, settings.drift_alpha
        ),
        build_decision_asset(settings.first_day, settings.decision_thresholds),
        label_issues,
        build_queue_asset(settings.queue_size, settings.event_log_path),
    ]
    if settings.env == "production":
        assets = [asset.map_asset_specs(_in_bigquery) for asset in assets]
    checks = [
        *build_ingest_checks(settings.max_reject_share),
        *(suite_checks(suite, suite) for suite in ("projects", "tags", "labeled_projects")),
        suite_checks("labeled_projects", "validated_dataset", snapshot=True),
        *build_model_checks(settings.min_f1),
        build_label_check(settings.max_suspect_share),
        build_conflict_check(),
    ]
    check_keys = [key for definition in (*assets, *checks) for key in definition.check_keys]
    defs = dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=[*asset_jobs, act_on_decision, run_retention.build_retention_job(settings.run_retention_days, check_keys)],
        schedules=[
            jobs.build_schedule(settings.daily_cron),
            jobs.build_monitoring_schedule(settings.monitoring_cron),
            run_retention.RETENTION_SCHEDULE,
        ],
        sensors=sensors,
        resources={**build_resources(settings), "dbt": dbt_resource(settings, project)},
        executor=build_executor(settings),
    )
    return automation.with_policies(defs, retrain_cron=settings.retrain_cron, freshness_hours=settings.freshness_hours)


def _in_bigquery(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Replace the kind duckdb of an asset by bigquery."""
    if "duckdb" not in spec.kinds:
        return spec
    return spec.replace_attributes(kinds=(spec.kinds - {"duckdb"}) | {"bigquery"})
