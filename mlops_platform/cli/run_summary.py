"""The summary of `mlops run`: rows, rejects, checks, champion, durations, and the next command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlops_platform.cli.run_progress import counted
from mlops_platform.errors import PlatformError
from mlops_platform.settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    from rich.console import Console

    from mlops_platform.cli.run_progress import Progress

TABLES = ("projects", "tags", "labeled_projects", "unlabeled_projects")
REJECTS = "rejects"
SHOWN_METRICS = ("test_f1_weighted", "test_accuracy", "test_ece", "cv_f1_weighted")


def ui_command() -> str:
    """Return the command that opens the UI from any folder."""
    return f"make -C {shlex.quote(str(PROJECT_ROOT))} ui"


def table_rows(settings: Settings) -> dict[str, int | None]:
    """Return the row count of each table, None for a table that does not exist; the rejects come last."""
    from mlops_platform.resources.factory import build_warehouse

    if settings.env == "local" and not settings.warehouse_path.exists():
        return dict.fromkeys((*TABLES, REJECTS))
    warehouse = build_warehouse(settings)
    with warehouse.connect():
        return {name: warehouse.row_count(name) if warehouse.has_table(name) else None for name in (*TABLES, REJECTS)}


def champion(settings: Settings) -> dict[str, Any] | None:
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


def print_summary(console: Console, settings: Settings, progress: Progress, *, success: bool) -> None:
    """Print the summary of a run."""
    console.print()
    try:
        rows = table_rows(settings)
    except PlatformError as error:
        console.print(f"Tables    {error}", highlight=False, markup=False)
    else:
        rejected = rows.pop(REJECTS)
        for table, count in rows.items():
            console.print(f"  {table:<20} {'-' if count is None else counted(count, 'row')}", highlight=False)
        console.print(f"  {'rejected rows':<20} {rejected or 0:,}", highlight=False)
    console.print(f"  {'checks':<20} {progress.passed} passed, {len(progress.failed)} failed", highlight=False)
    for failed in progress.failed:
        console.print(f"    ✗ {failed}", highlight=False, markup=False)
    for name, note in progress.notes.items():
        console.print(f"  {name:<20} {note}", highlight=False, markup=False, soft_wrap=True)
    try:
        _print_champion(console, champion(settings))
    except PlatformError as error:
        console.print(f"  {'champion':<20} {error}", highlight=False, markup=False)
    _print_seconds(console, progress)
    console.print()
    if success:
        console.print("[green]Done.[/]", end=" ")
    else:
        console.print("[red]Failed.[/] Downstream assets keep their last good state; fix the cause and run again.")
    console.print(f"See it in the UI:  {ui_command()}", highlight=False)


def _print_seconds(console: Console, progress: Progress) -> None:
    """Print a line for the assets and one for their checks; dbt builds its two tables in one step."""
    steps = {"transform": "labeled and unlabeled_projects"}
    assets = {name: seconds for name, seconds in progress.seconds.items() if name not in progress.check_steps}
    durations = ", ".join(f"{steps.get(name, name)} {seconds:.1f}" for name, seconds in assets.items())
    checks = sum(progress.seconds.values()) - sum(assets.values())
    console.print(f"  {'seconds':<20} {durations or '-'}", highlight=False)
    console.print(f"  {'':<20} checks {checks:.1f}, all {sum(progress.seconds.values()):.1f}", highlight=False)


def figures(metrics: Mapping[str, float]) -> str:
    """Return the main metrics of a model in one line."""
    shown = ((name, name.removeprefix("test_")) for name in SHOWN_METRICS if name in metrics)
    return ", ".join(f"{label} {metrics[name]:.3f}" for name, label in shown)


def _print_champion(console: Console, current: dict[str, Any] | None) -> None:
    line = f"version {current['version']}: {figures(current['metrics'])}" if current else "none yet"
    console.print(f"  {'champion':<20} {line}", highlight=False)
