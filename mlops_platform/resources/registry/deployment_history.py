"""The alias `champion` and its history: who moved it when and why, stored in the model registry.

A move is two writes, the record first: an alias that has moved always has its reason. A record whose move did not
happen, because the process was killed in between, does not match the alias, and the next move starts from the alias.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from mlops_platform.errors import ModelError
from mlops_platform.resources.registry.model_registry import CHAMPION, MODEL_NAME, MlflowTracking

_PREFIX = "deployment."
MAX_REASON = 1000  # characters; the registry accepts tags of a few thousand


@dataclass(frozen=True)
class Deployment:
    """One move of the alias `champion`.

    Attributes:
        at: UTC, ISO 8601.
        previous: The version it pointed to before; None for the first move.
        by: A person, or `dagster`.
        forced: Whether the gates had refused the version.
        dagster_run_id: The run that moved it; None for a person.
        trained_by: The Dagster run that trained the version; None if its tags do not name it.
        data_version: Version of the data it was trained on; None likewise.
    """

    at: str
    action: Literal["promote", "rollback"]
    version: str
    previous: str | None
    by: str
    reason: str
    forced: bool
    dagster_run_id: str | None
    trained_by: str | None
    data_version: str | None


def history(tracking: MlflowTracking) -> list[Deployment]:
    """Return the moves, oldest first."""
    return [Deployment(**record) for record in tracking.records(_PREFIX)]


def served_before(moves: Sequence[Deployment], champion: str) -> list[str]:
    """Return the versions that a rollback can return to, the nearest first.

    The champions are a stack: a promotion pushes a version, a rollback pops it. Two rollbacks go back two versions,
    and never return to the version just rolled back from.
    """
    served: list[str] = []
    for move in moves:
        if move.previous is not None and served[-1:] != [move.previous]:
            served.append(move.previous)  # the alias was moved without a record
        if move.action == "promote":
            served.append(move.version)
        else:
            while served and served[-1] != move.version:
                served.pop()
    while served and served[-1] != champion:
        served.pop()  # the last record's move did not happen, or the alias was moved without a record
    return [version for version in dict.fromkeys(reversed(served)) if version != champion]


def withdrawn(moves: Sequence[Deployment]) -> dict[str, Deployment]:
    """Return the versions that were rolled back from and not promoted since, each with the rollback."""
    rollbacks: dict[str, Deployment] = {}
    for move in moves:
        if move.action == "rollback" and move.previous is not None:
            rollbacks[move.previous] = move
        rollbacks.pop(move.version, None)
    return rollbacks


def promote(
    tracking: MlflowTracking,
    version: str,
    *,
    by: str,
    reason: str,
    forced: bool = False,
    dagster_run_id: str | None = None,
    action: Literal["promote", "rollback"] = "promote",
) -> Deployment:
    """Make a version the champion.

    Raises:
        ModelError: There is no such version, or it is the champion already.
    """
    target, champion = tracking.version(version), tracking.by_alias(CHAMPION)
    if champion is not None and champion.version == target.version:
        raise ModelError(f"Version {version} of {MODEL_NAME} is the champion already.")
    now = datetime.now(UTC)
    move = Deployment(
        at=now.isoformat(timespec="milliseconds"),
        action=action,
        version=target.version,
        previous=champion.version if champion else None,
        by=by,
        reason=reason[:MAX_REASON],
        forced=forced,
        dagster_run_id=dagster_run_id,
        trained_by=target.tags.get("dagster_run_id"),
        data_version=target.tags.get("data_version"),
    )
    tracking.set_record(f"{_PREFIX}{now.strftime('%Y%m%dT%H%M%S%f')}.{secrets.token_hex(2)}", asdict(move))
    # on the version, too: MLflow's pages show it there
    tags = {"promoted_because": move.reason, "promoted_by_dagster_run": dagster_run_id or ""}
    tracking.set_alias(CHAMPION, target.version, tags)
    return move


def rollback(tracking: MlflowTracking, *, by: str, reason: str, dagster_run_id: str | None = None) -> Deployment:
    """Return to the previous champion that can be loaded.

    Raises:
        ModelError: There is no champion, or no previous one that can be loaded.
    """
    champion = tracking.by_alias(CHAMPION)
    if champion is None:
        raise ModelError("There is no champion to roll back from: run `mlops run` first.")
    for version in served_before(history(tracking), champion.version):
        try:
            tracking.load(version)
        except ModelError:
            continue
        return promote(tracking, version, by=by, reason=reason, dagster_run_id=dagster_run_id, action="rollback")
    raise ModelError(
        f"Before version {champion.version} of {MODEL_NAME} there was no champion that can be loaded: choose a version "
        "with `mlops promote VERSION`."
    )
