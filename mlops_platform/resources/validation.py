"""One validation by Great Expectations, in SQL, where the table is; the only module that knows how it is run.

Importing this imports Great Expectations, which takes seconds: import it where a validation is about to happen.
"""

from __future__ import annotations

import json
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
from mlops_platform.resources.suites import ID, Expectation, Outcome
from mlops_platform.resources.validation_engine import add_database
from mlops_platform.resources.validation_sources import ValidationSource

EXAMPLES = 5
_LONGEST_TEXT = 200


def evaluate(
    suite: str,
    rules: Sequence[Expectation],
    source: ValidationSource,
    table: str,
    *,
    with_ids: bool,
) -> tuple[Any, dict[str, Outcome]]:
    """Evaluate rules on a table or view.

    Args:
        suite: Name of the suite, for the record.
        rules: What to evaluate; their columns must be there.
        source: Where the table is.
        table: The table or view.
        with_ids: The table has the column `id`, which names the offending rows.

    Returns:
        Great Expectations' suite validation result, None where no rule could be handed to it; and an outcome by
        the name of each rule.

    Raises:
        PlatformError: The validation as a whole broke off.
    """
    expectations = []
    outcomes = {}
    for rule in rules:
        try:
            expectations.append(_expectation(rule))
        except pydantic.ValidationError as error:
            wrong = "; ".join(f"{each['loc'][0]}: {each['msg']}" for each in error.errors())
            outcomes[rule.name] = Outcome(
                rule.name, passed=False, error=f"{rule.type} does not take these arguments ({_sentence(wrong)})"
            )
        except Exception as error:  # whatever one rule's class throws, the others are still evaluated
            outcomes[rule.name] = Outcome(rule.name, passed=False, error=_sentence(error))
    if not expectations:
        return None, outcomes
    try:
        asked = gx.ExpectationSuite(name=suite, expectations=expectations)
        result = _validate(asked, source, table, with_ids=with_ids)
    except PlatformError:
        raise
    except Exception as error:
        raise PlatformError(
            f"Great Expectations could not check {source.schema}.{table} ({_sentence(error)}): mend the table or the "
            f"suite {suite}."
        ) from error
    for each in result.results:
        outcome = _outcome(each, source, table)
        outcomes[outcome.name] = outcome
    return result, outcomes


def _expectation(rule: Expectation) -> Any:
    return get_expectation_impl(rule.type)(
        **rule.kwargs,
        meta={"check": rule.name},
        severity="critical" if rule.critical else "warning",
        description=rule.description,
    )


def _validate(suite: Any, source: ValidationSource, table: str, *, with_ids: bool) -> Any:
    # its warnings come back in the result; its progress bars are off, yet their watching thread would outlive the
    # run and make DuckDB complain at exit
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    tqdm.tqdm.monitor_interval = 0
    # made anew each time: a context in a folder would rewrite its configuration there
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            analytics_enabled=False,
            progress_bars={"globally": False},
        ),
    )
    with source.engine_arguments() as engine:
        database = add_database(context, engine)
        asset = database.add_table_asset(table, table_name=table, schema_name=source.schema)
        batch = asset.add_batch_definition_whole_table("whole").get_batch()
        return batch.validate(
            suite,
            result_format={
                "result_format": "SUMMARY",
                "partial_unexpected_count": EXAMPLES,
                **({"unexpected_index_column_names": [ID]} if with_ids else {}),
            },
        )


def _outcome(result: Any, source: ValidationSource, table: str) -> Outcome:
    name = result.expectation_config.meta["check"]
    error = _exception(result.exception_info or {})
    if error is not None:
        return Outcome(name, passed=False, error=error)
    found = result.result or {}
    observed = found.get("observed_value")
    if isinstance(observed, str) and "_type" in result.expectation_config.type:
        observed = source.type_names.get(observed, observed)
    examples = found.get("partial_unexpected_index_list")
    if not examples:
        column = result.expectation_config.kwargs.get("column", "value")
        values = found.get("partial_unexpected_list") or []
        wanted = [value if isinstance(value, Mapping) else {column: value} for value in values]
        examples = _rows_with(wanted, source, table) if wanted else []
    return Outcome(
        name,
        passed=bool(result.success),
        rows=found.get("element_count"),
        offending_rows=found.get("unexpected_count"),
        observed=_plain(observed),
        examples=_plain(examples[:EXAMPLES]),
    )


def _rows_with(wanted: Sequence[Mapping[str, Any]], source: ValidationSource, table: str) -> list[dict[str, Any]]:
    """Look up the rows that hold these values: a rule about several columns comes back without ids."""
    columns = [ID, *(column for column in wanted[0] if column != ID)]
    rows = source.rows_with(table, columns, wanted, EXAMPLES)
    if rows is None:  # no ids, or values that cannot be asked for: those tell enough
        return [dict(value) for value in wanted]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _exception(info: Mapping[str, Any]) -> str | None:
    """Great Expectations reports an engine's error as a failed expectation: tell it from bad data."""
    problems = [info] if "raised_exception" in info else [each for each in info.values() if isinstance(each, Mapping)]
    for problem in problems:
        if problem.get("raised_exception"):
            return _sentence(problem.get("exception_message"))
    return None


def _sentence(problem: object) -> str:
    """Reduce a message to its first line, without the class of the database's error and the request it answers."""
    lines = str(problem or "").strip().splitlines() or ["no message"]
    return _cut(re.sub(r"^\((_?duckdb|google)\.[\w.]+\) (\d{3} (GET|POST) \S+: )?", "", lines[0]))


def _plain(value: Any) -> Any:
    """Turn a value into what JSON holds, with long texts cut."""
    return _shortened(json.loads(json.dumps(value, default=str)))


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    if isinstance(value, dict):
        return {key: _shortened(each) for key, each in value.items()}
    return value


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
