"""The labels of BigQuery's jobs: which run asked for one, and for which assets."""

from __future__ import annotations

import re

import dagster as dg

_LENGTH = 63


def label(text: str) -> str:
    """Makes a text a label's value: lower-case letters, digits, `_` and `-`, at most 63 of them."""
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())[:_LENGTH]


def job_labels() -> dict[str, str]:
    """The run and what it is working on, if a run is what asks."""
    try:
        context = dg.OpExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return {}
    keys = {key.to_user_string() for key in context.selected_asset_keys} if context.has_assets_def else set()
    keys = keys or {key.asset_key.to_user_string() for key in context.selected_asset_check_keys}
    named = {"dagster_run_id": context.run_id, "asset_key": "__".join(sorted(keys))}
    return {name: label(value) for name, value in named.items() if value}
