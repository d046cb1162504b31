"""The resource that runs expectation suites: one at a time, with an outcome for each rule and a page of the Data Docs.

What a failed expectation means to the asset graph belongs in ``checks``. ``suite_runner`` and ``data_docs`` call Great
Expectations and are imported when the first suite runs.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.errors import PlatformError
from mlops_platform.resources.validation.source import ValidationSource
from mlops_platform.resources.validation.suite import ID, Expectation, Outcome, read_suite

if TYPE_CHECKING:
    from mlops_platform.resources.validation.data_docs import Validation

# Great Expectations keeps its project in module state: one validation at a time in a process
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class SuiteResult:
    """The outcomes of a suite, and its page of the Data Docs as a file and a URL; None if it could not be written."""

    outcomes: Sequence[Outcome]
    page: Path | None
    url: str | None

    @property
    def success(self) -> bool:
        """Whether every expectation was evaluated and met."""
        return all(outcome.passed for outcome in self.outcomes)


class ExpectationsEngine(dg.ConfigurableResource):
    """Runs suites and keeps their Data Docs in `docs_dir`, which people reach at `docs_url`."""

    docs_dir: str
    docs_url: str

    def validate_table(
        self,
        suite: str,
        source: ValidationSource,
        table: str,
        *,
        expectations: Sequence[Expectation] | None = None,
        subject: str | None = None,
    ) -> SuiteResult:
        """Evaluate a suite on a table or view; the outcomes are in the order of the suite.

        Args:
            suite: Name of the suite.
            source: Where the table is.
            table: The table or view.
            expectations: Those to evaluate; by default all of the committed suite.
            subject: The folder of the Data Docs page, such as the asset; by default the table.

        Raises:
            PlatformError: The table does not exist, or the validation as a whole failed.
        """
        rules = read_suite(suite) if expectations is None else expectations
        present, full_name = source.columns(table), f"{source.schema}.{table}"
        if not present:
            raise PlatformError(f"Table {full_name} does not exist: materialize {table} first.")
        missing = {rule.name: sorted(set(rule.columns) - present) for rule in rules}
        outcomes = {
            name: Outcome(name, passed=False, error=f"table {full_name} has no column {', '.join(columns)}")
            for name, columns in missing.items()
            if columns
        }
        with _ONE_AT_A_TIME:
            from mlops_platform.resources.validation.data_docs import Validation
            from mlops_platform.resources.validation.suite_runner import evaluate

            runnable = [rule for rule in rules if rule.name not in outcomes]
            results, evaluated = evaluate(suite, runnable, source, table, with_ids=ID in present)
            outcomes |= evaluated
            page = self._write_docs(Validation(subject or table, full_name, suite, rules, outcomes), results)
        url = None if page is None else f"{self.docs_url}/{page.relative_to(self.docs_dir).as_posix()}"
        return SuiteResult([outcomes[rule.name] for rule in rules], page, url)

    def _write_docs(self, validation: "Validation", results: Sequence[Any]) -> Path | None:
        from mlops_platform.resources.validation.data_docs import write_page

        try:
            return write_page(Path(self.docs_dir), validation, results)
        except Exception as error:  # the verdict stands without its page, whatever kept it from being written
            dg.get_dagster_logger().warning(
                f"The Data Docs of {validation.heading} could not be written to {self.docs_dir}: {error!r}"
            )
            return None
