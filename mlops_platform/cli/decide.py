"""`mlops decide`: show the open inspection, or answer it, which ends the hold on automatic promotion."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from mlops_platform.cli.deployments import describe, registry, who
from mlops_platform.cli.run import run_job
from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings

_DECISIONS = 10


def decide(
    answer: Annotated[str | None, typer.Argument(help="continue, improve or rollback.")] = None,
    reason: Annotated[str, typer.Option(help="Reason, for the history.")] = "",
) -> None:
    """Answer the open inspection, which holds automatic promotion; without an answer, show it and recent decisions."""
    if answer is None:
        show(Settings())
    else:
        answer_inspection(Settings(), answer, reason=reason)


def show(settings: Settings) -> None:
    """Print the inspections, open ones first, and the latest decisions."""
    from mlops_platform.assets.decision import last_decisions
    from mlops_platform.resources.factory import build_warehouse
    from mlops_platform.resources.registry.inspections import inspections

    all_inspections = inspections(registry(settings))
    open_ones = [inspection for inspection in all_inspections if inspection.is_open]
    for inspection in open_ones:
        print(f"Inspection of {inspection.day}, version {inspection.version}: {inspection.reason}")
        print("  Automatic promotion is on hold. `mlops decide continue|improve|rollback` answers it.")
    if not open_ones:
        print("No inspection is open.")
    for inspection in all_inspections:
        if not inspection.is_open:
            at = (inspection.answered_at or "")[:16].replace("T", " ")
            answered = f"{inspection.answered_by} answered the inspection of {inspection.day}: {inspection.answer}."
            print(f"{at}  {answered} {inspection.answer_reason}")
    if settings.env == "local" and not settings.warehouse_path.exists():
        return
    warehouse = build_warehouse(settings)
    with warehouse.connect():
        for day, decision, reason, version, _ in last_decisions(warehouse, _DECISIONS):
            print(f"{day}  {decision:<8}  version {version}  {reason}")


def answer_inspection(settings: Settings, answer: str, *, reason: str) -> None:
    """Answer the open inspection, and carry out the answer.

    `continue` ends the hold, `improve` retrains now, too, and `rollback` returns to the previous champion.
    """
    from mlops_platform.resources.registry import deployment_history, inspections

    if answer not in (choices := get_args(inspections.Answer)):
        raise PlatformError(f"{answer!r} is not an answer: choose one of {', '.join(choices)}.")
    tracking, by = registry(settings), who()
    if inspections.open_inspection(tracking) is None:
        raise PlatformError("No inspection is open, so there is nothing to answer.")
    reason = reason or f"Answered by hand: {answer}."
    if answer == "rollback":
        # first, so that a rollback that fails leaves the inspection open
        print(describe(deployment_history.rollback(tracking, by=by, reason=reason)))
    closed = inspections.answer(tracking, answer, by=by, reason=reason)  # type: ignore[arg-type]
    days = ", ".join(inspection.day for inspection in closed)
    print(f"Answered {days}: {answer}. Automatic promotion is no longer on hold.")
    if answer == "improve":
        run_job(settings, "mlops", {})
