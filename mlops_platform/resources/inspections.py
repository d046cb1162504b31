"""What a person has to look at before the champion moves by itself again; kept in the model registry.

An inspection is opened by a decision and closed by a person's answer (`mlops decide`). While one is open, automatic
promotion is on hold: the registry is where everyone who promotes looks anyway.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from mlops_platform.errors import ModelError
from mlops_platform.resources.tracking import MlflowTracking

Answer = Literal["continue", "improve", "rollback"]

_PREFIX = "inspection."
_LONGEST_REASON = 1000  # characters; the registry takes tags of some thousand


@dataclass(frozen=True)
class Inspection:
    """A question to a person, and the answer.

    Attributes:
        day: Of the decision that asks (ISO date).
        opened_at: When (UTC, ISO 8601).
        version: The champion's at that time.
        problems: Names of the problems that were seen.
        reason: The decision's sentence.
        dagster_run_id: The run that opened it.
        answer: What the person decided; None while it is open.
        answered_at: When (UTC, ISO 8601).
        answered_by: Who.
        answer_reason: Why, in the person's words.
    """

    day: str
    opened_at: str
    version: str
    problems: tuple[str, ...]
    reason: str
    dagster_run_id: str | None
    answer: Answer | None = None
    answered_at: str | None = None
    answered_by: str | None = None
    answer_reason: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it waits for an answer."""
        return self.answer is None


def inspections(tracking: MlflowTracking) -> list[Inspection]:
    """Read all inspections, by day.

    Args:
        tracking: The registry.
    """
    tags = tracking.model_tags()
    found = [json.loads(tags[key]) for key in sorted(tags) if key.startswith(_PREFIX)]
    return [Inspection(**{**each, "problems": tuple(each["problems"])}) for each in found]


def open_inspection(tracking: MlflowTracking) -> Inspection | None:
    """The inspection that waits for an answer, the latest if there are several; None without one.

    Args:
        tracking: The registry.
    """
    waiting = [each for each in inspections(tracking) if each.is_open]
    return waiting[-1] if waiting else None


def ask(
    tracking: MlflowTracking,
    *,
    day: str,
    version: str,
    problems: tuple[str, ...],
    reason: str,
    dagster_run_id: str | None = None,
) -> Inspection:
    """Open an inspection; a day's question that was asked already, answered or not, is not asked again.

    Args:
        tracking: The registry.
        day: Of the decision.
        version: The champion's.
        problems: What was seen.
        reason: The decision's sentence.
        dagster_run_id: The run that asks.

    Returns:
        The day's inspection.
    """
    for each in inspections(tracking):
        if each.day == day:
            return each
    made = Inspection(day, _now(), version, problems, reason[:_LONGEST_REASON], dagster_run_id)
    _keep(tracking, made)
    return made


def answer(tracking: MlflowTracking, said: Answer, *, by: str, reason: str) -> list[Inspection]:
    """Close every open inspection by a person's answer.

    Args:
        tracking: The registry.
        said: What is to be done.
        by: Who answers.
        reason: Why.

    Returns:
        The inspections that were closed.

    Raises:
        ModelError: Nothing waits for an answer.
    """
    closed = [
        replace(each, answer=said, answered_at=_now(), answered_by=by, answer_reason=reason[:_LONGEST_REASON])
        for each in inspections(tracking)
        if each.is_open
    ]
    if not closed:
        raise ModelError("Nothing waits for an answer: no inspection is open.")
    for each in closed:
        _keep(tracking, each)
    return closed


def _keep(tracking: MlflowTracking, inspection: Inspection) -> None:
    tracking.set_model_tag(f"{_PREFIX}{inspection.day}", json.dumps(asdict(inspection), ensure_ascii=False))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
