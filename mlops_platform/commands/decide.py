"""`mlops decide`: a person's answer to an inspection, which ends the hold on automatic promotion."""

from __future__ import annotations

from typing import get_args

from mlops_platform.commands.deployments import registry, told, who
from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings

_DECISIONS = 10


def show(settings: Settings) -> None:
    """Print the open inspection and the last decisions.

    Args:
        settings: Where the registry and the warehouse are.
    """
    from rich.console import Console

    from mlops_platform.assets.decision import last_decisions
    from mlops_platform.resources.assembly import build_resources
    from mlops_platform.resources.inspections import inspections

    console = Console(soft_wrap=True, highlight=False, markup=False)
    found = inspections(registry(settings))
    waiting = [each for each in found if each.is_open]
    for each in waiting:
        console.print(f"Inspection of {each.day}, version {each.version}: {each.reason}")
        console.print("  Automatic promotion is on hold. `mlops decide continue|improve|rollback` answers it.")
    if not waiting:
        console.print("No inspection waits for an answer.")
    for each in found:
        if not each.is_open:
            console.print(
                f"{(each.answered_at or '')[:16].replace('T', ' ')}  {each.answered_by} answered that of {each.day}: "
                f"{each.answer}. {each.answer_reason}"
            )
    if settings.env == "local" and not settings.warehouse_path.exists():
        return
    warehouse = build_resources(settings)["warehouse"]
    with warehouse.connect():
        decisions = last_decisions(warehouse, _DECISIONS)
    for day, decision, reason, version, _ in decisions:
        console.print(f"{day}  {decision:<8}  version {version}  {reason}")


def decide(settings: Settings, answer: str, *, reason: str) -> None:
    """Answer the open inspection, and do what the answer says.

    Args:
        settings: Where the registry is, and what to run on.
        answer: `continue` lets automation go on, `improve` retrains now, `rollback` returns to the champion before.
        reason: Why.

    Raises:
        PlatformError: The answer is no such word, nothing waits for one, or what it asks for failed.
    """
    from mlops_platform.commands.run import run_job
    from mlops_platform.resources import deployments, inspections

    if answer not in (words := get_args(inspections.Answer)):
        raise PlatformError(f"{answer!r} is no answer: say one of {', '.join(words)}.")
    tracking, by = registry(settings), who()
    if inspections.open_inspection(tracking) is None:
        raise PlatformError("Nothing waits for an answer: no inspection is open.")
    reason = reason or f"Answered by hand: {answer}."
    if answer == "rollback":
        # first, so that an inspection is not closed by an answer that could not be carried out
        print(told(deployments.rollback(tracking, by=by, reason=reason)))
    closed = inspections.answer(tracking, answer, by=by, reason=reason)  # type: ignore[arg-type]
    print(f"Answered {', '.join(each.day for each in closed)}: {answer}. Automatic promotion is no longer on hold.")
    if answer == "improve":
        run_job(settings, "mlops", {})
