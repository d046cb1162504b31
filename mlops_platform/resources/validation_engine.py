"""How Great Expectations asks the database: nothing that it knows already.

Beside counting the offending rows of a rule, the library looks for examples of them, in two further queries a rule,
at the same time: on a table that meets its rules, most of what is scanned is scanned to find nothing. Here the
examples wait for the counts, and a rule that no row breaks has none. And where the database refuses one question, the
library throws away the answers to those beside it and asks all again, three times: here answers and refusals are
kept. How rows that repeat values are counted is in `validation_uniqueness`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from great_expectations.core.metric_function_types import SummarizationMetricNameSuffixes as Suffix
from great_expectations.datasource.fluent import SQLDatasource
from great_expectations.exceptions import MetricResolutionError
from great_expectations.execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.registry import get_metric_provider
from great_expectations.validator.metric_configuration import MetricConfiguration
from sqlalchemy.exc import SQLAlchemyError

from mlops_platform.resources.validation_sources import EngineArguments
from mlops_platform.resources.validation_uniqueness import repeated_rows


class PatientEngine(SqlAlchemyExecutionEngine):
    """Looks for offending rows after all else is known, and only where there are some; results are the same.

    Made anew for each validation.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take what the library's engine takes."""
        super().__init__(*arguments, **options)
        self._refused: dict[Any, MetricResolutionError] = {}

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
            MetricResolutionError: The database refused one of them, and there is nothing else to answer.
        """
        known = metrics or {}
        asked = list(metrics_to_resolve)
        found: dict[Any, Any] = {each.id: [] for each in asked if _no_examples(each, known)}
        examples = [each for each in asked if _counted_by(each) is not None and each.id not in found]
        others = [each for each in asked if _counted_by(each) is None]
        # a count that failed never comes: its examples are then asked for as the library does it
        wanted = others or examples
        for metric in wanted:
            repeated = self._repeated_rows(metric)
            if repeated is not None:
                found[metric.id] = repeated
        open_ = (each for each in wanted if each.id not in self._refused and each.id not in found)
        for group in self._queries(open_):
            try:
                found.update(super().resolve_metrics(group, known, runtime_configuration))
            except MetricResolutionError as error:
                self._refused.update({each.id: error for each in error.failed_metrics})
                rest = [each for each in group if each.id not in self._refused]
                if rest:
                    found.update(super().resolve_metrics(rest, known, runtime_configuration))
        if wanted and not found:
            raise self._refused[wanted[0].id]
        return found

    def _repeated_rows(self, metric: MetricConfiguration) -> int | None:
        try:
            return None if metric.id in self._refused else repeated_rows(self, metric)
        except SQLAlchemyError:  # the library asks too, and says what is wrong in its way
            return None

    def _queries(self, metrics: Iterable[MetricConfiguration]) -> list[list[MetricConfiguration]]:
        """Those that go into one query together, and each of the others."""
        together, alone = [], []
        for metric in metrics:
            _, function = get_metric_provider(metric.metric_name, self)
            if function is None:
                together.append(metric)
            else:
                alone.append([metric])
        return [*alone, together] if together else alone


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
