"""`mlops promote`, `mlops rollback`, `mlops history`: move the champion by hand, and show its moves."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import ModelError, PlatformError
from mlops_platform.settings import RegistrySettings, Settings

if TYPE_CHECKING:
    from mlops_platform.resources.registry.deployment_history import Deployment
    from mlops_platform.resources.registry.model_registry import MlflowTracking


def promote(settings: Settings, version: str, *, reason: str, force: str) -> str:
    """Make a version the champion.

    Args:
        settings: The registry, and the threshold of the gates.
        version: The version.
        reason: Reason, for the history; by default that of the gates.
        force: Reason to promote against the gates; empty to obey them.

    Returns:
        What was done, in a sentence.

    Raises:
        ModelError: There is no such version, it cannot be loaded, it is the champion, or the gates refuse it.
    """
    from mlops_platform.resources.registry import deployment_history

    tracking = registry(settings)
    tracking.load(tracking.version(version).version)  # it has to be loadable
    passed, why = _gates(settings, tracking, version)
    if not passed and not force:
        raise ModelError(f"Version {version} is not promoted: {why}. `--force REASON` promotes it all the same.")
    move = deployment_history.promote(
        tracking,
        version,
        by=who(),
        reason=(force if not passed else reason) or f"Promoted by hand: {why}.",
        forced=not passed,
    )
    return describe(move)


def rollback(settings: Settings, *, reason: str) -> str:
    """Return to the previous champion.

    Args:
        settings: The registry.
        reason: Reason, for the history.

    Returns:
        What was done, in a sentence.

    Raises:
        ModelError: There is no previous champion.
    """
    from mlops_platform.resources.registry import deployment_history

    return describe(deployment_history.rollback(registry(settings), by=who(), reason=reason or "Rolled back by hand."))


def collect_history(settings: Settings, of: str | None) -> dict[str, Any]:
    """Return the versions of the model and the moves of the champion.

    Args:
        settings: The registry.
        of: A version, or the prefix of a data version or of a Dagster run; by default everything.

    Raises:
        ModelError: Nothing was trained yet.

    Returns:
        `champion`: its version, or None; `versions`: version, mlflow_run_id, dagster_run_id, data_version, oldest
        first; `moves`: as `Deployment`, oldest first.
    """
    from mlops_platform.resources.registry import deployment_history
    from mlops_platform.resources.registry.model_registry import CHAMPION

    tracking = registry(settings)
    champion = tracking.by_alias(CHAMPION)
    versions = [
        {
            "version": version.version,
            "mlflow_run_id": version.run_id,
            "dagster_run_id": version.tags.get("dagster_run_id", ""),
            "data_version": version.tags.get("data_version", ""),
        }
        for version in tracking.versions()
    ]
    moves = [asdict(move) for move in deployment_history.history(tracking)]
    if not versions:
        raise _no_model(settings)
    if of:
        versions = [
            version
            for version in versions
            if version["version"] == of
            or version["data_version"].startswith(of)
            or version["dagster_run_id"].startswith(of)
        ]
        selected = {version["version"] for version in versions}
        moves = [
            move
            for move in moves
            if {move["version"], move["previous"]} & selected or (move["dagster_run_id"] or "").startswith(of)
        ]
    return {"champion": champion.version if champion else None, "versions": versions, "moves": moves}


def print_history(history: dict[str, Any]) -> None:
    """Print a history.

    Args:
        history: From `collect_history`.
    """
    for version in history["versions"]:
        mark = " (champion)" if version["version"] == history["champion"] else ""
        print(f"version {version['version']}{mark}")
        print(f"    data         {version['data_version']}")
        print(f"    Dagster run  {version['dagster_run_id']}")
        print(f"    MLflow run   {version['mlflow_run_id']}")
    if history["versions"]:
        print()
    for move in history["moves"]:
        before = f" from {move['previous']}" if move["previous"] else ""
        person = move["by"] + (f" (run {move['dagster_run_id']})" if move["dagster_run_id"] else "")
        forced = ", forced" if move["forced"] else ""
        at = move["at"][:19].replace("T", " ")
        print(f"{at}  {move['action']} to {move['version']}{before}, by {person}{forced}")
        print(f"    {move['reason']}")
    if not history["moves"]:
        print("The champion was not moved yet." if history["versions"] else "Nothing matches.")


def registry(settings: RegistrySettings) -> MlflowTracking:
    """Return the model registry.

    Args:
        settings: Its location.

    Raises:
        ModelError: Nothing was trained yet.
    """
    from mlops_platform.resources.factory import build_registry

    tracking = build_registry(settings)
    if not tracking.exists():
        raise _no_model(settings)
    return tracking


def _no_model(settings: RegistrySettings) -> ModelError:
    return ModelError(f"There is no model in {settings.home} yet: run `mlops run` first.")


def _gates(settings: Settings, tracking: MlflowTracking, version: str) -> tuple[bool, str]:
    """Apply the quality gate to the metrics that `model_evaluation` logged to the version's run."""
    from mlops_platform.ml.evaluation import promotion_gates

    metrics = tracking.metrics(tracking.version(version).run_id)
    if "test_f1_weighted" not in metrics:
        return False, "it was never evaluated"
    majority = metrics.get("test_f1_weighted_of_majority", 0.0)
    return promotion_gates.quality(metrics["test_f1_weighted"], majority, settings.min_f1)


def describe(move: Deployment) -> str:
    """Return what a move did, in a sentence.

    Args:
        move: The move.
    """
    before = f"; it was version {move.previous}" if move.previous else ""
    return f"The champion is version {move.version}{before}. {move.reason}"


def who() -> str:
    """Return the name of the system's user.

    Raises:
        PlatformError: The system does not know it.
    """
    try:
        return getpass.getuser()
    except OSError as error:
        raise PlatformError("Your user name is unknown: set the environment variable USER.") from error
