"""Data Docs that can be read without a network: Great Expectations renders, and nothing is fetched.

Its pages take their style and their scripts from public servers. Here those references give way to one style sheet
that lies beside the pages. Each page is a file of its own; the index lists what is there.
"""

from __future__ import annotations

import html
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

KEPT_PAGES = 50
STYLE = "style.css"
_SCRIPTS = re.compile(r"<script\b.*?</script>", re.DOTALL | re.IGNORECASE)
_REFERENCES = re.compile(r"<(?:link|img|iframe|source)\b[^>]*>", re.IGNORECASE)
_REMOTE_STYLES = re.compile(r"url\(\s*['\"]?(?:https?:)?//[^)]*\)", re.IGNORECASE)
_FOOTER = re.compile(r"<footer\b.*?</footer>", re.DOTALL | re.IGNORECASE)


def write_page(site: Path, suite: str, result: Any) -> Path:
    """Write the page of a validation, and the index anew.

    Args:
        site: Folder of the site.
        suite: Name of the suite.
        result: Great Expectations' suite validation result.

    Returns:
        The page.

    Raises:
        OSError: The folder can't be written.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    document = ValidationResultsPageRenderer().render(result)
    page = site / suite / f"{datetime.now(tz=UTC):%Y%m%dT%H%M%S.%f}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    _replace(site / STYLE, Path(__file__).with_suffix(".css").read_text(encoding="utf-8"))
    _replace(page, self_contained(DefaultJinjaPageView().render(document), f"../{STYLE}", result.success))
    _prune(page.parent)
    _replace(site / "index.html", _index(site))
    return page


def self_contained(page: str, style: str, success: bool | None = None) -> str:
    """Take out of a rendered page what it would fetch.

    Args:
        page: HTML.
        style: Address of the style sheet, relative to the page.
        success: The verdict, which the index reads again.

    Returns:
        HTML that needs nothing but the style sheet.
    """
    for pattern in (_SCRIPTS, _REFERENCES, _FOOTER):
        page = pattern.sub("", page)
    page = _REMOTE_STYLES.sub("none", page)
    verdict = "" if success is None else f'<meta name="verdict" content="{"passed" if success else "failed"}">'
    head = f'<link rel="stylesheet" href="{style}">{verdict}</head>'
    return page.replace("</head>", head, 1)


def _index(site: Path) -> str:
    sections = []
    for suite in sorted(path for path in site.iterdir() if path.is_dir()):
        rows = []
        for page in sorted(suite.glob("*.html"), reverse=True):
            with page.open(encoding="utf-8") as file:
                passed = '<meta name="verdict" content="passed">' in file.read()
            when = datetime.strptime(page.stem, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
            verdict = '<span class="pass">passed</span>' if passed else '<span class="fail">failed</span>'
            link = f"{html.escape(suite.name)}/{page.name}"
            rows.append(f'<tr><td><a href="{link}">{when:%Y-%m-%d %H:%M:%S} UTC</a></td><td>{verdict}</td></tr>')
        if rows:
            sections.append(f"<h2>{html.escape(suite.name)}</h2>\n<table class='table'>{''.join(rows)}</table>")
    body = "\n".join(sections) or "<p>No validation yet.</p>"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Data Docs</title>'
        f'<link rel="stylesheet" href="{STYLE}"></head>\n<body><div class="container">'
        f"<h1>Data Docs</h1><p>The latest {KEPT_PAGES} validations of each suite by Great Expectations.</p>\n"
        f"{body}</div></body></html>\n"
    )


def _prune(folder: Path) -> None:
    for old in sorted(folder.glob("*.html"))[:-KEPT_PAGES]:
        old.unlink(missing_ok=True)


def _replace(path: Path, content: str) -> None:
    """Write beside the file and rename: a page is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)
