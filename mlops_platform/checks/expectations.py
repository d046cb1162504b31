"""Expectation suites as asset checks: a factory that makes one check of each expectation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.assets.failures import sentences
from mlops_platform.resources.datasets import DatasetStore
from mlops_platform.resources.expectations import ExpectationsEngine, SuiteResult
from mlops_platform.resources.suites import ID, Expectation, Outcome, read_suite
from mlops_platform.resources.validation_sources import ValidationSource
from mlops_platform.resources.warehouse_base import Warehouse
from mlops_platform.settings import GX_ROOT_DIR

_TOLD_ERRORS = 3


def suite_checks(
    suite: str, asset: str, *, snapshot: bool = False, root: Path = GX_ROOT_DIR
) -> dg.AssetChecksDefinition:
    """Make the checks of a suite on an asset.

    A check whose expectation is critical blocks what is downstream. What could not be evaluated fails the step, so
    that it reads as an error and neither as bad data nor as a pass.

    Args:
        suite: Name of a committed suite, and of the table that it is about.
        asset: The asset whose checks they are.
        snapshot: The asset is a Parquet snapshot of that table, whose version is in the asset's value; otherwise
            it is the table in the warehouse.
        root: The folder that holds `expectations/`.

    Returns:
        One definition with a check for each expectation; each can be run by itself.

    Raises:
        PlatformError: The suite cannot be read.
    """
    rules = read_suite(suite, root)
    specs = [
        dg.AssetCheckSpec(
            each.name,
            asset=asset,
            description=each.description,
            blocking=each.critical,
            metadata={"expectation": each.type, "kwargs": dg.MetadataValue.json(dict(each.kwargs))},
        )
        for each in rules
    ]
    rule_of = {each.name: each for each in rules}
    name = f"{asset}_expectations"

    def run(
        context: dg.AssetCheckExecutionContext,
        engine: ExpectationsEngine,
        opened: AbstractContextManager[ValidationSource],
    ) -> Iterator[dg.AssetCheckResult]:
        chosen = {key.name for key in context.selected_asset_check_keys}
        with sentences(), opened as source:
            result = engine.validate_table(
                suite,
                source,
                suite,
                expectations=[each for each in rules if each.name in chosen],
                subject=asset,
            )
        for outcome in result.outcomes:
            if outcome.error is None:
                yield _check_result(asset, outcome, result, rule_of[outcome.name])
        errors = [f"{each.name}: {each.error}" for each in result.outcomes if each.error is not None]
        if errors:
            more = f"; and {len(errors) - _TOLD_ERRORS} more" if len(errors) > _TOLD_ERRORS else ""
            raise dg.Failure(
                f"{len(errors)} of {len(result.outcomes)} expectations on {asset} could not be evaluated "
                f"({'; '.join(errors[:_TOLD_ERRORS])}{more}): restore the table's columns and their types, "
                f"or mend the suite {suite}.",
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
            yield from run(context, expectations, datasets.validation_source(value["version"], suite))

        return snapshot_checks

    @dg.multi_asset_check(name=name, specs=specs, can_subset=True, pool="warehouse")
    def table_checks(
        context: dg.AssetCheckExecutionContext, expectations: ExpectationsEngine, warehouse: Warehouse
    ) -> Iterator[dg.AssetCheckResult]:
        yield from run(context, expectations, warehouse.validation_source())

    return table_checks


def _check_result(asset: str, outcome: Outcome, result: SuiteResult, rule: Expectation) -> dg.AssetCheckResult:
    figures = {
        "rows": outcome.rows,
        "offending_rows": outcome.offending_rows,
        "offending_share": outcome.offending_share,
        "observed": outcome.observed,
    }
    metadata: dict[str, Any] = {
        key: value if isinstance(value, int | float | str) else dg.MetadataValue.json(value)
        for key, value in figures.items()
        if value is not None
    }
    ids = dict.fromkeys(str(each[ID]) for each in outcome.examples if each.get(ID) is not None)
    if ids:
        metadata["offending_ids"] = ", ".join(ids)
    if outcome.examples:
        metadata["examples"] = dg.MetadataValue.json([dict(each) for each in outcome.examples])
    if result.page is not None and result.url is not None:
        metadata["data_docs"] = dg.MetadataValue.url(result.url)
        metadata["data_docs_file"] = dg.MetadataValue.path(result.page)
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=outcome.name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if rule.critical else dg.AssetCheckSeverity.WARN,
        description=None if outcome.passed else _finding(outcome, rule),
        metadata=metadata,
    )


def _finding(outcome: Outcome, rule: Expectation) -> str:
    if outcome.offending_rows is None or outcome.offending_share is None:
        asked = ", ".join(f"{name} {value}" for name, value in rule.kwargs.items() if name != "column")
        return f"The table shows {outcome.observed}, where the rule asks for {asked}."
    rows = f"{outcome.offending_rows:,} of {outcome.rows:,} rows"
    return f"{rows} ({outcome.offending_share:.2%}) do not meet it."
