"""Data Docs that can be read without a network: a page for each validation, and an index.

Great Expectations renders its results. Its own pages load their style and scripts from public servers, so the frame
around them is ours (`data_docs.html`, `data_docs.css`): a page is one file that holds all it needs.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import great_expectations as gx
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view.view import DefaultJinjaSectionView
from jinja2 import Environment, FileSystemLoader, Template, pass_context

from mlops_platform.atomic_write import atomic_write
from mlops_platform.resources.validation.suite import Expectation, Outcome

__all__ = ["KEPT_PAGES", "Validation", "write_page"]

KEPT_PAGES = 50
_SHOWN_PAGES = 5
_STAMP = "%Y%m%dT%H%M%S.%f"
_TIME = "%Y-%m-%d %H:%M:%S"
# the file name holds what the index shows of a page, so that no page is opened for it
_PAGE = re.compile(r"(?P<stamp>\d{8}T\d{6}\.\d{6})-(?P<verdict>passed|failed|error)\.html")
_SCRIPTS = re.compile(r"<script\b.*?</script>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Validation:
    """The content of a page; `heading` is the table or asset whose folder it is in, `outcomes` are by rule name."""

    heading: str
    table: str
    suite: str
    rules: Sequence[Expectation]
    outcomes: Mapping[str, Outcome]

    @property
    def verdict(self) -> str:
        """`error` if a rule could not be evaluated, else `failed` if one is not met, else `passed`."""
        if self.errors:
            return "error"
        return "passed" if all(outcome.passed for outcome in self.outcomes.values()) else "failed"

    @property
    def errors(self) -> list[tuple[str, str]]:
        """Description and error of each rule that could not be evaluated."""
        errors = ((rule.description, self.outcomes[rule.name].error) for rule in self.rules)
        return [(description, error) for description, error in errors if error is not None]

    @property
    def summary(self) -> str:
        """The number of rules by outcome."""
        passed = sum(outcome.passed for outcome in self.outcomes.values())
        errors = len(self.errors)
        failed = len(self.outcomes) - passed - errors
        counts = {"met": passed, "not met": failed, "could not be evaluated": errors}
        listed = [f"{count} {name}" for name, count in counts.items() if count or name == "met"]
        return f"{len(self.outcomes)} expectations: {', '.join(listed)}."


def write_page(site: Path, validation: Validation, results: Sequence[Any]) -> Path:
    """Write the page of a validation, with Great Expectations' results, and rewrite the site's index."""
    now = datetime.now(tz=UTC)
    folder = site / validation.heading
    page = folder / f"{now:{_STAMP}}-{validation.verdict}.html"
    facts = {
        "Table": validation.table,
        "Suite": validation.suite,
        "Validated": f"{now:{_TIME}} UTC",
        "Great Expectations": gx.__version__,
    }
    _write(page, validation=validation, facts=facts, sections=_sections(validation, results))
    for name in _pages(folder)[KEPT_PAGES:]:
        (folder / name).unlink(missing_ok=True)
    folders = {path.name: _links(path) for path in sorted(site.iterdir()) if path.is_dir()}
    listed = {name: links for name, links in folders.items() if links}
    _write(site / "index.html", folders=listed, shown=_SHOWN_PAGES, kept=KEPT_PAGES)
    return page


class _EscapingView(DefaultJinjaSectionView):
    """Great Expectations' view, with the values of its tables escaped: they come from the validated data."""

    @pass_context
    def render_content_block(self, context: Any, content_block: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(content_block, list):
            blocks: Any = [_escaped(block) for block in content_block]
        else:
            blocks = _escaped(content_block)
        return super().render_content_block(context, blocks, *arguments, **options)


def _escaped(block: Any) -> Any:
    rendered_by_template = isinstance(block, dict) and "content_block_type" in block
    return block if block is None or rendered_by_template else html.escape(str(block))


def _sections(validation: Validation, results: Sequence[Any]) -> str:
    """Render the rules that Great Expectations evaluated, one section a column."""
    outcomes = [validation.outcomes[result.expectation_config.meta["check"]] for result in results]
    shown = [
        _with_examples(result, outcome)
        for result, outcome in zip(results, outcomes, strict=True)
        if outcome.error is None
    ]
    if not shown:
        return ""
    suite_result = ExpectationSuiteValidationResult(
        success=all(result.success for result in shown), results=shown, suite_name=validation.suite
    )
    document = ValidationResultsPageRenderer().render(suite_result).to_json_dict()
    view = _EscapingView()
    rendered = (
        view.render({"section": section, "section_loop": {"index": number}})
        for number, section in enumerate(document["sections"][1:], start=1)  # the first is the overview
    )
    return _SCRIPTS.sub("", "\n".join(rendered))


def _with_examples(result: Any, outcome: Outcome) -> ExpectationValidationResult:
    """Return a result that shows whole rows, with long texts cut, in place of values."""
    figures = {key: value for key, value in result.result.items() if key != "partial_unexpected_counts"}
    figures["partial_unexpected_list"] = [
        ", ".join(f"{key}: {'null' if value is None else value}" for key, value in example.items())
        for example in outcome.examples
    ]
    return ExpectationValidationResult(
        success=result.success,
        expectation_config=result.expectation_config,
        result=figures,
        exception_info=result.exception_info,
    )


def _pages(folder: Path) -> list[str]:
    """Return the names of the pages in a folder, the latest first; other files are none of ours."""
    return sorted((path.name for path in folder.iterdir() if _PAGE.fullmatch(path.name)), reverse=True)


def _links(folder: Path) -> list[dict[str, str]]:
    links = []
    for name in _pages(folder):
        stamp, verdict = name.removesuffix(".html").split("-")
        time = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
        links.append({"verdict": verdict, "address": f"{folder.name}/{name}", "time": f"{time:{_TIME}}"})
    return links


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True).get_template("data_docs.html")


def _write(path: Path, **content: Any) -> None:
    with atomic_write(path) as partial:
        partial.write_text(_template().render(content), encoding="utf-8")
