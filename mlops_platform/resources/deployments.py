"""Which version was the champion when, moved by whom and why: the alias and its history, kept in the model registry.

A move is two writes, the record first: an alias that has moved always has its reason. A record whose move did not
happen (the process was killed in between) is told from the others by the alias, and the next move goes on from there.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from mlops_platform.errors import ModelError
from mlops_platform.resources.tracking import CHAMPION, MODEL_NAME, MlflowTracking

_PREFIX = "deployment."
_LONGEST_REASON = 1000  # characters; the registry takes tags of some thousand


@dataclass(frozen=True)
class Deployment:
    """One move of the alias `champion`.

    Attributes:
        at: When (UTC, ISO 8601).
        action: What moved it.
        version: The version it was moved to.
        previous: The version it pointed to before; None for the first.
        by: Who did it: a person, or `dagster`.
        reason: One sentence.
        forced: Whether the gates had refused the version.
        dagster_run_id: The run that moved it; None for a person.
        trained_by: The Dagster run that trained the version; None where its tags don't say.
        data_version: What the version was trained on; likewise.
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
    """Read the moves, oldest first.

    Args:
        tracking: The registry.
    """
    tags = tracking.model_tags()
    return [Deployment(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(_PREFIX)]


def served_before(moves: Sequence[Deployment], champion: str) -> list[str]:
    """Tell which versions a rollback can return to, the nearest first.

    A promotion puts a version on top of those before it, a rollback takes it off: who rolls back twice goes back two
    versions, and never to the one that was just left.

    Args:
        moves: The history, oldest first.
        champion: The present champion.
    """
    served: list[str] = []
    for move in moves:
        if move.previous is not None and served[-1:] != [move.previous]:
            served.append(move.previous)  # moved by somebody who left no record
        if move.action == "promote":
            served.append(move.version)
        else:
            while served and served[-1] != move.version:
                served.pop()
    while served and served[-1] != champion:
        served.pop()  # the last record's move did not happen, or somebody moved the alias without a record
    return [version for version in dict.fromkeys(reversed(served)) if version != champion]


def withdrawn(moves: Sequence[Deployment]) -> dict[str, Deployment]:
    """Tell which versions were rolled back from, and by which move; who promotes one again takes it off.

    Args:
        moves: The history, oldest first.
    """
    found: dict[str, Deployment] = {}
    for move in moves:
        if move.action == "rollback" and move.previous is not None:
            found[move.previous] = move
        found.pop(move.version, None)
    return found


def promote(
    tracking: MlflowTracking,
    version: str,
    *,
    by: str,
    reason: str,
    forced: bool = False,
    dagster_run_id: str | None = None,
) -> Deployment:
    """Make a version the champion.

    Args:
        tracking: The registry.
        version: The version.
        by: Who does it.
        reason: Why, in a sentence.
        forced: Whether the gates refuse it.
        dagster_run_id: The run that does it.

    Raises:
        ModelError: There is no such version, or it is the champion already.
    """
    return _move(tracking, "promote", version, by, reason, forced, dagster_run_id)


def rollback(tracking: MlflowTracking, *, by: str, reason: str, dagster_run_id: str | None = None) -> Deployment:
    """Return to the champion before the present one; one whose files are gone is passed over.

    Args:
        tracking: The registry.
        by: Who does it.
        reason: Why, in a sentence.
        dagster_run_id: The run that does it.

    Raises:
        ModelError: There is no champion, or none before it that can be loaded.
    """
    champion = tracking.by_alias(CHAMPION)
    if champion is None:
        raise ModelError("There is no champion to roll back from: run `mlops run` first.")
    for version in served_before(history(tracking), champion.version):
        try:
            tracking.load(version)
        except ModelError:
            continue
        return _move(tracking, "rollback", version, by, reason, False, dagster_run_id)
    raise ModelError(
        f"Before version {champion.version} of {MODEL_NAME} there was no champion that can be loaded: choose a version "
        "by `mlops promote VERSION`."
    )


def _move(
    tracking: MlflowTracking,
    action: Literal["promote", "rollback"],
    version: str,
    by: str,
    reason: str,
    forced: bool,
    dagster_run_id: str | None,
) -> Deployment:
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
        reason=reason[:_LONGEST_REASON],
        forced=forced,
        dagster_run_id=dagster_run_id,
        trained_by=target.tags.get("dagster_run_id"),
        data_version=target.tags.get("data_version"),
    )
    key = f"{_PREFIX}{now.strftime('%Y%m%dT%H%M%S%f')}.{secrets.token_hex(2)}"
    tracking.set_model_tag(key, json.dumps(asdict(move), ensure_ascii=False))
    # on the version too, where MLflow's own pages show it
    tags = {"promoted_because": move.reason, "promoted_by_dagster_run": dagster_run_id or ""}
    tracking.set_alias(CHAMPION, target.version, tags)
    return move
