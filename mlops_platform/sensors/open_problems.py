"""What is wrong just now, and of what somebody has yet to be told: a pure account that the sensor `alerts` keeps.

A problem is told once, when it has been seen often enough in a row, and once more when it is over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Observation:
    """What a look has found of one thing that can fail.

    Attributes:
        key: Names the thing, such as a check.
        mark: Names the event that was seen, such as an evaluation: the same event seen again counts once.
        owners: Who is told.
        problem: A sentence; None where all is well.
    """

    key: str
    mark: str
    owners: tuple[str, ...]
    problem: str | None


@dataclass(frozen=True)
class OpenProblem:
    """A thing that failed the last time it was seen.

    Attributes:
        key: As in `Observation`.
        mark: The last event.
        owners: As in `Observation`.
        problem: The last sentence.
        times: Events in a row.
        told: Whether its owners were told.
    """

    key: str
    mark: str
    owners: tuple[str, ...]
    problem: str
    times: int = 1
    told: bool = False


@dataclass(frozen=True)
class Alert:
    """A message that is due.

    Attributes:
        key: Of the problem.
        owners: Who is told.
        text: A sentence.
        over: Whether the problem has gone.
    """

    key: str
    owners: tuple[str, ...]
    text: str
    over: bool


def account(
    known: Mapping[str, OpenProblem], seen: Sequence[Observation], threshold: int
) -> tuple[dict[str, OpenProblem], list[Alert]]:
    """Take in what a look has found.

    Args:
        known: Open problems by key, from the last look.
        seen: What was found now; a thing that was not looked at stays as it was.
        threshold: Events in a row from which on a problem is told, at least 1.

    Returns:
        The open problems now, none of them marked as told by this call; and the messages that are due: for problems
        that were not told yet, and for those that were told and are over.
    """
    now = dict(known)
    alerts = []
    for each in seen:
        before = now.pop(each.key, None)
        if each.problem is None:
            if before is not None and before.told:
                alerts.append(Alert(each.key, before.owners, f"Over: {before.problem}", over=True))
            continue
        if before is None:
            after = OpenProblem(each.key, each.mark, each.owners, each.problem)
        else:
            times = before.times + (each.mark != before.mark)
            after = replace(before, mark=each.mark, owners=each.owners, problem=each.problem, times=times)
        now[each.key] = after
        if not after.told and after.times >= threshold:
            again = f" ({after.times} times in a row)" if after.times > 1 else ""
            alerts.append(Alert(after.key, after.owners, f"{after.problem}{again}", over=False))
    return now, alerts


def marked_told(problems: Mapping[str, OpenProblem], told: Sequence[Alert]) -> dict[str, OpenProblem]:
    """Note that messages have gone out.

    Args:
        problems: The open problems.
        told: The messages that did go out.
    """
    keys = {alert.key for alert in told if not alert.over}
    return {key: replace(each, told=True) if key in keys else each for key, each in problems.items()}


def as_json(problems: Mapping[str, OpenProblem]) -> list[dict[str, Any]]:
    """Turn open problems into what a cursor holds."""
    return [asdict(each) for each in problems.values()]


def from_json(values: Sequence[Mapping[str, Any]]) -> dict[str, OpenProblem]:
    """Read what `as_json` wrote."""
    return {each["key"]: OpenProblem(**{**each, "owners": tuple(each["owners"])}) for each in values}
