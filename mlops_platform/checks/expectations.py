"""Expectation suites as asset checks: a factory that makes one check of each expectation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg

from mlops_platform.assets.failures import sentences
from mlops_platform.resources.datasets import DatasetStore
from mlops_platform.resources.expectations import ExpectationsEngine, Outcome, SuiteResult, read_suite
from mlops_platform.resources.warehouse import DuckDBWarehouse


def suite_checks(suite: str, asset: str, *, snapshot: bool = False) -> dg.AssetChecksDefinition:
    """Make the checks of a suite on an asset.

    A check whose expectation is critical blocks what is downstream. What could not be evaluated fails the step, so
    that it reads as an error and neither as bad data nor as a pass.

    Args:
        suite: Name of a committed suite, and of the table that it is about.
        asset: The asset whose checks they are.
        snapshot: The asset is a Parquet snapshot of that table, whose version is in the asset's value; otherwise
            it is the table in the warehouse.

    Returns:
        One definition with a check for each expectation; each can be run by itself.
    """
    expectations = read_suite(suite)
    specs = [
        dg.AssetCheckSpec(
            each.name,
            asset=asset,
            description=each.description,
            blocking=each.critical,
            metadata={"expectation": each.type, "kwargs": dg.MetadataValue.json(dict(each.kwargs))},
        )
        for each in expectations
    ]
    critical = {each.name: each.critical for each in expectations}
    name = f"{asset}_expectations"

    def run(
        context: dg.AssetCheckExecutionContext,
        engine: ExpectationsEngine,
        opened: AbstractContextManager[Any],
        schema: str,
    ) -> Iterator[dg.AssetCheckResult]:
        chosen = {key.name for key in context.selected_asset_check_keys}
        with sentences(), opened as connection:
            result = engine.validate_table(suite, connection, suite, schema, chosen)
        for outcome in result.outcomes:
            if outcome.error is None:
                yield _check_result(asset, outcome, result, critical=critical[outcome.name])
        errors = [f"{each.name}: {each.error}" for each in result.outcomes if each.error is not None]
        if errors:
            raise dg.Failure(
                f"{len(errors)} of {len(result.outcomes)} expectations on {asset} could not be evaluated "
                f"({'; '.join(errors[:3])}): restore the table's columns, or mend the suite {suite}.",
                allow_retries=False,
            )

    if snapshot:

        @dg.multi_asset_check(name=name, specs=specs, can_subset=True, ins={"value": dg.AssetIn(asset)})
        def snapshot_checks(
            context: dg.AssetCheckExecutionContext,
            value: dict[str, Any],
            expectations: ExpectationsEngine,
            datasets: DatasetStore,
        ) -> Iterator[dg.AssetCheckResult]:
            yield from run(context, expectations, datasets.view(value["version"], suite, "main"), "main")

        return snapshot_checks

    @dg.multi_asset_check(name=name, specs=specs, can_subset=True, pool="warehouse")
    def table_checks(
        context: dg.AssetCheckExecutionContext, expectations: ExpectationsEngine, warehouse: DuckDBWarehouse
    ) -> Iterator[dg.AssetCheckResult]:
        yield from run(context, expectations, warehouse.connect(), warehouse.schema_name)

    return table_checks


def _check_result(asset: str, outcome: Outcome, result: SuiteResult, *, critical: bool) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {
        key: value if isinstance(value, int | float | str) else dg.MetadataValue.json(value)
        for key, value in outcome.figures.items()
    }
    if outcome.examples:
        metadata["examples"] = dg.MetadataValue.json(list(outcome.examples))
    if result.page is not None and result.url is not None:
        metadata["data_docs"] = dg.MetadataValue.url(result.url)
        metadata["data_docs_file"] = dg.MetadataValue.path(result.page)
    count = outcome.figures.get("unexpected_count")
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=outcome.name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if critical else dg.AssetCheckSeverity.WARN,
        description=None if outcome.passed or count is None else f"{count} rows do not meet it",
        metadata=metadata,
    )
