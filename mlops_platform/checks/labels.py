"""The check of the labels: how many of them look wrong."""

from __future__ import annotations

from typing import Any

import dagster as dg


def build_label_check(max_share: float) -> dg.AssetChecksDefinition:
    """Make the check on `label_issues`; it warns and holds nothing back.

    Args:
        max_share: Share of suspects among the judged labels above which it fails.
    """

    @dg.asset_check(
        asset="label_issues",
        name="few_suspects",
        description=f"At most {max_share:.0%} of the labels look wrong.",
    )
    def few_suspects(label_issues: dict[str, Any]) -> dg.AssetCheckResult:
        share, judged = label_issues["share"], label_issues["judged"]
        suspects = len(label_issues["suspects"])
        return dg.AssetCheckResult(
            passed=share <= max_share,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{suspects} of {judged} labels ({share:.1%}) look wrong.",
            metadata={"suspects": suspects, "judged": judged, "share": share, "max_share": max_share},
        )

    return few_suspects
