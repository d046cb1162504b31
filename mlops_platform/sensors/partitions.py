"""What starts runs when partitions of the raw tables change in the warehouse, whoever changed them.

The sensor looks and remembers (see `partition_changes`). What the platform loaded itself is no news: the run that
loaded it goes on by itself. A change by somebody else is asked for once, whatever becomes of the run.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, Protocol

import dagster as dg

from mlops_platform.errors import PlatformError
from mlops_platform.resources.partitions import Partition
from mlops_platform.sensors.partition_changes import Change, Memory, change

TABLES = ("projects", "tags")
INTERVAL_SECONDS = 60
_NAMED = 20  # a tag is read by people: so many partitions are named in it, and the rest counted
_DATA_VERSION = "dagster/data_version"


class _Warehouse(Protocol):
    def partitions(self, tables: Sequence[str]) -> list[Partition]: ...

    def content_version(self, table: str) -> str: ...

    def clear_rejects(self, table: str) -> None: ...


def build_partition_sensor(on_change: Literal["run", "observe"] = "run") -> dg.SensorDefinition:
    """Make the sensor `new_partitions` on the raw tables.

    Args:
        on_change: What a change does. `run` asks for one run of the job `from_raw`, which makes the tables downstream.
            `observe` is for tables that an external process always loads: the sensor reports the new data versions
            of the raw tables and asks for a run of their checks; the automation conditions do the rest once these
            have passed.
    """

    @dg.sensor(
        job_name="from_raw" if on_change == "run" else "raw_checks",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"warehouse"},
        description="Watches the partitions of projects and tags in the warehouse; a change that the platform did "
        "not make starts one run for all that changed.",
    )
    def new_partitions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        warehouse: _Warehouse = context.resources.warehouse
        try:
            return _look(context, warehouse, report=on_change == "observe")
        except PlatformError as error:
            return dg.SkipReason(f"The partitions cannot be looked at: {error}")

    return new_partitions


def _look(context: dg.SensorEvaluationContext, warehouse: _Warehouse, report: bool) -> dg.SensorResult | dg.SkipReason:
    # asked before the warehouse: what such a run writes after this is seen by the next tick
    loading = [table for table in TABLES if _is_loading(context.instance, table)]
    if loading:
        return dg.SkipReason(f"A run is loading {' and '.join(loading)}; the next tick looks again.")
    partitions: dict[str, list[Partition]] = {table: [] for table in TABLES}
    for each in warehouse.partitions(TABLES):
        partitions[each.table].append(each)
    absent = [table for table in TABLES if not partitions[table]]
    if absent:  # a run would only fail on it
        return dg.SkipReason(f"The warehouse has no table {' and '.join(absent)}.")
    try:
        requests, known = _remembered(context.cursor)
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error):
        context.log.warning("The cursor is none of this sensor: the tables are looked at as for the first time.")
        requests, known = 0, {}
    after: dict[str, Any] = {"requests": requests, "tables": {}}
    changes: dict[str, Change] = {}
    for table in TABLES:
        memory, seen = known.get(table, (None, None))
        now = Memory.of(partitions[table])
        found = change(memory, partitions[table], now)
        loaded = _last_load(context.instance, table)
        after["tables"][table] = {"memory": asdict(now), "load": loaded and loaded[0]}
        if found is not None and not _is_own(loaded, seen, warehouse, table):
            changes[table] = found
    if not changes:
        context.update_cursor(json.dumps(after, sort_keys=True))
        return dg.SkipReason("No partition has changed but by the platform's own loads.")
    for table in changes:
        # they were about rows that the platform had loaded, and these are somebody else's
        warehouse.clear_rejects(table)
    # counted, so that a table that returns to an earlier state is news again; a tick that died before its cursor
    # was kept repeats the same key, and Dagster drops the repetition
    after["requests"] += 1
    cursor = json.dumps(after, sort_keys=True)
    run_key = f"{after['requests']}-{hashlib.sha256(cursor.encode()).hexdigest()[:16]}"
    events = [_event(table, changes[table], partitions[table], warehouse) for table in changes] if report else []
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=run_key, tags=_tags(changes))], cursor=cursor, asset_events=events
    )


def _remembered(cursor: str | None) -> tuple[int, dict[str, tuple[Memory, int | None]]]:
    """How many runs were asked for, and each table's memory with the load that was seen; whatever it raises is odd."""
    if not cursor:
        return 0, {}
    kept = json.loads(cursor)
    known = {table: (Memory(**each["memory"]), each["load"]) for table, each in kept["tables"].items()}
    for memory, _ in known.values():
        memory.states()  # a damaged one raises here
    return int(kept["requests"]), known


def _is_loading(instance: dg.DagsterInstance, table: str) -> bool:
    """Whether an unfinished run is going to write the table, or has written it and not said so yet."""
    planned = instance.event_log_storage.get_latest_planned_materialization_info(dg.AssetKey(table))
    if planned is None:
        return False
    run = instance.get_run_by_id(planned.run_id)
    if run is None or run.is_finished:
        return False
    latest = instance.get_latest_materialization_event(dg.AssetKey(table))
    return latest is None or latest.run_id != planned.run_id


def _last_load(instance: dg.DagsterInstance, table: str) -> tuple[int, str | None] | None:
    """The number of the table's latest materialization event, and the data version that it recorded."""
    records = instance.fetch_materializations(dg.AssetKey(table), limit=1).records
    if not records or records[0].asset_materialization is None:
        return None
    return records[0].storage_id, (records[0].asset_materialization.tags or {}).get(_DATA_VERSION)


def _is_own(loaded: tuple[int, str | None] | None, seen: int | None, warehouse: _Warehouse, table: str) -> bool:
    """Whether the platform loaded the table since the last tick, and it holds just that."""
    # a load that an earlier tick has seen explains nothing: the table may have changed and changed back since
    return loaded is not None and loaded[0] != seen and loaded[1] == warehouse.content_version(table)


def _tags(changes: Mapping[str, Change]) -> dict[str, str]:
    names = [f"{table}${part}" for table, each in changes.items() for part in (*each.changed, *each.gone)]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    tags = {
        "mlops/partitions": ", ".join(names[:_NAMED]) + more,
        "mlops/partition_count": str(len(names)),
    }
    gone = sum(len(each.gone) for each in changes.values())
    if gone:
        tags["mlops/partitions_gone"] = str(gone)
    again = [table for table, each in changes.items() if each.made_again]
    if again:
        tags["mlops/tables_made_again"] = ", ".join(again)
    return tags


def _event(
    table: str, found: Change, partitions: Sequence[Partition], warehouse: _Warehouse
) -> dg.AssetMaterialization:
    # an observation would show the version and trigger nothing: conditions follow materializations
    return dg.AssetMaterialization(
        table,
        description="Loaded by an external process; seen by the sensor new_partitions.",
        metadata={
            "dagster/row_count": sum(each.rows for each in partitions),
            "changed_partitions": len(found.changed),
            "gone_partitions": len(found.gone),
        },
        tags={_DATA_VERSION: warehouse.content_version(table)},
    )
