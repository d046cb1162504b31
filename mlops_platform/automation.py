"""Automation conditions by name, freshness, and the one pass that gives each asset its policies.

No condition requests an asset while a blocking check upstream fails, so a change reaches `champion_model` only
through passed checks. What reacts to the world outside the graph is in ``sensors``.
"""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
from dagster import AutomationCondition

# the assets from trained_model to champion_model follow new parameters, never the dataset alone: a change of data would
# otherwise train a model outside the retraining window, with parameters tuned on the old data
_DATASET = dg.AssetSelection.assets("validated_dataset")
_HANDLED = AutomationCondition.newly_requested() | AutomationCondition.newly_updated()
_UPSTREAM_CHANGED = AutomationCondition.any_deps_match(AutomationCondition.data_version_changed())
# upstream exists, is checked and is not running, nor is the asset itself
_READY = (
    AutomationCondition.all_deps_blocking_checks_passed()
    & ~AutomationCondition.any_deps_missing()
    & ~AutomationCondition.any_deps_in_progress()
    & ~AutomationCondition.in_progress()
)


def _pending(changed: AutomationCondition) -> AutomationCondition:
    """A change stays pending until the asset was requested or updated, however long checks hold it back."""
    return (changed | AutomationCondition.missing().newly_true()).since(_HANDLED)


def on_new_data() -> AutomationCondition:
    """Request an asset when the data version of a dependency changes, once blocking checks have passed."""
    return (_pending(_UPSTREAM_CHANGED) & _READY).with_label("on_new_data")


def on_new_parameters() -> AutomationCondition:
    """Like `on_new_data`, but a new dataset alone requests nothing."""
    return (_pending(_UPSTREAM_CHANGED.ignore(_DATASET)) & _READY).with_label("on_new_parameters")


def retrain_at_most_once(cron: str) -> AutomationCondition:
    """Retrain on a new dataset, at most once per window; the ticks of `cron` (UTC) separate the windows."""
    in_new_window = AutomationCondition.cron_tick_passed(cron).since(_HANDLED)
    return (_pending(_UPSTREAM_CHANGED) & in_new_window & _READY).with_label("retrain_at_most_once")


def freshness(hours: float) -> dg.FreshnessPolicy:
    """Return a policy that fails after `hours` without a materialization, and warns after three quarters of them."""
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours), warn_window=timedelta(hours=hours * 0.75))


def with_policies(defs: dg.Definitions, *, retrain_cron: str, freshness_hours: float) -> dg.Definitions:
    """Give every materializable asset its freshness policy and automation condition, unless it has its own."""
    conditions = {  # ingest has none, as sensors and the schedule start it
        "labeled_projects": on_new_data(),
        "unlabeled_projects": on_new_data(),
        "validated_dataset": on_new_data(),
        "tuned_params": retrain_at_most_once(retrain_cron),
        "trained_model": on_new_parameters(),
        "model_evaluation": on_new_parameters(),
        "champion_model": on_new_parameters(),
    }
    policy = freshness(freshness_hours)

    def apply(spec: dg.AssetSpec) -> dg.AssetSpec:
        condition = conditions.get(spec.key.to_user_string())
        if condition is not None and spec.automation_condition is None:
            spec = spec.replace_attributes(automation_condition=condition)
        return dg.apply_freshness_policy(spec, policy, overwrite_existing=False)

    return defs.permissive_map_resolved_asset_specs(func=apply, selection=None)


def automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """Build the sensor that evaluates the conditions; the one that Dagster adds by default is stopped."""
    return dg.AutomationConditionSensorDefinition(
        "automation", target=dg.AssetSelection.all(), default_status=dg.DefaultSensorStatus.RUNNING
    )
