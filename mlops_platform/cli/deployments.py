"""`mlops promote`, `mlops rollback`, `mlops history`: move the champion by hand, and show its moves."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops_platform.errors import ModelError, PlatformError
from mlops_platform.settings import RegistrySettings, Settings

if TYPE_CHECKING:
    from mlops_platform.resources.registry.deployment_history import Deployment
    from mlops_platform.resources.registry.model_registry import MlflowTracking


def promote(
    version: Annotated[str, typer.Argument(help="Version of the registered model.")],
    reason: Annotated[str, typer.Option(help="Reason, for the history.")] = "",
    force: Annotated[str, typer.Option(metavar="REASON", help="Promote against the gates, with the reason.")] = "",
) -> None:
    """Make a version the champion if it passes the gates."""
    from mlops_platform.resources.registry import deployment_history

    settings = Settings()
    tracking = registry(settings)
    tracking.load(tracking.version(version).version)  # it must be loadable
    passed, why = _quality_gate(settings, tracking, version)
    if not passed and not force:
        raise ModelError(f"Version {version} is not promoted: {why}. `--force REASON` promotes it anyway.")
    reason = (reason if passed else force) or f"Promoted by hand: {why}."
    print(describe(deployment_history.promote(tracking, version, by=who(), reason=reason, forced=not passed)))


def rollback(reason: Annotated[str, typer.Option(help="Reason, for the history.")] = "") -> None:
    """Return to the previous champion."""
    from mlops_platform.resources.registry import deployment_history

    reason = reason or "Rolled back by hand."
    print(describe(deployment_history.rollback(registry(Settings()), by=who(), reason=reason)))


def history(
    of: Annotated[str | None, typer.Argument(help="A version, or the prefix of a data version or Dagster run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the versions of the model with their data and runs, and each move of the champion."""
    collected = _collect_history(registry(Settings()), of)
    if as_json:
        print(json.dumps(collected, indent=2, ensure_ascii=False))
    else:
        _print_history(collected)


def _collect_history(tracking: MlflowTracking, of: str | None) -> dict[str, Any]:
    """Return the champion's version (or None), the versions of the model and the moves, both oldest first."""
    from mlops_platform.resources.registry import deployment_history
    from mlops_platform.resources.registry.model_registry import CHAMPION

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
            if selected & {move["version"], move["previous"]} or (move["dagster_run_id"] or "").startswith(of)
        ]
    return {"champion": champion.version if champion else None, "versions": versions, "moves": moves}


def _print_history(history: dict[str, Any]) -> None:
    for version in history["versions"]:
        mark = " (champion)" if version["version"] == history["champion"] else ""
        print(f"version {version['version']}{mark}")
        print(f"    data         {version['data_version']}")
        print(f"    Dagster run  {version['dagster_run_id']}")
        print(f"    MLflow run   {version['mlflow_run_id']}")
    if history["versions"]:
        print()
    for move in history["moves"]:
        previous = f" from {move['previous']}" if move["previous"] else ""
        run = f" (run {move['dagster_run_id']})" if move["dagster_run_id"] else ""
        forced = ", forced" if move["forced"] else ""
        at = move["at"][:19].replace("T", " ")
        print(f"{at}  {move['action']} to {move['version']}{previous}, by {move['by']}{run}{forced}")
        print(f"    {move['reason']}")
    if not history["moves"]:
        print("There was no promotion yet." if history["versions"] else "Nothing matches.")


def registry(settings: RegistrySettings) -> MlflowTracking:
    """Return the model registry; raise a `ModelError` if nothing was trained yet."""
    from mlops_platform.resources.factory import build_registry

    tracking = build_registry(settings)
    if not tracking.exists() or not tracking.versions():
        raise ModelError(f"There is no model in {settings.home} yet: run `mlops run` first.")
    return tracking


def _quality_gate(settings: Settings, tracking: MlflowTracking, version: str) -> tuple[bool, str]:
    """Apply the quality gate to the metrics that `model_evaluation` logged to the version's run."""
    from mlops_platform.ml.evaluation import promotion_gates

    metrics = tracking.metrics(tracking.version(version).run_id)
    if "test_f1_weighted" not in metrics:
        return False, "it was never evaluated"
    majority = metrics.get("test_f1_weighted_of_majority", 0.0)
    return promotion_gates.quality(metrics["test_f1_weighted"], majority, settings.min_f1)


def describe(move: Deployment) -> str:
    """Return the sentence that reports a move."""
    previous = f"; it was version {move.previous}" if move.previous else ""
    return f"The champion is version {move.version}{previous}. {move.reason}"


def who() -> str:
    """Return the name of the system's user."""
    try:
        return getpass.getuser()
    except OSError as error:
        raise PlatformError("Your user name is unknown: set the environment variable USER.") from error
