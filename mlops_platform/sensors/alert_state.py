"""Which problems are open and which alerts are due: pure functions over the cursor of the sensor `alerts`.

A problem is reported once after enough consecutive failures, and once more when it is resolved. Reading the Dagster
instance and sending belong in ``alerts``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Observation:
    """The latest state of something that can fail, such as a check.

    Attributes:
        key: Identifies what can fail.
        mark: Identifies the observed event, such as an evaluation: an event that is observed twice counts once.
        owners: Who is alerted.
        problem: A sentence; None if it did not fail.
    """

    key: str
    mark: str
    owners: tuple[str, ...]
    problem: str | None


@dataclass(frozen=True)
class OpenProblem:
    """A failure that is not resolved; key, mark, owners and problem are those of the latest observation.

    Attributes:
        times: Consecutive failures.
        reported: Whether its owners were alerted.
    """

    key: str
    mark: str
    owners: tuple[str, ...]
    problem: str
    times: int = 1
    reported: bool = False


@dataclass(frozen=True)
class Alert:
    """A message to the owners of a problem."""

    key: str
    owners: tuple[str, ...]
    text: str
    resolved: bool


def update_problems(
    known: Mapping[str, OpenProblem], observations: Sequence[Observation], threshold: int
) -> tuple[dict[str, OpenProblem], list[Alert]]:
    """Update the open problems with new observations.

    Args:
        known: Open problems by key, from the previous tick.
        observations: What was observed since; a problem without an observation stays open.
        threshold: Consecutive failures after which a problem is reported, at least 1.

    Returns:
        The open problems, none of them newly marked as reported; and the alerts that are due: for problems not reported
        yet, and for reported ones that are resolved.
    """
    problems, alerts = dict(known), []
    for latest in observations:
        previous = problems.pop(latest.key, None)
        if latest.problem is None:
            if previous is not None and previous.reported:
                alerts.append(Alert(latest.key, previous.owners, f"Resolved: {previous.problem}", resolved=True))
            continue
        current = OpenProblem(latest.key, latest.mark, latest.owners, latest.problem)
        if previous is not None:
            times = previous.times + (latest.mark != previous.mark)
            current = replace(current, times=times, reported=previous.reported)
        problems[latest.key] = current
        if not current.reported and current.times >= threshold:
            count = f" ({current.times} times in a row)" if current.times > 1 else ""
            alerts.append(Alert(current.key, current.owners, f"{current.problem}{count}", resolved=False))
    return problems, alerts


def mark_reported(problems: Mapping[str, OpenProblem], sent: Sequence[Alert]) -> dict[str, OpenProblem]:
    """Mark the problems as reported whose alerts were sent."""
    keys = {alert.key for alert in sent if not alert.resolved}
    return {key: replace(problem, reported=problem.reported or key in keys) for key, problem in problems.items()}


def as_json(problems: Mapping[str, OpenProblem]) -> list[dict[str, Any]]:
    """Return the open problems in the form that the cursor holds."""
    return [asdict(problem) for problem in problems.values()]


def from_json(values: Sequence[Mapping[str, Any]]) -> dict[str, OpenProblem]:
    """Read the result of `as_json`, of this release or an earlier one."""
    names = {field.name for field in fields(OpenProblem)}  # a removed field must not stop the sensor
    known = ({name: value[name] for name in names if name in value} for value in values)
    return {value["key"]: OpenProblem(**{**value, "owners": tuple(value["owners"])}) for value in known}
