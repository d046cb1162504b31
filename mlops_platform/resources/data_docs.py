"""Data Docs that can be read without a network: a page a validation, and an index.

Great Expectations renders what it found; its own pages take their style and scripts from public servers, so the
frame around it is ours. A page is one file that holds all it needs and forbids the browser to fetch or run anything.
"""

from __future__ import annotations

import html
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import great_expectations as gx
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view.view import DefaultJinjaSectionView
from jinja2 import pass_context

from mlops_platform.resources.suites import Expectation, Outcome

KEPT_PAGES = 50
_SHOWN_PAGES = 5
_LEFTOVER_SECONDS = 600.0
# the name of a page says what the index tells of it: nothing need be opened for that
_PAGE = re.compile(r"(?P<when>\d{8}T\d{6}\.\d{6})-(?P<verdict>passed|failed|error)\.html")
_ICONS = {"passed": "✔", "failed": "✘", "error": "⚠"}
_SCRIPTS = re.compile(r"<script\b.*?</script>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Validation:
    """What a page is about.

    Attributes:
        heading: What it is filed under: a table or an asset.
        table: Where the rows were.
        suite: Name of the suite.
        rules: The expectations that were asked for.
        outcomes: What became of each, by name.
    """

    heading: str
    table: str
    suite: str
    rules: Sequence[Expectation]
    outcomes: Mapping[str, Outcome]

    @property
    def verdict(self) -> str:
        """`error` if a rule could not be evaluated, else `failed` if one is not met, else `passed`."""
        if any(each.error is not None for each in self.outcomes.values()):
            return "error"
        return "passed" if all(each.passed for each in self.outcomes.values()) else "failed"


def write_page(site: Path, validation: Validation, result: Any) -> Path:
    """Write the page of a validation, and the index anew.

    Args:
        site: Folder of the site.
        validation: What was validated.
        result: Great Expectations' suite validation result, or None if it evaluated nothing.

    Returns:
        The page.

    Raises:
        OSError: The folder can't be written.
    """
    now = datetime.now(tz=UTC)
    folder = site / validation.heading
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{now:%Y%m%dT%H%M%S.%f}-{validation.verdict}.html"
    _replace(page, _page(validation, result, now))
    _tidy(folder)
    _tidy(site)
    _replace(site / "index.html", _index(site))
    return page


class _EscapingView(DefaultJinjaSectionView):
    """Great Expectations' view, which leaves values from the table in its tables as they are: here they are text."""

    @pass_context
    def render_content_block(self, context: Any, content_block: Any, *arguments: Any, **options: Any) -> Any:
        def safe(block: Any) -> Any:
            if block is None or (isinstance(block, dict) and "content_block_type" in block):
                return block
            return html.escape(str(block))

        escaped = [safe(block) for block in content_block] if isinstance(content_block, list) else safe(content_block)
        return super().render_content_block(context, escaped, *arguments, **options)


def _page(validation: Validation, result: Any, now: datetime) -> str:
    outcomes = validation.outcomes.values()
    passed, failed = (
        sum(each.error is None and each.passed is verdict for each in outcomes) for verdict in (True, False)
    )
    errors = len(outcomes) - passed - failed
    counts = [f"{passed} met", *([f"{failed} not met"] if failed else [])]
    counts += [f"{errors} could not be evaluated"] if errors else []
    facts = {
        "Table": validation.table,
        "Suite": validation.suite,
        "Validated": f"{now:%Y-%m-%d %H:%M:%S} UTC",
        "Great Expectations": gx.__version__,
    }
    listed = "".join(f"<div><dt>{key}</dt><dd>{html.escape(value)}</dd></div>" for key, value in facts.items())
    heading = html.escape(validation.heading)
    return _document(
        f"{validation.heading} {validation.verdict}",
        f'<nav><a href="../index.html">Data Docs</a> / {heading}</nav>\n'
        f"<h1>{heading} {_badge(validation.verdict)}</h1>\n"
        f"<p>{len(outcomes)} expectations: {', '.join(counts)}.</p>\n<dl>{listed}</dl>\n"
        f"{_not_evaluated(validation)}{_sections(validation, result)}",
    )


def _not_evaluated(validation: Validation) -> str:
    rows = [
        f"<tr><td>{html.escape(rule.description)}</td>"
        f"<td>{html.escape(validation.outcomes[rule.name].error or '')}</td></tr>"
        for rule in validation.rules
        if validation.outcomes[rule.name].error is not None
    ]
    if not rows:
        return ""
    head = "<thead><tr><th>Expectation</th><th>Why it could not be evaluated</th></tr></thead>"
    return f'<h5>Not evaluated</h5>\n<table class="table errors">{head}<tbody>{"".join(rows)}</tbody></table>\n'


def _sections(validation: Validation, result: Any) -> str:
    """Let Great Expectations render the rules that it evaluated: one section a column."""
    if result is None:
        return ""
    shown = deepcopy(result)
    shown.results = [each for each in shown.results if _outcome(each, validation).error is None]
    for each in shown.results:
        # whole rows with their ids instead of bare values, and never more text than is read
        each.result.pop("partial_unexpected_counts", None)
        each.result["partial_unexpected_list"] = [
            ", ".join(f"{key}: {'null' if value is None else value}" for key, value in example.items())
            for example in _outcome(each, validation).examples
        ]
    view = _EscapingView()
    document = ValidationResultsPageRenderer().render(shown).to_json_dict()
    rendered = (
        view.render({"section": section, "section_loop": {"index": number}})
        for number, section in enumerate(document["sections"][1:], start=1)  # the first is the overview
    )
    return _SCRIPTS.sub("", "\n".join(rendered))


def _outcome(result: Any, validation: Validation) -> Outcome:
    return validation.outcomes[result.expectation_config.meta["check"]]


def _index(site: Path) -> str:
    sections = []
    for folder in sorted(path for path in site.iterdir() if path.is_dir()):
        lines = []
        for page in reversed(_pages(folder)):
            told = _PAGE.fullmatch(page)
            assert told is not None  # noqa: S101  _pages lists no others
            when = datetime.strptime(told["when"], "%Y%m%dT%H%M%S.%f")
            link = html.escape(f"{folder.name}/{page}")
            lines.append(f'<li>{_badge(told["verdict"])} <a href="{link}">{when:%Y-%m-%d %H:%M:%S} UTC</a></li>')
        if lines:
            shown, rest = lines[:_SHOWN_PAGES], lines[_SHOWN_PAGES:]
            more = f"<details><summary>{len(rest)} more</summary><ul>{''.join(rest)}</ul></details>"
            sections.append(
                f"<section><h2>{html.escape(folder.name)}</h2>\n"
                f"<ul>{''.join(shown)}</ul>{more if rest else ''}</section>"
            )
    return _document(
        "Data Docs",
        "<h1>Data Docs</h1>\n"
        f"<p>Validations by Great Expectations, the latest first; {KEPT_PAGES} of each table are kept.</p>\n"
        f'<div class="tables">{"".join(sections)}</div>',
    )


def _badge(verdict: str) -> str:
    return f'<span class="badge {verdict}">{_ICONS[verdict]} {verdict}</span>'


def _document(title: str, body: str) -> str:
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _pages(folder: Path) -> list[str]:
    """Names of the pages in a folder, the oldest first; whatever else is there is none of ours."""
    return sorted(path.name for path in folder.iterdir() if _PAGE.fullmatch(path.name))


def _tidy(folder: Path) -> None:
    """Remove what is too old to keep, and what a run that was killed left half-written."""
    for name in _pages(folder)[:-KEPT_PAGES]:
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob(".*.tmp"):
        try:
            abandoned = time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS
        except FileNotFoundError:  # its writer has just finished
            continue
        if abandoned:
            path.unlink(missing_ok=True)


def _replace(path: Path, content: str) -> None:
    """Write beside the file and rename: a page is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)
