"""What `mlops run` says at its end: rows, rejects, checks, champion, durations, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlops_platform.commands.run import counted
from mlops_platform.errors import PlatformError
from mlops_platform.settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    from rich.console import Console

    from mlops_platform.commands.run import Progress

TABLES = ("projects", "tags", "labeled_projects", "unlabeled_projects")
REJECTS = "rejects"
SHOWN_METRICS = ("test_f1_weighted", "test_accuracy", "test_ece", "cv_f1_weighted")


def ui_command() -> str:
    """The command that opens the UI, from any folder."""
    return f"make -C {shlex.quote(str(PROJECT_ROOT))} ui"


def table_rows(settings: Settings) -> dict[str, int | None]:
    """Count the rows of the warehouse's tables.

    Args:
        settings: Where the warehouse is.

    Returns:
        Table to rows; None where the table is not there. The rejects come last.

    Raises:
        PlatformError: The warehouse can't be opened.
    """
    from mlops_platform.resources.assembly import build_resources

    if settings.env == "local" and not settings.warehouse_path.exists():
        return dict.fromkeys((*TABLES, REJECTS))
    warehouse = build_resources(settings)["warehouse"]
    with warehouse.connect():
        return {name: warehouse.row_count(name) if warehouse.has_table(name) else None for name in (*TABLES, REJECTS)}


def champion(settings: Settings) -> dict[str, Any] | None:
    """The champion's version, where it comes from, and its figures.

    Args:
        settings: Where the registry is.

    Returns:
        version, run_id, data_version, dagster_run_id, reason, metrics; None without a champion.
    """
    from mlops_platform.resources.assembly import build_resources
    from mlops_platform.resources.tracking import CHAMPION

    tracking = build_resources(settings)["tracking"]
    found = tracking.by_alias(CHAMPION) if tracking.exists() else None
    if found is None:
        return None
    return {
        "version": found.version,
        "run_id": found.run_id,
        "data_version": found.tags.get("data_version"),
        "dagster_run_id": found.tags.get("dagster_run_id"),
        "reason": found.tags.get("promoted_because"),
        "metrics": tracking.metrics(found.run_id),
    }


def print_summary(console: Console, settings: Settings, progress: Progress, *, success: bool) -> None:
    """Print what a run has done.

    Args:
        console: Where to.
        settings: What the run ran on.
        progress: What happened.
        success: Whether the run succeeded.
    """
    console.print()
    try:
        rows = table_rows(settings)
    except PlatformError as error:
        console.print(f"Tables    {error}", highlight=False, markup=False)
    else:
        rejected = rows.pop(REJECTS)
        for table, count in rows.items():
            said = "-" if count is None else counted(count, "row")
            console.print(f"  {table:<20} {said}", highlight=False)
        console.print(f"  {'rejected rows':<20} {rejected or 0:,}", highlight=False)
    console.print(f"  {'checks':<20} {progress.passed} passed, {len(progress.failed)} failed", highlight=False)
    for failed in progress.failed:
        console.print(f"    ✗ {failed}", highlight=False, markup=False)
    for name, said in progress.told.items():
        console.print(f"  {name:<20} {said}", highlight=False, markup=False, soft_wrap=True)
    try:
        _print_champion(console, champion(settings))
    except PlatformError as error:
        console.print(f"  {'champion':<20} {error}", highlight=False, markup=False)
    _print_seconds(console, progress)
    console.print()
    if success:
        console.print("[green]Done.[/]", end=" ")
    else:
        console.print("[red]Failed.[/] What lies downstream keeps its last good state; run again once this is mended.")
    console.print(f"See it in the UI:  {ui_command()}", highlight=False)


def _print_seconds(console: Console, progress: Progress) -> None:
    """A line for the assets and one for their checks; dbt's two tables are one step."""
    steps = {"transform": "labeled and unlabeled_projects"}
    assets = {name: seconds for name, seconds in progress.seconds.items() if name not in progress.check_steps}
    took = ", ".join(f"{steps.get(name, name)} {seconds:.1f}" for name, seconds in assets.items())
    checks = sum(progress.seconds.values()) - sum(assets.values())
    console.print(f"  {'seconds':<20} {took or '-'}", highlight=False)
    console.print(f"  {'':<20} checks {checks:.1f}, all {sum(progress.seconds.values()):.1f}", highlight=False)


def figures(metrics: Mapping[str, float]) -> str:
    """The few figures of a model that a line has room for.

    Args:
        metrics: All figures of its run.
    """
    shown = ((name, name.removeprefix("test_")) for name in SHOWN_METRICS if name in metrics)
    return ", ".join(f"{label} {metrics[name]:.3f}" for name, label in shown)


def _print_champion(console: Console, found: dict[str, Any] | None) -> None:
    if found is None:
        console.print(f"  {'champion':<20} none yet", highlight=False)
        return
    console.print(f"  {'champion':<20} version {found['version']}: {figures(found['metrics'])}", highlight=False)
