"""One validation by Great Expectations, in SQL, where the table is; the only module that runs the library.

Counting comes first: each rule that no row may break is evaluated for its verdict alone. Only the rules that fail are
evaluated again for their figures and a few offending rows, since the library searches for these with further queries
over the whole table, whether there are any or not.

Importing this module imports Great Expectations, which takes seconds: import it just before a validation.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import great_expectations as gx
import tqdm
from great_expectations.compatibility import pydantic
from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults
from great_expectations.expectations.registry import get_expectation_impl

from mlops_platform.errors import PlatformError
from mlops_platform.resources.validation.source import ValidationSource
from mlops_platform.resources.validation.suite import ID, Expectation, Outcome

__all__ = ["EXAMPLES", "evaluate"]

EXAMPLES = 5
_MAX_CHARS = 200


def evaluate(
    suite: str,
    rules: Sequence[Expectation],
    source: ValidationSource,
    table: str,
    *,
    with_ids: bool,
) -> tuple[list[Any], dict[str, Outcome]]:
    """Evaluate rules on a table or view.

    Args:
        suite: Name of the suite, for messages.
        rules: What to evaluate; the table has their columns.
        source: Where the table is.
        table: The table or view.
        with_ids: Whether the table has the column `id`, which identifies the offending rows.

    Returns:
        Great Expectations' result of each rule that it accepted, and the outcome of every rule by its name.

    Raises:
        PlatformError: The validation as a whole failed.
    """
    expectations = []
    outcomes = {}
    for rule in rules:
        try:
            expectation = get_expectation_impl(rule.type)(
                **rule.kwargs,
                meta={"check": rule.name},
                severity="critical" if rule.critical else "warning",
                description=rule.description,
            )
            expectations.append(expectation)
        except pydantic.ValidationError as error:
            problems = _sentence("; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors()))
            message = f"{rule.type} does not take these arguments ({problems})"
            outcomes[rule.name] = Outcome(rule.name, passed=False, error=message)
        except Exception as error:  # whatever one rule's class raises, the others are still evaluated
            outcomes[rule.name] = Outcome(rule.name, passed=False, error=_sentence(error))
    try:
        results = _validate(suite, expectations, source, table, with_ids=with_ids) if expectations else []
    except PlatformError:
        raise
    except Exception as error:
        raise PlatformError(
            f"Great Expectations could not check {source.schema}.{table} ({_sentence(error)}): repair the table or "
            f"the suite {suite}."
        ) from error
    outcomes |= {_name(result): _outcome(result, source, table) for result in results}
    return results, outcomes


def _name(result: Any) -> str:
    return str(result.expectation_config.meta["check"])


def _validate(
    suite: str, expectations: Sequence[Any], source: ValidationSource, table: str, *, with_ids: bool
) -> list[Any]:
    # its warnings are in the result; its progress bars are off, yet their monitor thread would outlive the run and
    # make DuckDB complain at exit
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    tqdm.tqdm.monitor_interval = 0
    # a new context each time: one in a folder would rewrite its configuration there
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            analytics_enabled=False,
            progress_bars={"globally": False},
        ),
    )
    details = {
        "result_format": "SUMMARY",
        "partial_unexpected_count": EXAMPLES,
        **({"unexpected_index_column_names": [ID]} if with_ids else {}),
    }
    with source.engine_arguments() as engine:
        database = context.data_sources.add_sql(
            "warehouse", connection_string=engine.url, create_temp_table=False, kwargs=dict(engine.options)
        )
        asset = database.add_table_asset(table, table_name=table, schema_name=source.schema)
        batch = asset.add_batch_definition_whole_table("whole").get_batch()

        def validate(chosen: Sequence[Any], result_format: Any) -> dict[str, Any]:
            if not chosen:
                return {}
            results = batch.validate(
                gx.ExpectationSuite(name=suite, expectations=list(chosen)), result_format=result_format
            ).results
            return {_name(result): result for result in results}

        verdicts = validate([rule for rule in expectations if _allows_no_row(rule)], "BOOLEAN_ONLY")
        settled = {
            name: result
            for name, result in verdicts.items()
            if result.success or _exception(result.exception_info) is not None
        }
        detailed = validate([rule for rule in expectations if rule.meta["check"] not in settled], details)
    passed = [result for result in settled.values() if result.success]
    if passed:
        rows = source.row_count(table)
        for result in passed:
            result.result = {"element_count": rows, "unexpected_count": 0, "unexpected_percent": 0.0}
    results = settled | detailed
    return [results[rule.meta["check"]] for rule in expectations]


def _allows_no_row(expectation: Any) -> bool:
    """Return whether the rule is about the values of all rows, and a single row can break it."""
    return (
        getattr(expectation, "map_metric", None) is not None
        and not _is_about_type(expectation.expectation_type)
        and expectation.mostly == 1
        and expectation.row_condition is None
    )


def _is_about_type(expectation_type: str) -> bool:
    """Return whether a rule is about the type of a column, which Great Expectations reads from the schema."""
    return "_type" in expectation_type


def _outcome(result: Any, source: ValidationSource, table: str) -> Outcome:
    name = _name(result)
    error = _exception(result.exception_info)
    if error is not None:
        return Outcome(name, passed=False, error=error)
    figures = result.result or {}
    observed = figures.get("observed_value")
    if isinstance(observed, str) and _is_about_type(result.expectation_config.type):
        observed = source.type_names.get(observed, observed)
    examples = figures.get("partial_unexpected_index_list")
    if not examples:
        column = result.expectation_config.kwargs.get("column", "value")
        values = figures.get("partial_unexpected_list") or []
        combinations = [value if isinstance(value, Mapping) else {column: value} for value in values]
        examples = _rows_with(combinations, source, table) if combinations else []
    return Outcome(
        name,
        passed=bool(result.success),
        rows=figures.get("element_count"),
        offending_rows=figures.get("unexpected_count"),
        observed=_plain(observed),
        examples=_plain(examples[:EXAMPLES]),
    )


def _rows_with(combinations: Sequence[Mapping[str, Any]], source: ValidationSource, table: str) -> list[dict[str, Any]]:
    """Look up the rows that hold these values: the library returns no ids for a rule about several columns."""
    columns = [ID, *(column for column in combinations[0] if column != ID)]
    rows = source.rows_with(table, columns, combinations, EXAMPLES)
    if rows is None:  # the values by themselves say enough
        return [dict(combination) for combination in combinations]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _exception(info: Mapping[str, Any] | None) -> str | None:
    """Return the database's or the library's error, which Great Expectations reports as a failed expectation."""
    info = info or {}
    problems = (
        [info] if "raised_exception" in info else [value for value in info.values() if isinstance(value, Mapping)]
    )
    for problem in problems:
        if problem.get("raised_exception"):
            return _sentence(problem.get("exception_message"))
    return None


def _sentence(problem: object) -> str:
    """Return the first line of a message, without the class of the database's error and the HTTP request."""
    lines = str(problem or "").strip().splitlines() or ["no message"]
    return _cut(re.sub(r"^\((_?duckdb|google)\.[\w.]+\) (\d{3} (GET|POST) \S+: )?", "", lines[0]))


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it, with long texts cut."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…"
