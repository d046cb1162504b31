"""The sensor `new_partitions`: starts a run when another program changes partitions of the raw tables.

The platform's own loads do not count: the run that loaded a table continues downstream. A change starts one run,
whether or not that run succeeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import dagster as dg
from pydantic import BaseModel

from mlops_platform.errors import PlatformError
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.partitions import Partition

TABLES = ("projects", "tags")
INTERVAL_SECONDS = 60
RECENT = 731  # two years of days take 24 KB in the cursor, which Dagster stores with each tick; 10,000 take 330 KB
_NAMED = 20  # partitions that a tag names; the rest are counted
_DATA_VERSION = "dagster/data_version"


class TableState(BaseModel):
    """A table at one poll.

    Attributes:
        created: When the table was created.
        first: Id of the first of the latest `RECENT` partitions; empty if there are no older ones.
        partitions: Partition id to last modification and number of rows; the older ones are one entry, `before FIRST`.
        load: Storage id of the table's latest materialization.
    """

    created: str | None = None
    first: str = ""
    partitions: dict[str, str] = {}
    load: int | None = None

    @classmethod
    def of(cls, partitions: Sequence[Partition], load: int | None = None) -> TableState:
        """Return the state of a table with these partitions (at least one), last materialized by `load`."""
        ids = sorted(partition.partition_id for partition in partitions)
        first = ids[-RECENT] if len(ids) > RECENT else ""
        return cls(created=partitions[0].created, first=first, partitions=_modified(partitions, first), load=load)


class Cursor(BaseModel):
    """The sensor's cursor, as JSON: the number of runs requested so far, and the state of each table."""

    requests: int = 0
    tables: dict[str, TableState] = {}


@dataclass(frozen=True)
class Change:
    """Sorted ids of the new or changed partitions, and of the deleted ones; a recreated table changes in all."""

    changed: Sequence[str]
    gone: Sequence[str]
    recreated: bool = False


def change(before: TableState, partitions: Sequence[Partition]) -> Change | None:
    """Compare a table's current partitions (at least one) with its state at the last poll; None if nothing changed."""
    modified = _modified(partitions, before.first)
    recreated = before.created not in (None, partitions[0].created)
    changed = [name for name, state in modified.items() if recreated or before.partitions.get(name) != state]
    gone = [name for name in before.partitions if name not in modified]
    return Change(changed, gone, recreated) if changed or gone else None


def _modified(partitions: Sequence[Partition], first: str) -> dict[str, str]:
    ordered = sorted(partitions, key=lambda partition: partition.partition_id)
    states = {partition.partition_id: f"{partition.modified} {partition.rows}" for partition in ordered}
    recent = {name: state for name, state in states.items() if name >= first}
    if not first:
        return recent
    older = hashlib.sha256(repr([item for item in states.items() if item[0] < first]).encode()).hexdigest()[:16]
    return {f"before {first}": older} | recent


def build_partition_sensor(on_change: Literal["run", "observe"] = "run") -> dg.SensorDefinition:
    """Build the sensor `new_partitions`.

    Args:
        on_change: What a change does. `run` starts the job `from_raw`, which builds the tables downstream. `observe` is
            for tables that an external process always loads: the sensor reports the new data versions of the raw
            tables and starts their checks; once these pass, the automation conditions do the rest.
    """

    @dg.sensor(
        job_name="from_raw" if on_change == "run" else "raw_checks",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"warehouse"},
        description="Polls the partitions of projects and tags; a change that another program made starts one run.",
    )
    def new_partitions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            return _poll(context, context.resources.warehouse, report=on_change == "observe")
        except PlatformError as error:
            return dg.SkipReason(f"The partitions cannot be read: {error}")

    return new_partitions


def _poll(context: dg.SensorEvaluationContext, warehouse: Warehouse, report: bool) -> dg.SensorResult | dg.SkipReason:
    # before the warehouse is queried: what such a run writes later, the next tick handles
    loading = [table for table in TABLES if _is_loading(context.instance, table)]
    if loading:
        return dg.SkipReason(f"A run is loading {' and '.join(loading)}; the next tick polls again.")
    partitions: dict[str, list[Partition]] = {table: [] for table in TABLES}
    for partition in warehouse.partitions(TABLES):
        partitions[partition.table].append(partition)
    absent = [table for table in TABLES if not partitions[table]]
    if absent:  # a run would fail
        return dg.SkipReason(f"The warehouse has no table {' and '.join(absent)}.")
    cursor = _read_cursor(context)
    changes: dict[str, Change] = {}
    for table in TABLES:
        load, loaded_version = _last_load(context.instance, table)
        before = cursor.tables.get(table, TableState())
        difference = change(before, partitions[table])
        # only a load since the last tick can explain a change: later the table may have changed and changed back
        if difference and (load in (None, before.load) or loaded_version != warehouse.content_version(table)):
            changes[table] = difference
        cursor.tables[table] = TableState.of(partitions[table], load)
    if not changes:
        context.update_cursor(cursor.model_dump_json())
        return dg.SkipReason("No partition has changed, except by the platform's own loads.")
    for table in changes:
        warehouse.clear_rejects(table)  # they belong to the platform's earlier load
    # counted, so that a table that returns to an earlier state has another run key; a tick that died before its cursor
    # was stored repeats its key, which Dagster drops
    cursor.requests += 1
    state = cursor.model_dump_json()
    run_key = f"{cursor.requests}-{hashlib.sha256(state.encode()).hexdigest()[:16]}"
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=run_key, tags=_tags(changes))],
        cursor=state,
        asset_events=[_event(table, changes[table], partitions[table], warehouse) for table in changes if report],
    )


def _read_cursor(context: dg.SensorEvaluationContext) -> Cursor:
    try:
        return Cursor.model_validate_json(context.cursor or "{}")
    except ValueError:
        context.log.warning("The cursor cannot be read: this tick counts as the first one.")
        return Cursor()


def _is_loading(instance: dg.DagsterInstance, table: str) -> bool:
    """Return whether an unfinished run has yet to write the table, or to report that it did."""
    planned = instance.event_log_storage.get_latest_planned_materialization_info(dg.AssetKey(table))
    run = instance.get_run_by_id(planned.run_id) if planned else None
    if run is None or run.is_finished:
        return False
    latest = instance.get_latest_materialization_event(dg.AssetKey(table))
    return latest is None or latest.run_id != run.run_id


def _last_load(instance: dg.DagsterInstance, table: str) -> tuple[int | None, str | None]:
    """Return the storage id of the table's latest materialization, and the data version that it recorded."""
    records = instance.fetch_materializations(dg.AssetKey(table), limit=1).records
    if not records or records[0].asset_materialization is None:
        return None, None
    return records[0].storage_id, (records[0].asset_materialization.tags or {}).get(_DATA_VERSION)


def _tags(changes: Mapping[str, Change]) -> dict[str, str]:
    names = [
        f"{table}${name}" for table, difference in changes.items() for name in (*difference.changed, *difference.gone)
    ]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    tags = {"mlops/partitions": ", ".join(names[:_NAMED]) + more, "mlops/partition_count": str(len(names))}
    if gone := sum(len(difference.gone) for difference in changes.values()):
        tags["mlops/partitions_gone"] = str(gone)
    if recreated := [table for table, difference in changes.items() if difference.recreated]:
        tags["mlops/tables_recreated"] = ", ".join(recreated)
    return tags


def _event(
    table: str, difference: Change, partitions: Sequence[Partition], warehouse: Warehouse
) -> dg.AssetMaterialization:
    # not an observation, which would trigger nothing: conditions follow materializations
    return dg.AssetMaterialization(
        table,
        description="Loaded by an external process; reported by the sensor new_partitions.",
        metadata={
            "dagster/row_count": sum(partition.rows for partition in partitions),
            "changed_partitions": len(difference.changed),
            "gone_partitions": len(difference.gone),
        },
        tags={_DATA_VERSION: warehouse.content_version(table)},
    )
