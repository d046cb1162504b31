"""Great Expectations: runs a committed suite in SQL where the table is, and writes its Data Docs.

What a failed expectation means to the graph is said in ``checks``. Great Expectations' own types stay in here.
"""

import json
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.errors import PlatformError
from mlops_platform.settings import GX_ROOT_DIR

if TYPE_CHECKING:
    import duckdb

EXAMPLES = 5

# Great Expectations keeps its project in module state: one validation at a time in a process
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Expectation:
    """One rule of a suite, as its JSON file says it.

    Attributes:
        name: Derived from type and columns; names the asset check.
        type: Great Expectations' name of the rule.
        kwargs: What the rule is about.
        critical: Whether a violation holds back what is downstream.
        description: The rule in words.
    """

    name: str
    type: str
    kwargs: Mapping[str, Any]
    critical: bool
    description: str

    @property
    def columns(self) -> list[str]:
        """The columns that the rule is about."""
        found = [self.kwargs[key] for key in ("column", "column_A", "column_B") if key in self.kwargs]
        return [*found, *self.kwargs.get("column_list", []), *self.kwargs.get("column_set", [])]


@dataclass(frozen=True)
class Outcome:
    """What became of one expectation.

    Attributes:
        name: The expectation's.
        passed: Whether the table meets it; False too where it could not be evaluated.
        error: Why it could not be evaluated, in words; None where it was.
        figures: Counts, percent and observed value, as far as the rule has them.
        examples: Some offending rows: their id and the columns of the rule.
    """

    name: str
    passed: bool
    error: str | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[Any] = ()


@dataclass(frozen=True)
class SuiteResult:
    """What became of a suite, and where its page of the Data Docs is (None if it could not be written)."""

    outcomes: Sequence[Outcome]
    page: Path | None
    url: str | None

    @property
    def success(self) -> bool:
        """Whether every expectation was evaluated and met."""
        return all(outcome.passed for outcome in self.outcomes)


def read_suite(name: str, root: Path = GX_ROOT_DIR) -> list[Expectation]:
    """Read a committed suite, without importing Great Expectations.

    Args:
        name: Name of the suite.
        root: The folder that holds `expectations/`.

    Returns:
        Its expectations, each with a name of its own.

    Raises:
        PlatformError: The file is missing or no suite.
    """
    path = root / "expectations" / f"{name}.json"
    try:
        rules = json.loads(path.read_text(encoding="utf-8"))["expectations"]
        expectations = [
            Expectation(
                name=_name(rule["type"], rule["kwargs"]),
                type=rule["type"],
                kwargs=rule["kwargs"],
                critical=rule.get("severity", "critical") == "critical",
                description=rule.get("description") or rule["type"],
            )
            for rule in rules
        ]
    except OSError as error:
        raise PlatformError(f"Suite {path} cannot be read ({error.strerror}): restore it.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise PlatformError(f"{path} is no expectation suite ({error!r}): mend it.") from None
    names = [each.name for each in expectations]
    twice = sorted({each for each in names if names.count(each) > 1})
    if twice:
        raise PlatformError(f"Suite {path} holds the rule {', '.join(twice)} twice: remove one.")
    return expectations


def _name(kind: str, kwargs: Mapping[str, Any]) -> str:
    rule = kind.removeprefix("expect_")
    columns = [kwargs["column"]] if "column" in kwargs else kwargs.get("column_list", [])
    for prefix in ("column_values_", "compound_columns_", "column_"):
        if columns and rule.startswith(prefix):
            return "_".join([*columns, rule.removeprefix(prefix)])
    return "_".join([*columns, rule])


class ExpectationsEngine(dg.ConfigurableResource):
    """Runs suites and keeps their Data Docs in `docs_dir`, which people reach at `docs_url`."""

    docs_dir: str
    docs_url: str

    def validate_table(
        self,
        suite: str,
        connection: "duckdb.DuckDBPyConnection",
        table: str,
        schema: str,
        only: Collection[str] | None = None,
    ) -> SuiteResult:
        """Evaluate a suite on a table or view.

        Args:
            suite: Name of the committed suite.
            connection: Open on the database that holds the table.
            table: The table or view.
            schema: Its schema.
            only: Names of the expectations to evaluate; all by default.

        Returns:
            One outcome an expectation, in the order of the suite.

        Raises:
            PlatformError: The table is not there.
        """
        expectations = [each for each in read_suite(suite) if only is None or each.name in only]
        present = _columns(connection, table, schema)
        if not present:
            raise PlatformError(f"Table {schema}.{table} does not exist: materialize {table} first.")
        absent = {
            each.name: sorted(set(each.columns) - present) for each in expectations if set(each.columns) - present
        }
        runnable = [each for each in expectations if each.name not in absent]
        result: Any = None
        evaluated: dict[str, Outcome] = {}
        if runnable:
            result = _evaluate(suite, runnable, connection, table, schema)
            evaluated = {outcome.name: outcome for outcome in map(_outcome, result.results)}
        outcomes = [
            evaluated[each.name]
            if each.name in evaluated
            else Outcome(
                each.name,
                passed=False,
                error=f"table {schema}.{table} has no column {', '.join(absent[each.name])}",
            )
            for each in expectations
        ]
        page, url = self._write_docs(suite, result)
        return SuiteResult(outcomes, page, url)

    def _write_docs(self, suite: str, result: Any) -> tuple[Path | None, str | None]:
        from mlops_platform.resources.data_docs import write_page

        if result is None:
            return None, None
        try:
            page = write_page(Path(self.docs_dir), suite, result)
        except OSError as error:
            # the verdict stands without its page
            dg.get_dagster_logger().warning(f"Data Docs cannot be written to {self.docs_dir}: {error}")
            return None, None
        return page, f"{self.docs_url}/{page.relative_to(self.docs_dir).as_posix()}"


def _columns(connection: "duckdb.DuckDBPyConnection", table: str, schema: str) -> set[str]:
    rows = connection.execute(
        "select column_name from information_schema.columns where table_schema = ? and table_name = ? "
        "and table_catalog = current_database()",
        [schema, table],
    ).fetchall()
    return {name for (name,) in rows}


def _evaluate(suite: str, expectations: Sequence[Expectation], connection: Any, table: str, schema: str) -> Any:
    """Let Great Expectations validate; returns its suite validation result."""
    for name in ("great_expectations", "posthog"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import great_expectations as gx
    import tqdm
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    from mlops_platform.resources.duckdb_dialect import URL, engine_options

    # its progress bars are off, yet their watching thread would outlive the run and make DuckDB complain at exit
    tqdm.tqdm.monitor_interval = 0
    with _ONE_AT_A_TIME:
        config = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            analytics_enabled=False,
            progress_bars={"globally": False},
        )
        context = gx.get_context(mode="ephemeral", project_config=config)
        source = context.data_sources.add_sql(
            "warehouse", connection_string=URL, create_temp_table=False, kwargs=engine_options(connection)
        )
        asset = source.add_table_asset(table, table_name=table, schema_name=schema)
        batch = asset.add_batch_definition_whole_table("whole").get_batch()
        result = batch.validate(
            gx.ExpectationSuite(
                name=suite,
                expectations=[
                    {
                        "type": each.type,
                        "kwargs": dict(each.kwargs),
                        "meta": {"check": each.name},
                        "severity": "critical" if each.critical else "warning",
                        "description": each.description,
                    }
                    for each in expectations
                ],
            ),
            result_format={
                "result_format": "SUMMARY",
                "partial_unexpected_count": EXAMPLES,
                "unexpected_index_column_names": ["id"],
            },
        )
        # the library keeps its last project for the life of the process: not our connection with it
        source.get_engine().dispose()
        return result


def _outcome(result: Any) -> Outcome:
    name = result.expectation_config.meta["check"]
    error = _exception(result.exception_info or {})
    if error is not None:
        return Outcome(name, passed=False, error=error)
    found = result.result or {}
    figures = {
        key: found[key]
        for key in ("element_count", "unexpected_count", "unexpected_percent", "observed_value")
        if found.get(key) is not None
    }
    examples = found.get("partial_unexpected_index_list") or found.get("partial_unexpected_list") or []
    return Outcome(name, bool(result.success), None, figures, _plain(examples[:EXAMPLES]))


def _exception(info: Mapping[str, Any]) -> str | None:
    """Great Expectations reports an engine's error as a failed expectation: tell it from bad data."""
    problems = [info] if "raised_exception" in info else [each for each in info.values() if isinstance(each, Mapping)]
    for problem in problems:
        if problem.get("raised_exception"):
            return str(problem.get("exception_message") or "no message").strip().splitlines()[0]
    return None


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
