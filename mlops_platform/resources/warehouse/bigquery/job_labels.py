"""The labels of BigQuery's jobs: which run started one, and for which assets."""

from __future__ import annotations

import re

import dagster as dg


def job_labels() -> dict[str, str]:
    """Return the id and the assets of the run that calls this, as labels may be written; none outside of a run."""
    try:
        context = dg.OpExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return {}
    keys = {key.to_user_string() for key in context.selected_asset_keys} if context.has_assets_def else set()
    keys = keys or {key.asset_key.to_user_string() for key in context.selected_asset_check_keys}
    labels = {"dagster_run_id": context.run_id, "asset_key": "__".join(sorted(keys))}
    return {name: re.sub(r"[^a-z0-9_-]", "_", value.lower())[:63] for name, value in labels.items() if value}
