"""How Great Expectations asks the database: nothing that it knows already.

Beside counting the offending rows of a rule, the library looks for examples of them, in two further queries a rule,
at the same time: on a table that meets its rules, most of what is scanned is scanned to find nothing. Here the
examples wait for the counts, and a rule that no row breaks has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from great_expectations.core.metric_function_types import SummarizationMetricNameSuffixes as Suffix
from great_expectations.datasource.fluent import SQLDatasource
from great_expectations.execution_engine import SqlAlchemyExecutionEngine
from great_expectations.validator.metric_configuration import MetricConfiguration

from mlops_platform.resources.validation_sources import EngineArguments


class PatientEngine(SqlAlchemyExecutionEngine):
    """Looks for offending rows after all else is known, and only where there are some; results are the same."""

    def resolve_metrics(
        self,
        metrics_to_resolve: Iterable[MetricConfiguration],
        metrics: dict[Any, Any] | None = None,
        runtime_configuration: dict[str, Any] | None = None,
    ) -> dict[Any, Any]:
        """Answer some of the metrics that could be computed now; the caller asks again for the others.

        Args:
            metrics_to_resolve: What is asked for.
            metrics: What is known, by id.
            runtime_configuration: Passed on.

        Returns:
            The values of those that were computed, by id.

        Raises:
            MetricResolutionError: The database refused one of them.
        """
        known = metrics or {}
        asked = list(metrics_to_resolve)
        none_there: dict[Any, Any] = {each.id: [] for each in asked if _no_examples(each, known)}
        examples = [each for each in asked if _counted_by(each) is not None and each.id not in none_there]
        others = [each for each in asked if _counted_by(each) is None]
        # a count that failed never comes: its examples are then asked for as the library does it
        found = super().resolve_metrics(others or examples, known, runtime_configuration)
        return {**found, **none_there}


class PlatformDatasource(SQLDatasource):
    """A database that the patient engine asks; its type names the context's method that adds one."""

    type: Literal["platform"] = "platform"
    execution_engine_override: ClassVar[Any] = PatientEngine


def add_database(context: Any, engine: EngineArguments) -> Any:
    """Make a database known to a context, to be asked where its tables are: none is made there.

    Args:
        context: Great Expectations' context.
        engine: How SQLAlchemy reaches the database.

    Returns:
        The data source.
    """
    return context.data_sources.add_platform(
        "warehouse", connection_string=engine.url, create_temp_table=False, kwargs=dict(engine.options)
    )


def _no_examples(metric: MetricConfiguration, known: dict[Any, Any]) -> bool:
    count = _counted_by(metric)
    return count is not None and count.id in known and not known[count.id]


def _counted_by(metric: MetricConfiguration) -> MetricConfiguration | None:
    """The number of rows that a metric gives examples of; None for a metric that gives none."""
    rule, _, kind = metric.metric_name.rpartition(".")
    asked = metric.metric_value_kwargs.get("result_format") or {}
    if kind == Suffix.UNEXPECTED_VALUES.value or (
        kind == Suffix.UNEXPECTED_INDEX_LIST.value and "unexpected_index_column_names" in asked
    ):
        same = {key: value for key, value in metric.metric_value_kwargs.items() if key != "result_format"}
        return MetricConfiguration(f"{rule}.{Suffix.UNEXPECTED_COUNT.value}", metric.metric_domain_kwargs, same)
    return None
