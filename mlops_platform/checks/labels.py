"""Checks on labels: the share that is likely wrong, and conflicts between people; both warn and do not block."""

from __future__ import annotations

from typing import Any

import dagster as dg

from mlops_platform.assets.ingest import markdown_table
from mlops_platform.assets.label_tables import CONFLICTS
from mlops_platform.errors import platform_errors_as_failures
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.sql import sql

_SHOWN = 20  # rows of a table, of this many characters a cell
_CHARS = 80


def build_label_check(max_share: float) -> dg.AssetChecksDefinition:
    """Return the check on `label_issues`, which fails above `max_share` suspects among the evaluated labels."""

    @dg.asset_check(
        asset="label_issues",
        name="few_suspects",
        description=f"At most {max_share:.0%} of the labels are likely wrong.",
    )
    def few_suspects(label_issues: dict[str, Any]) -> dg.AssetCheckResult:
        share, evaluated = label_issues["share"], label_issues["judged"]
        suspects = len(label_issues["suspects"])
        return dg.AssetCheckResult(
            passed=share <= max_share,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{suspects} of {evaluated} labels ({share:.1%}) are likely wrong.",
            metadata={"suspects": suspects, "judged": evaluated, "share": share, "max_share": max_share},
        )

    return few_suspects


def build_conflict_check() -> dg.AssetChecksDefinition:
    """Return the check on `tags` that people agree on their labels.

    A tag that more than half of the people chose resolves a conflict. Otherwise the latest label counts, and the check
    shows the project.
    """

    @dg.asset_check(
        asset="tags",
        name="people_agree",
        description="Each project that people labeled has a tag that more than half of them chose.",
        pool="warehouse",
    )
    def people_agree(warehouse: Warehouse) -> dg.AssetCheckResult:
        query = sql(
            "SELECT id, tag, labeled_by, source, won FROM {conflicts} WHERE unresolved ORDER BY id, labeled_by, source",
            conflicts=CONFLICTS,
        )
        with platform_errors_as_failures(), warehouse.connect():
            rows = warehouse.fetch_rows(query) if warehouse.has_table(CONFLICTS) else []
        unresolved = len({key for key, *_ in rows})
        disagreement = f"People disagree on the labels of {unresolved} projects; the latest label counts."
        metadata: dict[str, Any] = {"unresolved": unresolved}
        if rows:
            names = ["id", "tag", "labeled_by", "source", "counts"]
            metadata["labels"] = dg.MetadataValue.md(markdown_table(names, rows[:_SHOWN], _CHARS))
        return dg.AssetCheckResult(
            passed=not unresolved,
            severity=dg.AssetCheckSeverity.WARN,
            description=disagreement if unresolved else "People agree on their labels.",
            metadata=metadata,
        )

    return people_agree
