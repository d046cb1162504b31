"""When assets materialize by themselves, and when they count as stale: named conditions, one policy pass.

No condition launches anything while a blocking check of an upstream asset fails, so a change flows from the
sources to `champion_model` only through passed checks.
"""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
from dagster import AutomationCondition

# champion_model and what leads to it move only with new parameters, never with the dataset alone: else a
# change of data would train a model outside the retraining window, with the parameters of the old data
_DATASET = dg.AssetSelection.assets("validated_dataset")
WARN_SHARE = 0.75


def _ready() -> AutomationCondition:
    """Upstream is there, checked and at rest, and the asset is not being made already."""
    return (
        AutomationCondition.all_deps_blocking_checks_passed()
        & ~AutomationCondition.any_deps_missing()
        & ~AutomationCondition.any_deps_in_progress()
        & ~AutomationCondition.in_progress()
    )


def _pending(changed: AutomationCondition) -> AutomationCondition:
    """A change stays due until the asset was requested or made, however long the checks hold it back."""
    handled = AutomationCondition.newly_requested() | AutomationCondition.newly_updated()
    return (changed | AutomationCondition.missing().newly_true()).since(handled)


def on_new_data() -> AutomationCondition:
    """Follow a changed data version upstream as soon as blocking checks have passed."""
    return (
        _pending(AutomationCondition.any_deps_match(AutomationCondition.data_version_changed())) & _ready()
    ).with_label("on_new_data")


def on_new_parameters() -> AutomationCondition:
    """Like `on_new_data`, but a new dataset alone is no reason."""
    changed = AutomationCondition.any_deps_match(AutomationCondition.data_version_changed()).ignore(_DATASET)
    return (_pending(changed) & _ready()).with_label("on_new_parameters")


def retrain_at_most_once(cron: str) -> AutomationCondition:
    """Retrain on a new dataset, at most once in a window.

    Args:
        cron: The windows' boundaries, UTC.
    """
    handled = AutomationCondition.newly_requested() | AutomationCondition.newly_updated()
    return (
        _pending(AutomationCondition.any_deps_match(AutomationCondition.data_version_changed()))
        & AutomationCondition.cron_tick_passed(cron).since(handled)
        & _ready()
    ).with_label("retrain_at_most_once")


def conditions(retrain_cron: str) -> dict[str, AutomationCondition]:
    """Which asset follows which condition; ingest has none, as sensors and the schedule start it.

    Args:
        retrain_cron: Cron (UTC) of the retraining windows.
    """
    return {
        "labeled_projects": on_new_data(),
        "unlabeled_projects": on_new_data(),
        "validated_dataset": on_new_data(),
        "tuned_params": retrain_at_most_once(retrain_cron),
        "trained_model": on_new_parameters(),
        "model_evaluation": on_new_parameters(),
        "champion_model": on_new_parameters(),
    }


def freshness(hours: float) -> dg.FreshnessPolicy:
    """Stale after so many hours without a materialization; a warning after three quarters of them.

    Args:
        hours: The fail window.
    """
    return dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=hours), warn_window=timedelta(hours=hours * WARN_SHARE)
    )


def with_policies(defs: dg.Definitions, *, retrain_cron: str, freshness_hours: float) -> dg.Definitions:
    """Give every materializable asset its freshness policy and its automation condition, in one pass.

    Args:
        defs: The assembled graph.
        retrain_cron: Cron (UTC) of the retraining windows.
        freshness_hours: Hours after which an asset is stale.

    Returns:
        The same definitions with the policies; a policy that an asset brings itself is kept.
    """
    by_name = conditions(retrain_cron)
    policy = freshness(freshness_hours)

    def apply(spec: dg.AssetSpec) -> dg.AssetSpec:
        condition = by_name.get(spec.key.to_user_string())
        if condition is not None and spec.automation_condition is None:
            spec = spec.replace_attributes(automation_condition=condition)
        return dg.apply_freshness_policy(spec, policy, overwrite_existing=False)

    return defs.permissive_map_resolved_asset_specs(func=apply, selection=None)


def automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions; the one that Dagster adds by itself would be stopped."""
    return dg.AutomationConditionSensorDefinition(
        "automation", target=dg.AssetSelection.all(), default_status=dg.DefaultSensorStatus.RUNNING
    )
