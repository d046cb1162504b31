"""`mlops promote`, `mlops rollback`, `mlops history`: who moves the champion by hand, and what was moved when."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import ModelError, PlatformError
from mlops_platform.settings import Settings

if TYPE_CHECKING:
    from mlops_platform.resources.deployments import Deployment
    from mlops_platform.resources.tracking import MlflowTracking


def promote(settings: Settings, version: str, *, reason: str, force: str) -> str:
    """Make a version the champion.

    Args:
        settings: Where the registry is, and the bar.
        version: The version.
        reason: Why; by default that the gates let it pass.
        force: Why although the gates refuse it; empty to obey them.

    Returns:
        What was done, in a sentence.

    Raises:
        ModelError: There is no such version, it can't be loaded, it is the champion, or the gates refuse it.
    """
    from mlops_platform.resources import deployments

    tracking = registry(settings)
    tracking.load(tracking.version(version).version)  # what can't be loaded can't serve
    passed, why = _gates(settings, tracking, version)
    if not passed and not force:
        raise ModelError(f"Version {version} is not promoted: {why}. `--force REASON` promotes it all the same.")
    move = deployments.promote(
        tracking,
        version,
        by=who(),
        reason=(force if not passed else reason) or f"Promoted by hand: {why}.",
        forced=not passed,
    )
    return told(move)


def rollback(settings: Settings, *, reason: str) -> str:
    """Return to the champion before the present one.

    Args:
        settings: Where the registry is.
        reason: Why.

    Returns:
        What was done, in a sentence.

    Raises:
        ModelError: There is none to return to.
    """
    from mlops_platform.resources import deployments

    return told(deployments.rollback(registry(settings), by=who(), reason=reason or "Rolled back by hand."))


def collect_history(settings: Settings, of: str | None) -> dict[str, Any]:
    """Gather the versions and the moves.

    Args:
        settings: Where the registry is.
        of: A version, or the beginning of a data version or of a Dagster run; by default everything.

    Raises:
        ModelError: Nothing was trained yet.

    Returns:
        `champion`: its version, or None; `versions`: version, mlflow_run_id, dagster_run_id, data_version, oldest
        first; `moves`: as `Deployment`, oldest first.
    """
    from mlops_platform.resources import deployments
    from mlops_platform.resources.tracking import CHAMPION

    tracking = registry(settings)
    champion = tracking.by_alias(CHAMPION)
    versions = [
        {
            "version": each.version,
            "mlflow_run_id": each.run_id,
            "dagster_run_id": each.tags.get("dagster_run_id", ""),
            "data_version": each.tags.get("data_version", ""),
        }
        for each in tracking.versions()
    ]
    moves = [asdict(move) for move in deployments.history(tracking)]
    if not versions:
        raise _no_model(settings)
    if of:
        versions = [
            each
            for each in versions
            if each["version"] == of or each["data_version"].startswith(of) or each["dagster_run_id"].startswith(of)
        ]
        named = {each["version"] for each in versions}
        moves = [
            move
            for move in moves
            if {move["version"], move["previous"]} & named or (move["dagster_run_id"] or "").startswith(of)
        ]
    return {"champion": champion.version if champion else None, "versions": versions, "moves": moves}


def print_history(found: dict[str, Any]) -> None:
    """Print what `collect_history` gathered, for people.

    Args:
        found: The gathered history.
    """
    for each in found["versions"]:
        mark = " (champion)" if each["version"] == found["champion"] else ""
        print(f"version {each['version']}{mark}")
        for label, key in (
            ("data", "data_version"),
            ("Dagster run", "dagster_run_id"),
            ("MLflow run", "mlflow_run_id"),
        ):
            print(f"    {label:<12} {each[key]}")
    if found["versions"]:
        print()
    for move in found["moves"]:
        before = f" from {move['previous']}" if move["previous"] else ""
        who = move["by"] + (f" (run {move['dagster_run_id']})" if move["dagster_run_id"] else "")
        forced = ", forced" if move["forced"] else ""
        at = move["at"][:19].replace("T", " ")
        print(f"{at}  {move['action']} to {move['version']}{before}, by {who}{forced}")
        print(f"    {move['reason']}")
    if not found["moves"]:
        print("The champion was not moved yet." if found["versions"] else "Nothing fits.")


def registry(settings: Settings) -> MlflowTracking:
    """The model registry.

    Args:
        settings: Where it is.

    Raises:
        ModelError: Nothing was trained yet.
    """
    from mlops_platform.resources.assembly import build_resources

    tracking: MlflowTracking = build_resources(settings)["tracking"]
    if not tracking.exists():
        raise _no_model(settings)
    return tracking


def _no_model(settings: Settings) -> ModelError:
    return ModelError(f"There is no model in {settings.home} yet: run `mlops run` first.")


def _gates(settings: Settings, tracking: MlflowTracking, version: str) -> tuple[bool, str]:
    """Judge a version by the figures that `model_evaluation` wrote to its run."""
    from mlops_platform.ml import gates

    figures = tracking.metrics(tracking.version(version).run_id)
    if "test_f1_weighted" not in figures:
        return False, "it was never evaluated"
    majority = figures.get("test_f1_weighted_of_majority", 0.0)
    return gates.quality(figures["test_f1_weighted"], majority, settings.min_f1)


def told(move: Deployment) -> str:
    """Say what a move did.

    Args:
        move: The move.
    """
    before = f"; it was version {move.previous}" if move.previous else ""
    return f"The champion is version {move.version}{before}. {move.reason}"


def who() -> str:
    """The name of the person at the keyboard.

    Raises:
        PlatformError: The system does not know.
    """
    try:
        return getpass.getuser()
    except OSError as error:
        raise PlatformError("Who you are is not known: set the environment variable USER.") from error
