"""Expectation suites as asset checks, one per expectation; how a suite is run is in ``resources.validation``."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.errors import platform_errors_as_failures
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.validation.resource import ExpectationsEngine, SuiteResult
from mlops_platform.resources.validation.source import ValidationSource
from mlops_platform.resources.validation.suite import ID, Expectation, Outcome, read_suite
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.settings import GX_ROOT_DIR

_SHOWN_ERRORS = 3


def suite_checks(
    suite: str, asset: str, *, snapshot: bool = False, root: Path = GX_ROOT_DIR
) -> dg.AssetChecksDefinition:
    """Return the checks of a suite on an asset.

    The check of a critical expectation blocks downstream assets. An expectation that could not be evaluated fails the
    step: it is an error and says nothing about the data.

    Args:
        suite: Name of a committed suite, and of the table that it validates.
        asset: The asset that the checks belong to.
        snapshot: The asset is a Parquet snapshot of that table, with its version in the asset's value.
        root: The folder that contains `expectations/`.
    """
    rules = read_suite(suite, root)
    specs = [
        dg.AssetCheckSpec(
            rule.name,
            asset=asset,
            description=rule.description,
            blocking=rule.critical,
            metadata={"expectation": rule.type, "kwargs": dg.MetadataValue.json(dict(rule.kwargs))},
        )
        for rule in rules
    ]
    rule_of = {rule.name: rule for rule in rules}
    name = f"{asset}_expectations"

    def run(
        context: dg.AssetCheckExecutionContext,
        engine: ExpectationsEngine,
        opened: AbstractContextManager[ValidationSource],
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        with platform_errors_as_failures(), opened as source:
            expectations = [rule for rule in rules if rule.name in selected]
            result = engine.validate_table(suite, source, suite, expectations=expectations, subject=asset)
        for outcome in result.outcomes:
            if outcome.error is None:
                yield _check_result(asset, outcome, result, rule_of[outcome.name])
        errors = [f"{outcome.name}: {outcome.error}" for outcome in result.outcomes if outcome.error is not None]
        if errors:
            more = f"; and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
            raise dg.Failure(
                f"{len(errors)} of {len(result.outcomes)} expectations on {asset} could not be evaluated "
                f"({'; '.join(errors[:_SHOWN_ERRORS])}{more}): restore the table's columns and their types, "
                f"or correct the suite {suite}.",
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
    figures = {name: getattr(outcome, name) for name in ("rows", "offending_rows", "offending_share", "observed")}
    metadata: dict[str, Any] = {
        name: value if isinstance(value, int | float | str) else dg.MetadataValue.json(value)
        for name, value in figures.items()
        if value is not None
    }
    ids = dict.fromkeys(str(example[ID]) for example in outcome.examples if example.get(ID) is not None)
    if ids:
        metadata["offending_ids"] = ", ".join(ids)
    if outcome.examples:
        metadata["examples"] = dg.MetadataValue.json([dict(example) for example in outcome.examples])
    if result.page is not None and result.url is not None:
        metadata["data_docs"] = dg.MetadataValue.url(result.url)
        metadata["data_docs_file"] = dg.MetadataValue.path(result.page)
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=outcome.name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if rule.critical else dg.AssetCheckSeverity.WARN,
        description=None if outcome.passed else _explanation(outcome, rule),
        metadata=metadata,
    )


def _explanation(outcome: Outcome, rule: Expectation) -> str:
    if outcome.offending_rows is None or outcome.offending_share is None:
        required = ", ".join(f"{name} {value}" for name, value in rule.kwargs.items() if name != "column")
        return f"The table has {outcome.observed}, but the rule requires {required}."
    rows = f"{outcome.offending_rows:,} of {outcome.rows:,} rows"
    return f"{rows} ({outcome.offending_share:.2%}) violate the rule."
