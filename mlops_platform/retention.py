"""The job that deletes old runs; Dagster by itself prunes ticks, and keeps runs, events and logs for ever.

A run takes its asset events along when it is deleted, so the runs that tell the present state of the graph stay,
however old: conditions, freshness, the sensors and `mlops status` answer the same before and after.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

CRON = "30 3 * * *"
PAGE = 100
# the one before the latest: the conditions compare its data version with the latest one's
MATERIALIZATIONS = 2
ASSET = "latest of an asset"
CHECK = "latest of a check"
ORIGIN = "tried again by a kept run"


def build_retention_job(days: int, checks: Sequence[dg.AssetCheckKey]) -> dg.JobDefinition:
    """Make the job `retention`.

    Args:
        days: How long a finished run stays.
        checks: The checks of the graph.
    """

    @dg.op(description=f"Deletes runs that ended more than {days} days ago, with their events and logs.")
    def prune_runs(context: dg.OpExecutionContext) -> None:
        counts = prune(context.instance, datetime.now(UTC) - timedelta(days=days), checks)
        context.log.info(", ".join(f"{what}: {number:,}" for what, number in counts.items()))
        context.add_output_metadata(dict(counts))

    # one step that works in Dagster's storage needs no process of its own, whatever runs the graph
    @dg.job(executor_def=dg.in_process_executor, description="Deletes old runs, but none that an asset needs.")
    def retention() -> None:
        prune_runs()

    return retention


def build_retention_schedule() -> dg.ScheduleDefinition:
    """Make the daily schedule of `retention`."""
    return dg.ScheduleDefinition(
        name="retention_daily",
        job_name="retention",
        cron_schedule=CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Deletes old runs once a day.",
    )


def prune(instance: dg.DagsterInstance, before: datetime, checks: Sequence[dg.AssetCheckKey]) -> dict[str, int]:
    """Delete the finished runs that have not changed since a time; what a killed call left, the next one deletes.

    Args:
        instance: Where they are.
        before: The time.
        checks: The checks whose latest results stay.

    Returns:
        How many runs were deleted, and how many were kept for which reason.
    """
    needed = _needed(instance, checks)
    kept: Counter[str] = Counter()
    deleted, last_kept = 0, None
    old = dg.RunsFilter(statuses=FINISHED_STATUSES, updated_before=before)
    # the cursor is a run that stays: one that is gone marks no place
    while page := instance.get_run_ids(old, cursor=last_kept, limit=PAGE):
        for run_id in page:
            if run_id in needed:
                kept[needed[run_id]] += 1
                last_kept = run_id
            else:
                _delete(instance, run_id)
                deleted += 1
    unfinished = [status for status in dg.DagsterRunStatus if status not in FINISHED_STATUSES]
    return {
        "deleted": deleted,
        **{f"kept: {reason}": kept[reason] for reason in (ASSET, CHECK, ORIGIN)},
        "kept: not finished": instance.get_runs_count(dg.RunsFilter(statuses=unfinished, updated_before=before)),
        "files freed": _free_files(instance),
    }


def _needed(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> dict[str, str]:
    """The runs that tell the present state, and why."""
    needed: dict[str, str] = {}
    for key in instance.get_asset_keys():
        for run_id in _runs_of(instance, key):
            needed.setdefault(run_id, ASSET)
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    for record in latest.values():
        needed.setdefault(record.run_id, CHECK)
    # Dagster cannot show a run whose first try is gone
    for run_id in list(needed):
        run = instance.get_run_by_id(run_id) if run_id else None
        for origin in (run.root_run_id, run.parent_run_id) if run is not None else ():
            if origin is not None:
                needed.setdefault(origin, ORIGIN)
    return needed


def _runs_of(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[str]:
    found: list[Any] = list(instance.fetch_materializations(key, limit=MATERIALIZATIONS).records)
    found += instance.fetch_observations(key, limit=1).records
    yield from (record.run_id for record in found)
    yield from _runs_of_partitions(instance, key)
    # what the last try came to, if it made nothing
    planned = instance.event_log_storage.get_latest_planned_materialization_info(key)
    if planned is not None:
        yield planned.run_id


def _runs_of_partitions(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[str]:
    """The runs that made the partitions of an asset last; without them Dagster would call the partitions missing."""
    latest = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    events = list(latest.values())
    for start in range(0, len(events), PAGE):
        asked = dg.AssetRecordsFilter(asset_key=key, storage_ids=events[start : start + PAGE])
        yield from (record.run_id for record in instance.fetch_materializations(asked, limit=PAGE).records)


def _delete(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    # before the run itself: if this process dies between the two, the next call still finds the run
    instance.event_log_storage.delete_events(run_id)
    instance.delete_run(run_id)


def _free_files(instance: dg.DagsterInstance) -> int:
    """Remove the event files of runs that are gone: Dagster empties such a SQLite file, and leaves it there."""
    # SQLAlchemy and Alembic come with it: .36 s of each load at the top
    from dagster._core.storage.event_log import SqliteEventLogStorage

    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        return 0
    freed = 0
    files = list(storage.get_all_run_ids())
    for start in range(0, len(files), PAGE):
        run_ids = files[start : start + PAGE]
        # asked after the files were listed: a run is stored before its first event
        there = set(instance.get_run_ids(dg.RunsFilter(run_ids=run_ids)))
        for run_id in run_ids:
            if run_id not in there:
                path = Path(storage.path_for_shard(run_id))
                for each in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                    each.unlink(missing_ok=True)
                freed += 1
    return freed
