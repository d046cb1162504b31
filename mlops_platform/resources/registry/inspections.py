"""Inspections: questions to a person that hold automatic promotion until they are answered.

A decision opens an inspection, a person's answer (`mlops decide`) closes it. They are stored as tags in the model
registry, which every promotion reads anyway. When to open one is decided by the asset `decision`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from mlops_platform.errors import ModelError
from mlops_platform.resources.registry.deployment_history import MAX_REASON
from mlops_platform.resources.registry.model_registry import MlflowTracking

Answer = Literal["continue", "improve", "rollback"]

_PREFIX = "inspection."


@dataclass(frozen=True)
class Inspection:
    """A question to a person, and the answer.

    Attributes:
        day: Day of the decision (ISO date).
        opened_at: UTC, ISO 8601.
        version: The champion at that time.
        problems: Names of the detected problems.
        reason: The sentence of the decision.
        dagster_run_id: The run that opened it.
        answer: What the person decided; None while it is open.
        answered_at: UTC, ISO 8601.
    """

    day: str
    opened_at: str
    version: str
    problems: Sequence[str]
    reason: str
    dagster_run_id: str | None
    answer: Answer | None = None
    answered_at: str | None = None
    answered_by: str | None = None
    answer_reason: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has no answer yet."""
        return self.answer is None


def inspections(tracking: MlflowTracking) -> list[Inspection]:
    """Return all inspections, ordered by day."""
    return [Inspection(**record) for record in tracking.records(_PREFIX)]


def open_inspection(tracking: MlflowTracking) -> Inspection | None:
    """Return the latest inspection without an answer; None if all are answered."""
    return next((inspection for inspection in reversed(inspections(tracking)) if inspection.is_open), None)


def ask(
    tracking: MlflowTracking,
    *,
    day: str,
    version: str,
    problems: Sequence[str],
    reason: str,
    dagster_run_id: str | None = None,
) -> Inspection:
    """Return the day's inspection, which is opened if the day has none, answered or not."""
    for inspection in inspections(tracking):
        if inspection.day == day:
            return inspection
    inspection = Inspection(day, _now(), version, problems, reason[:MAX_REASON], dagster_run_id)
    tracking.set_record(f"{_PREFIX}{day}", asdict(inspection))
    return inspection


def answer(tracking: MlflowTracking, decision: Answer, *, by: str, reason: str) -> list[Inspection]:
    """Close every open inspection with a person's answer, and return them; none is a `ModelError`."""
    closed = [
        replace(opened, answer=decision, answered_at=_now(), answered_by=by, answer_reason=reason[:MAX_REASON])
        for opened in inspections(tracking)
        if opened.is_open
    ]
    if not closed:
        raise ModelError("Nothing waits for an answer: no inspection is open.")
    for inspection in closed:
        tracking.set_record(f"{_PREFIX}{inspection.day}", asdict(inspection))
    return closed


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
