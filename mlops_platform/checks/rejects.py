"""Checks on the lines of the raw files that could not be read; the suites check the rows that were."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlops_platform.assets.ingest import TABLES, markdown_table
from mlops_platform.errors import WarehouseError, platform_errors_as_failures
from mlops_platform.resources.warehouse.base import Warehouse

_SHOWN_CHARS = 120


def build_ingest_checks(max_reject_share: float) -> list[dg.AssetChecksDefinition]:
    """Return two checks per raw table on its lines in the table `rejects`.

    `no_rejected_rows` warns and shows the lines; `reject_share_within_limit` blocks downstream assets if more than
    `max_reject_share` were rejected. The share is rejected lines / (rows + rejected lines): an open quote that swallows
    a hundred lines counts a hundred times (see `LoadResult`).
    """
    return [_reject_checks(table, max_reject_share) for table in TABLES]


def _reject_checks(table: str, limit: float) -> dg.AssetChecksDefinition:
    specs = [
        dg.AssetCheckSpec("no_rejected_rows", asset=table, description=f"Every line of the {table} file was loaded."),
        dg.AssetCheckSpec(
            "reject_share_within_limit",
            asset=table,
            description=f"At most {limit:.2%} of the lines in the {table} file were rejected.",
            blocking=True,
        ),
    ]

    @dg.multi_asset_check(name=f"{table}_rejects", specs=specs, can_subset=True, pool="warehouse")
    def rejects(context: dg.AssetCheckExecutionContext, warehouse: Warehouse) -> Iterator[dg.AssetCheckResult]:
        with platform_errors_as_failures(), warehouse.connect():
            rows = warehouse.row_count(table)
            if not warehouse.has_table("rejects"):  # not a table without rejects
                raise WarehouseError(
                    f"The platform did not load the table {table} (there is no table rejects): materialize the asset "
                    f"{table}."
                )
            ((rejected,),) = warehouse.fetch_rows(
                "SELECT count(DISTINCT line) FROM rejects WHERE source_table = ?", [table]
            )
            shown = warehouse.fetch_rows(
                "SELECT line, column_name, reason, text FROM rejects WHERE source_table = ? "
                "ORDER BY line, column_name NULLS LAST LIMIT 20",
                [table],
            )
        share = rejected / (rows + rejected) if rejected else 0.0
        metadata: dict[str, Any] = {"rejected_lines": rejected, "share": share}
        if shown:
            shown_table = markdown_table(["line", "column", "reason", "text"], shown, _SHOWN_CHARS)
            metadata["first_rejects"] = dg.MetadataValue.md(shown_table)
        results = {
            "no_rejected_rows": dg.AssetCheckResult(
                check_name="no_rejected_rows",
                passed=rejected == 0,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{rejected:,} lines of the file were rejected; {rows:,} rows were loaded.",
                metadata=metadata,
            ),
            "reject_share_within_limit": dg.AssetCheckResult(
                check_name="reject_share_within_limit",
                passed=share <= limit,
                description=f"{share:.2%} of the lines were rejected; the limit is {limit:.2%}.",
                metadata={"share": share, "limit": limit, "rejected_lines": rejected, "rows": rows},
            ),
        }
        for key in context.selected_asset_check_keys:
            yield results[key.name]

    return rejects
