"""A small graph whose runs are pruned, and the questions that must have the same answers before and after."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mlops_platform import automation, run_retention

NOW = datetime(2100, 1, 1, tzinfo=UTC)  # every run of a test is old then


@dg.asset
def talk(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Print, and make a new version at every second run."""
    print("talking")
    made = context.instance.fetch_materializations(dg.AssetKey("talk"), limit=1000).records
    return dg.MaterializeResult(data_version=dg.DataVersion(f"v{len(made) // 2}"))


@dg.asset(deps=[talk], automation_condition=automation.on_new_data())
def follower() -> dg.MaterializeResult[None]:
    """What the condition makes when there is a new version."""
    return dg.MaterializeResult(data_version=dg.DataVersion("same"))


@dg.asset
def broken() -> None:
    """Never made."""
    raise RuntimeError("never")


@dg.observable_source_asset
def observed() -> dg.DataVersion:
    """What others make."""
    return dg.DataVersion("o1")


@dg.asset_check(asset=talk, blocking=True)
def good() -> dg.AssetCheckResult:
    """Passes."""
    return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset=talk)
def raises() -> dg.AssetCheckResult:
    """Planned, and never evaluated."""
    raise RuntimeError("no result")


defs = dg.Definitions(
    assets=[talk, follower, broken, observed],
    asset_checks=[good, raises],
    jobs=[
        dg.define_asset_job("talks", selection=dg.AssetSelection.assets("talk").without_checks()),
        dg.define_asset_job("follows", selection="follower"),
        dg.define_asset_job("fails", selection="broken"),
        dg.define_asset_job("observes", selection="observed"),
        dg.define_asset_job("checks", selection=dg.AssetSelection.checks_for_assets("talk")),
    ],
)
CHECKS = (dg.AssetCheckKey(dg.AssetKey("talk"), "good"), dg.AssetCheckKey(dg.AssetKey("talk"), "raises"))


def run(instance: dg.DagsterInstance, job: str) -> str:
    """Run a job; returns the id of the run."""
    return defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False).run_id


def answers(instance: dg.DagsterInstance, cursor: Any) -> dict[str, Any]:
    """What automation, the sensors, freshness and `mlops status` ask an instance."""
    storage = instance.event_log_storage
    said: dict[str, Any] = {}
    for key in defs.resolve_asset_graph().get_all_asset_keys():
        name = key.to_user_string()
        records = [
            *instance.fetch_materializations(key, limit=1).records,
            *instance.fetch_observations(key, limit=1).records,
        ]
        said[name] = [(each.storage_id, each.run_id, each.event_log_entry.timestamp) for each in records]
        planned = storage.get_latest_planned_materialization_info(key)
        said[f"{name} planned"] = planned and instance.get_run_by_id(planned.run_id).status  # type: ignore[union-attr]
    for check, record in storage.get_latest_asset_check_execution_by_key(list(CHECKS)).items():
        ran = instance.get_run_by_id(record.run_id)
        said[check.name] = (record.status, record.run_id, ran and ran.status)
    asked = dg.evaluate_automation_conditions(defs, instance, cursor=cursor)
    said["requested"] = asked.total_requested
    return said


def fill_and_prune(instance: dg.DagsterInstance, *, changes: bool) -> None:
    """Fill an instance, prune it, and compare what it says.

    Args:
        instance: An empty one.
        changes: Whether the last run makes a new version, which the condition has not seen yet.
    """
    for job in ("observes", "checks", "fails", "talks", "talks", "observes", "fails", "checks", "follows"):
        run(instance, job)
    if not changes:
        run(instance, "talks")
    cursor = None
    for _ in range(2):
        cursor = dg.evaluate_automation_conditions(defs, instance, cursor=cursor).cursor
    run(instance, "follows")
    cursor = dg.evaluate_automation_conditions(defs, instance, cursor=cursor).cursor
    run(instance, "talks")
    run(instance, "checks")
    before = answers(instance, cursor)
    runs = instance.get_runs_count()
    counts = run_retention.prune(instance, NOW, CHECKS)
    assert answers(instance, cursor) == before
    # what would be lost is there to be lost
    assert before["requested"] == int(changes)
    assert all(before[name] for name in ("talk", "follower", "observed", "broken planned", "good", "raises"))
    assert counts["deleted"] > 3
    assert instance.get_runs_count() == runs - counts["deleted"]
