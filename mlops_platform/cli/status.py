"""`mlops status`: the latest materializations, check results, champion and decision."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops_platform.cli.instance import open_instance
from mlops_platform.settings import RegistrySettings, Settings

if TYPE_CHECKING:
    import dagster as dg

TABLES = ("projects", "tags", "labeled_projects", "unlabeled_projects")
REJECTS = "rejects"
_SHOWN_METRICS = ("test_f1_weighted", "test_accuracy", "test_ece", "cv_f1_weighted")


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show each asset's latest materialization, data version and checks, and the champion."""
    state = collect(Settings())
    if as_json:
        print(json.dumps(state, indent=2, ensure_ascii=False))
    else:
        _print_status(state)


def collect(settings: Settings) -> dict[str, Any]:
    """Return the state of the graph from the Dagster instance and the registry, without opening the warehouse.

    Returns:
        `assets`: name to `materialized_at` (ISO 8601, UTC), `run_id`, `data_version`, `checks` (name to
        passed, failed, not evaluated, running or not run); `champion`: its version and metrics, or None; `decision`:
        day, decision and reason of the latest one, or None; `inspection`: the open one, or None.
    """
    with open_instance(settings) as instance:
        from mlops_platform.assets.decision import DECISION
        from mlops_platform.build import build_definitions
        from mlops_platform.resources.factory import build_registry
        from mlops_platform.resources.registry.inspections import open_inspection

        graph = build_definitions(settings).resolve_asset_graph()
        entries = {
            key.to_user_string(): instance.get_latest_materialization_event(key)
            for level in graph.toposorted_asset_keys_by_level
            for key in sorted(level)
        }
        assets = {name: _asset(entry) for name, entry in entries.items()}
        check_keys = sorted(graph.asset_check_keys, key=lambda key: key.name)
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(check_keys)
        for key in check_keys:
            record = latest.get(key)
            assets[key.asset_key.to_user_string()]["checks"][key.name] = (
                _result(instance, record.status.value, record.run_id) if record else "not run"
            )
    tracking = build_registry(settings)
    inspection = open_inspection(tracking) if tracking.exists() else None
    return {
        "assets": assets,
        "champion": champion(settings),
        "decision": _decision(entries[DECISION]),
        "inspection": asdict(inspection) if inspection is not None else None,
    }


def table_rows(settings: Settings) -> dict[str, int | None]:
    """Return the row count of each table, None for a table that does not exist; the rejects come last."""
    from mlops_platform.resources.factory import build_warehouse

    if settings.env == "local" and not settings.warehouse_path.exists():
        return dict.fromkeys((*TABLES, REJECTS))
    warehouse = build_warehouse(settings)
    with warehouse.connect():
        return {name: warehouse.row_count(name) if warehouse.has_table(name) else None for name in (*TABLES, REJECTS)}


def champion(settings: RegistrySettings) -> dict[str, Any] | None:
    """Return the champion's version, run_id, data_version, dagster_run_id, reason and metrics; None without one."""
    from mlops_platform.resources.factory import build_registry
    from mlops_platform.resources.registry.model_registry import CHAMPION

    tracking = build_registry(settings)
    version = tracking.by_alias(CHAMPION) if tracking.exists() else None
    if version is None:
        return None
    return {
        "version": version.version,
        "run_id": version.run_id,
        "data_version": version.tags.get("data_version"),
        "dagster_run_id": version.tags.get("dagster_run_id"),
        "reason": version.tags.get("promoted_because"),
        "metrics": tracking.metrics(version.run_id),
    }


def figures(metrics: Mapping[str, float]) -> str:
    """Return the main metrics of a model in one line."""
    return ", ".join(f"{name.removeprefix('test_')} {metrics[name]:.3f}" for name in _SHOWN_METRICS if name in metrics)


def _asset(entry: dg.EventLogEntry | None) -> dict[str, Any]:
    if entry is None or entry.asset_materialization is None:
        return {"materialized_at": None, "run_id": None, "data_version": None, "checks": {}}
    return {
        "materialized_at": datetime.fromtimestamp(entry.timestamp, tz=UTC).isoformat(timespec="seconds"),
        "run_id": entry.run_id,
        "data_version": (entry.asset_materialization.tags or {}).get("dagster/data_version"),
        "checks": {},
    }


def _decision(entry: dg.EventLogEntry | None) -> dict[str, Any] | None:
    event = entry.asset_materialization if entry is not None else None
    if event is None:
        return None
    return {"day": event.partition, **{name: event.metadata[name].value for name in ("decision", "reason")}}


def _result(instance: dg.DagsterInstance, status: str, run_id: str) -> str:
    """Return the result of a check; one whose run ended without a result was not evaluated, and did not pass."""
    if status in ("SUCCEEDED", "FAILED"):
        return "passed" if status == "SUCCEEDED" else "failed"
    run = instance.get_run_by_id(run_id)
    return "running" if run is not None and not run.is_finished else "not evaluated"


def _print_status(state: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("asset", "materialized (UTC)", "data version", "checks"):
        table.add_column(column, no_wrap=column != "checks")
    problems = []
    for name, asset in state["assets"].items():
        counts = Counter(sorted(asset["checks"].values(), reverse=True))
        table.add_row(
            name,
            (asset["materialized_at"] or "never")[:19].replace("T", " "),
            (asset["data_version"] or "-")[:16],
            ", ".join(f"{count} {result}" for result, count in counts.items()),
        )
        failed = [check for check in asset["checks"].items() if check[1] in ("failed", "not evaluated")]
        problems += [f"  ✗ {name}: {check} ({result})" for check, result in failed]
    console.print(table)
    for problem in problems:
        console.print(problem)
    current, decision = state["champion"], state["decision"]
    if current is None:
        console.print("champion: none yet; run `mlops run`")
        return
    console.print(f"champion: version {current['version']}, {figures(current['metrics'])}")
    if current["reason"]:
        console.print(f"  {current['reason']}", soft_wrap=True)
    if decision is not None:
        console.print(f"decision of {decision['day']}: {decision['decision']}")
        console.print(f"  {decision['reason']}", soft_wrap=True)
    if state["inspection"] is not None:
        console.print("Promotion is on hold: `mlops decide` shows the reason and takes an answer.")
