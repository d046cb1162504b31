"""`mlops status`: the latest materializations, check results, champion and decision."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops_platform.cli.instance import open_instance
from mlops_platform.cli.run_summary import champion, figures
from mlops_platform.settings import Settings

if TYPE_CHECKING:
    import dagster as dg


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show each asset's latest materialization, data version and checks, and the champion."""
    state = collect(Settings())
    if as_json:
        print(json.dumps(state, indent=2, ensure_ascii=False))
    else:
        _print_status(state)


def collect(settings: Settings) -> dict[str, Any]:
    """Return the state of the graph from the Dagster instance and the registry, without opening the warehouse.

    Args:
        settings: The location of both.

    Returns:
        `assets`: name to `materialized_at` (ISO 8601, UTC), `run_id`, `data_version`, `checks` (name to
        passed, failed, not evaluated, running or not run); `champion`: its version and metrics, or None; `decision`:
        day, decision and reason of the latest one, or None; `inspection`: the open one, or None.
    """
    with open_instance(settings) as instance:
        from mlops_platform.build import build_definitions

        graph = build_definitions(settings).resolve_asset_graph()
        keys = [key for level in graph.toposorted_asset_keys_by_level for key in sorted(level)]
        assets = {key.to_user_string(): _asset(instance, key) for key in keys}
        check_keys = sorted(graph.asset_check_keys, key=lambda key: key.name)
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(check_keys)
        for key in check_keys:
            record = latest.get(key)
            assets[key.asset_key.to_user_string()]["checks"][key.name] = (
                _result(instance, record.status.value, record.run_id) if record else "not run"
            )
        decision = _decision(instance)
    return {
        "assets": assets,
        "champion": champion(settings),
        "decision": decision,
        "inspection": _inspection(settings),
    }


def _decision(instance: dg.DagsterInstance) -> dict[str, Any] | None:
    import dagster as dg

    from mlops_platform.assets.decision import DECISION

    record = instance.get_latest_materialization_event(dg.AssetKey(DECISION))
    event = record.asset_materialization if record is not None else None
    if event is None:
        return None
    values = {name: event.metadata[name].value for name in ("decision", "reason") if name in event.metadata}
    return {"day": event.partition, **values}


def _inspection(settings: Settings) -> dict[str, Any] | None:
    from mlops_platform.resources.factory import build_registry
    from mlops_platform.resources.registry.inspections import open_inspection

    tracking = build_registry(settings)
    inspection = open_inspection(tracking) if tracking.exists() else None
    return asdict(inspection) if inspection is not None else None


def _asset(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, Any]:
    record = instance.get_latest_materialization_event(key)
    if record is None or record.asset_materialization is None:
        return {"materialized_at": None, "run_id": None, "data_version": None, "checks": {}}
    tags = record.asset_materialization.tags or {}
    return {
        "materialized_at": datetime.fromtimestamp(record.timestamp, tz=UTC).isoformat(timespec="seconds"),
        "run_id": record.run_id,
        "data_version": tags.get("dagster/data_version"),
        "checks": {},
    }


def _result(instance: dg.DagsterInstance, status: str, run_id: str) -> str:
    """Return the result of a check; one whose run ended without a result was not evaluated, and did not pass."""
    if status in ("SUCCEEDED", "FAILED"):
        return "passed" if status == "SUCCEEDED" else "failed"
    run = instance.get_run_by_id(run_id)
    return "running" if run is not None and not run.is_finished else "not evaluated"


def _print_status(state: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, pad_edge=False)
    for column in ("asset", "materialized (UTC)", "data version", "checks"):
        table.add_column(column, no_wrap=column != "checks")
    for name, asset in state["assets"].items():
        counts = Counter(sorted(asset["checks"].values(), reverse=True))
        materialized_at = asset["materialized_at"]
        table.add_row(
            name,
            materialized_at[:19].replace("T", " ") if materialized_at else "never",
            (asset["data_version"] or "-")[:16],
            ", ".join(f"{count} {result}" for result, count in counts.items()),
        )
    console.print(table)
    for name, asset in state["assets"].items():
        for check, result in asset["checks"].items():
            if result in ("failed", "not evaluated"):
                console.print(f"  ✗ {name}: {check} ({result})", highlight=False)
    current = state["champion"]
    if current is None:
        console.print("champion: none yet; run `mlops run`", highlight=False)
        return
    console.print(f"champion: version {current['version']}, {figures(current['metrics'])}", highlight=False)
    if current["reason"]:
        console.print(f"  {current['reason']}", highlight=False, soft_wrap=True)
    if state["decision"] is not None:
        latest = state["decision"]
        console.print(f"decision of {latest['day']}: {latest['decision']}", highlight=False)
        console.print(f"  {latest['reason']}", highlight=False, soft_wrap=True)
    if state["inspection"] is not None:
        console.print("Promotion is on hold: `mlops decide` shows the reason and takes an answer.", highlight=False)
