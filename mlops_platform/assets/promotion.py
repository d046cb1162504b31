"""The asset `champion_model`: moves the alias `champion` to a version that passes the gates, with the reason.

The gates are in ``ml.evaluation.promotion_gates``; rollbacks and inspections are in ``resources.registry``.
"""

from typing import Any

import dagster as dg

from mlops_platform.assets.declarations import TRAINING
from mlops_platform.errors import platform_errors_as_failures
from mlops_platform.ml.evaluation import promotion_gates
from mlops_platform.resources.registry import deployment_history, inspections
from mlops_platform.resources.registry.model_registry import CHAMPION, MODEL_NAME, MlflowTracking


def build_deployment_asset(min_f1: float) -> dg.AssetsDefinition:
    """Build the asset `champion_model`; no version with a weighted F1 below `min_f1` is promoted."""

    @dg.asset(
        **TRAINING,
        kinds={"mlflow"},
        description=(
            f"The version of `{MODEL_NAME}` that serves: the alias `champion` moves to the candidate only if that "
            "meets the quality bar and is not significantly worse than the current champion."
        ),
    )
    def champion_model(
        context: dg.AssetExecutionContext, model_evaluation: dict[str, Any], tracking: MlflowTracking
    ) -> dg.MaterializeResult[dict[str, Any]]:
        with platform_errors_as_failures(ValueError):
            candidate = tracking.version(model_evaluation["version"])
            champion = tracking.by_alias(CHAMPION)
            comparison = model_evaluation["comparison"]
            if champion is not None and comparison is not None and comparison["champion"] != champion.version:
                comparison = None
            overall = model_evaluation["overall"]
            decision = promotion_gates.decide(
                candidate=candidate.version,
                champion=champion.version if champion else None,
                f1=overall["f1_weighted"],
                majority_f1=overall["f1_weighted_of_majority"],
                min_f1=min_f1,
                comparison=comparison,
            )
            if decision.action == "promote":
                rollback = deployment_history.withdrawn(deployment_history.history(tracking)).get(candidate.version)
                inspection = inspections.open_inspection(tracking)
                if inspection is not None and champion is not None:
                    decision = promotion_gates.while_held(candidate.version, inspection.day, inspection.reason)
                elif rollback is not None:
                    # otherwise the next run would undo the rollback
                    decision = promotion_gates.after_rollback(candidate.version, rollback.at, rollback.reason)
            context.log.info(decision.reason)
            if decision.action == "promote":
                deployment_history.promote(
                    tracking,
                    candidate.version,
                    by="dagster",
                    reason=decision.reason,
                    dagster_run_id=context.run_id,
                )
                champion = tracking.version(candidate.version)
        value = {
            "version": champion.version if champion else None,
            "candidate": candidate.version,
            "action": decision.action,
            "reason": decision.reason,
        }
        metadata: dict[str, Any] = {
            "action": decision.action,
            "reason": decision.reason,
            "candidate_version": candidate.version,
        }
        if champion is not None:
            metadata |= {
                "champion_version": champion.version,
                "mlflow_run": dg.MetadataValue.url(tracking.run_url(champion.run_id)),
                "registered_model": dg.MetadataValue.url(tracking.version_url(champion.version)),
                "trained_in_dagster_run": champion.tags.get("dagster_run_id", ""),
                "dataset_version": champion.tags.get("data_version", ""),
            }
        return dg.MaterializeResult(
            value=value,
            data_version=dg.DataVersion(champion.fingerprint if champion else "none"),
            metadata=metadata,
        )

    return champion_model
