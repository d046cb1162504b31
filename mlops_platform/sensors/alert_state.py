"""Which problems are open and which messages are due: pure functions over the state that the sensor `alerts` keeps.

A problem is reported once, after enough failures in a row, and once more when it is resolved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Observation:
    """The latest state of one thing that can fail.

    Attributes:
        key: Names the thing, such as a check.
        mark: Names the observed event, such as an evaluation: an event that is observed twice counts once.
        owners: Who gets the message.
        problem: A sentence; None where all is well.
    """

    key: str
    mark: str
    owners: tuple[str, ...]
    problem: str | None


@dataclass(frozen=True)
class OpenProblem:
    """A thing whose latest event is a failure.

    Attributes:
        key: As in `Observation`.
        mark: The latest event.
        owners: As in `Observation`.
        problem: The latest sentence.
        times: Failures in a row.
        reported: Whether its owners got the message.
    """

    key: str
    mark: str
    owners: tuple[str, ...]
    problem: str
    times: int = 1
    reported: bool = False


@dataclass(frozen=True)
class Alert:
    """A message that is due.

    Attributes:
        key: Key of the problem.
        owners: Who gets it.
        text: A sentence.
        resolved: Whether the problem is gone.
    """

    key: str
    owners: tuple[str, ...]
    text: str
    resolved: bool


def update_problems(
    known: Mapping[str, OpenProblem], observations: Sequence[Observation], threshold: int
) -> tuple[dict[str, OpenProblem], list[Alert]]:
    """Update the open problems by what was observed.

    Args:
        known: Open problems by key, from the previous tick.
        observations: What was observed since; a thing without an observation stays as it was.
        threshold: Failures in a row after which a problem is reported, at least 1.

    Returns:
        The open problems, none of them marked as reported by this call; and the messages that are due: for problems
        not reported yet, and for reported ones that are resolved.
    """
    problems, alerts = dict(known), []
    for seen in observations:
        previous = problems.pop(seen.key, None)
        if seen.problem is None:
            if previous is not None and previous.reported:
                alerts.append(Alert(seen.key, previous.owners, f"Resolved: {previous.problem}", resolved=True))
            continue
        current = OpenProblem(seen.key, seen.mark, seen.owners, seen.problem)
        if previous is not None:
            times = previous.times + (seen.mark != previous.mark)
            current = replace(current, times=times, reported=previous.reported)
        problems[seen.key] = current
        if not current.reported and current.times >= threshold:
            count = f" ({current.times} times in a row)" if current.times > 1 else ""
            alerts.append(Alert(current.key, current.owners, f"{current.problem}{count}", resolved=False))
    return problems, alerts


def mark_reported(problems: Mapping[str, OpenProblem], sent: Sequence[Alert]) -> dict[str, OpenProblem]:
    """Return the problems with those marked as reported whose message was sent."""
    keys = {alert.key for alert in sent if not alert.resolved}
    return {key: replace(problem, reported=problem.reported or key in keys) for key, problem in problems.items()}


def as_json(problems: Mapping[str, OpenProblem]) -> list[dict[str, Any]]:
    """Return the open problems as a cursor holds them."""
    return [asdict(problem) for problem in problems.values()]


def from_json(values: Sequence[Mapping[str, Any]]) -> dict[str, OpenProblem]:
    """Read what `as_json` returned, here or in an earlier release."""
    names = {field.name for field in fields(OpenProblem)}  # a field that is gone must not stop the sensor
    known = ({name: value[name] for name in names if name in value} for value in values)
    return {value["key"]: OpenProblem(**{**value, "owners": tuple(value["owners"])}) for value in known}
