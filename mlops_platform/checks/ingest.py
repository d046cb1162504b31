"""Checks of how well the raw files could be read; what is in the rows is checked by the suites."""

import dagster as dg

from mlops_platform.assets.failures import sentences
from mlops_platform.assets.ingest import TABLES, markdown_table
from mlops_platform.errors import WarehouseError
from mlops_platform.resources.warehouse import DuckDBWarehouse

_SHOWN_REJECTS = 20
_SHOWN_CHARS = 120


def build_ingest_checks(max_reject_share: float) -> list[dg.AssetChecksDefinition]:
    """Makes two checks a raw table, both about its lines in `rejects`.

    `no_rejected_rows` warns and shows them; `reject_share_within_limit` is an error that holds back what
    comes next. The share is rejected lines / (rows + rejected lines): a quote that swallows a hundred lines
    counts a hundred times (see `LoadResult`).

    Args:
        max_reject_share: The largest share that passes, from 0 to 1.

    Returns:
        Four checks that need the resource `warehouse`.
    """
    return [
        check
        for table in TABLES
        for check in (_no_rejected_rows(table), _reject_share_within_limit(table, max_reject_share))
    ]


def _no_rejected_rows(table: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=table,
        name="no_rejected_rows",
        description=f"Every line of the {table} file could be read.",
        pool="warehouse",
    )
    def no_rejected_rows(warehouse: DuckDBWarehouse) -> dg.AssetCheckResult:
        with sentences():
            rows, rejected = _counts(warehouse, table)
            shown = warehouse.fetch_rows(
                "SELECT line, column_name, reason, text FROM rejects WHERE source_table = ? "
                "ORDER BY line, column_name LIMIT ?",
                [table, _SHOWN_REJECTS],
            )
        metadata: dict[str, dg.MetadataValue] = {
            "rejected_lines": dg.MetadataValue.int(rejected),
            "share": dg.MetadataValue.float(_share(rows, rejected)),
        }
        if shown:
            names = ["line", "column", "reason", "text"]
            metadata["first_rejects"] = dg.MetadataValue.md(markdown_table(names, shown, _SHOWN_CHARS))
        return dg.AssetCheckResult(
            passed=rejected == 0,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{rejected:,} lines of the file were rejected; {rows:,} rows were loaded.",
            metadata=metadata,
        )

    return no_rejected_rows


def _reject_share_within_limit(table: str, limit: float) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=table,
        name="reject_share_within_limit",
        description=f"At most {limit:.2%} of the lines of the {table} file were rejected.",
        blocking=True,
        pool="warehouse",
    )
    def reject_share_within_limit(warehouse: DuckDBWarehouse) -> dg.AssetCheckResult:
        with sentences():
            rows, rejected = _counts(warehouse, table)
        share = _share(rows, rejected)
        return dg.AssetCheckResult(
            passed=share <= limit,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{share:.2%} of the lines were rejected; the limit is {limit:.2%}.",
            metadata={"share": share, "limit": limit, "rejected_lines": rejected, "rows": rows},
        )

    return reject_share_within_limit


def _counts(warehouse: DuckDBWarehouse, table: str) -> tuple[int, int]:
    """Counts rows and rejected lines; a table that isn't there is an error, not a table without rejects."""
    rows = warehouse.row_count(table)
    if not warehouse.has_table("rejects"):
        raise WarehouseError(
            f"The table {table} was not loaded by the platform (there is no table rejects); "
            f"materialize the asset {table}."
        )
    ((rejected,),) = warehouse.fetch_rows("SELECT count(DISTINCT line) FROM rejects WHERE source_table = ?", [table])
    return rows, int(rejected)


def _share(rows: int, rejected: int) -> float:
    lines = rows + rejected
    return rejected / lines if lines else 0.0
