"""The checks of the labels: how many are suspect, and on how many people disagree."""

from __future__ import annotations

from typing import Any

import dagster as dg

from mlops_platform.assets.failures import sentences
from mlops_platform.assets.ingest import markdown_table
from mlops_platform.resources.label_tables import CONFLICTS
from mlops_platform.resources.warehouse_base import Warehouse

_SHOWN = 20
_CHARS = 80


def build_label_check(max_share: float) -> dg.AssetChecksDefinition:
    """Build the check on `label_issues`; it warns and blocks nothing.

    Args:
        max_share: Share of suspects among the evaluated labels above which it fails.
    """

    @dg.asset_check(
        asset="label_issues",
        name="few_suspects",
        description=f"At most {max_share:.0%} of the labels are suspect.",
    )
    def few_suspects(label_issues: dict[str, Any]) -> dg.AssetCheckResult:
        share, judged = label_issues["share"], label_issues["judged"]
        suspects = len(label_issues["suspects"])
        return dg.AssetCheckResult(
            passed=share <= max_share,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{suspects} of {judged} labels ({share:.1%}) are suspect.",
            metadata={"suspects": suspects, "judged": judged, "share": share, "max_share": max_share},
        )

    return few_suspects


def build_conflict_check() -> dg.AssetChecksDefinition:
    """Build the check on `tags` that people agree on their labels; it warns and blocks nothing.

    A tag that more than half of the people gave settles a conflict. Without one the last label counts, and the check
    names the project.
    """

    @dg.asset_check(
        asset="tags",
        name="people_agree",
        description="For each project that people labeled, more than half of them gave the same tag.",
        pool="warehouse",
    )
    def people_agree(warehouse: Warehouse) -> dg.AssetCheckResult:
        with sentences(), warehouse.connect():
            rows: list[tuple[Any, ...]] = []
            if warehouse.has_table(CONFLICTS):
                rows = warehouse.fetch_rows(
                    "SELECT id, tag, labeled_by, source, won FROM label_conflicts WHERE unresolved "
                    "ORDER BY id, labeled_by, source"
                )
        unresolved = len({key for key, *_ in rows})
        metadata: dict[str, Any] = {"unresolved": unresolved}
        if rows:
            names = ["id", "tag", "labeled_by", "source", "counts"]
            metadata["labels"] = dg.MetadataValue.md(markdown_table(names, rows[:_SHOWN], _CHARS))
        return dg.AssetCheckResult(
            passed=not unresolved,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"On {unresolved} projects people disagree; the last label counts."
            if unresolved
            else "People agree on their labels.",
            metadata=metadata,
        )

    return people_agree
