"""The job `retention`, which deletes old runs: Dagster itself only deletes ticks, never runs, events or logs.

Deleting a run deletes its asset events. The runs that hold the current state of the graph therefore stay, however old
they are: conditions, freshness, sensors and `mlops status` give the same results before and after.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

PAGE = 100
FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# automation conditions compare the data versions of the latest two
MATERIALIZATIONS = 2
ASSET = "latest of an asset"
CHECK = "latest of a check"
ORIGIN = "retried by a kept run"

RETENTION_SCHEDULE = dg.ScheduleDefinition(
    name="retention_daily",
    job_name="retention",
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Deletes old runs once a day.",
)


def build_retention_job(days: int, checks: Sequence[dg.AssetCheckKey]) -> dg.JobDefinition:
    """Build the job `retention`, which deletes runs `days` after they finished; `checks` are those of the graph."""

    @dg.op(description=f"Deletes runs that ended more than {days} days ago, with their events and logs.")
    def prune_runs(context: dg.OpExecutionContext) -> None:
        counts = prune(context.instance, datetime.now(UTC) - timedelta(days=days), checks)
        context.log.info(", ".join(f"{what}: {number:,}" for what, number in counts.items()))
        context.add_output_metadata(dict(counts))

    # the only step works on Dagster's storage: it needs no other process, whatever the graph's executor is
    @dg.job(
        executor_def=dg.in_process_executor,
        description="Deletes old runs, except those that hold the current state of an asset or check.",
    )
    def retention() -> None:
        prune_runs()

    return retention


def prune(instance: dg.DagsterInstance, before: datetime, checks: Sequence[dg.AssetCheckKey]) -> dict[str, int]:
    """Delete the finished runs that were last updated before a time, except the latest of an asset or of these checks.

    After a kill, the next call completes the work.

    Returns:
        The number of deleted runs, of runs that stay by reason, and of deleted event files.
    """
    needed = _needed(instance, checks)
    kept: Counter[str] = Counter()
    deleted, last_kept = 0, None
    old = dg.RunsFilter(statuses=FINISHED, updated_before=before)
    # the cursor must be a run that stays: a deleted one has no position
    while page := instance.get_run_ids(old, cursor=last_kept, limit=PAGE):
        for run_id in page:
            if run_id in needed:
                kept[needed[run_id]] += 1
                last_kept = run_id
            else:
                _delete(instance, run_id)
                deleted += 1
    unfinished = [status for status in dg.DagsterRunStatus if status not in FINISHED]
    return {
        "deleted": deleted,
        **{f"kept: {reason}": kept[reason] for reason in (ASSET, CHECK, ORIGIN)},
        "kept: not finished": instance.get_runs_count(dg.RunsFilter(statuses=unfinished, updated_before=before)),
        "files freed": _free_files(instance),
    }


def _needed(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> dict[str, str]:
    """Return the runs that hold the current state, with the reason."""
    needed = {run_id: ASSET for key in instance.get_asset_keys() for run_id in _runs_of(instance, key)}
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    needed = {record.run_id: CHECK for record in latest.values()} | needed
    # Dagster cannot show a retry whose original run was deleted
    runs = [run for run_id in needed if run_id and (run := instance.get_run_by_id(run_id))]
    origins = {origin: ORIGIN for run in runs for origin in (run.root_run_id, run.parent_run_id) if origin}
    return origins | needed


def _runs_of(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[str]:
    storage = instance.event_log_storage
    yield from (record.run_id for record in instance.fetch_materializations(key, limit=MATERIALIZATIONS).records)
    yield from (record.run_id for record in instance.fetch_observations(key, limit=1).records)
    # the latest attempt, even if it failed
    if planned := storage.get_latest_planned_materialization_info(key):
        yield planned.run_id
    # the latest run of each partition, without which the partition would count as missing
    latest = storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
    events = list(latest.values())
    for start in range(0, len(events), PAGE):
        page = dg.AssetRecordsFilter(asset_key=key, storage_ids=events[start : start + PAGE])
        yield from (record.run_id for record in instance.fetch_materializations(page, limit=PAGE).records)


def _delete(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    # before the run itself: if the process dies in between, the next call still finds the run
    instance.event_log_storage.delete_events(run_id)
    instance.delete_run(run_id)


def _free_files(instance: dg.DagsterInstance) -> int:
    """Delete the event files of deleted runs, which Dagster's SQLite storage empties but leaves; Postgres has none."""
    files = {path.stem: path for path in Path(instance.root_directory, "history", "runs").glob("*-*.db")}
    run_ids = sorted(files)
    existing: set[str] = set()
    # queried after the files were listed: a run is stored before its first event
    for start in range(0, len(run_ids), PAGE):
        existing.update(instance.get_run_ids(dg.RunsFilter(run_ids=run_ids[start : start + PAGE])))
    orphans = [files[run_id] for run_id in run_ids if run_id not in existing]
    for path in orphans:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    return len(orphans)
