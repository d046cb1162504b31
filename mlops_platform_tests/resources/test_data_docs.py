"""Data Docs: readable by themselves, safe to open, and small."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pytest

from mlops_platform.resources.validation.resource import ExpectationsEngine, SuiteResult
from mlops_platform.resources.warehouse.duckdb_validation import DuckDBSource
from mlops_platform_tests.checks.corruptions import TABLES

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> ${price} $id"


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def links(self) -> list[str]:
        return [str(attrs["href"]) for tag, attrs in self.tags if tag == "a"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "docs"


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def _validate(
    site: Path,
    connection: duckdb.DuckDBPyConnection,
    suite: str,
    change: str = "select 1",
    subject: str | None = None,
) -> SuiteResult:
    connection.execute(f"create or replace table {suite} as {TABLES[suite]}")
    connection.execute(change)
    engine = ExpectationsEngine(docs_dir=str(site), docs_url="http://127.0.0.1:3080")
    return engine.validate_table(suite, DuckDBSource(connection, "main"), suite, subject=subject)


def _pages(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.html"))


def _old(folder: Path, count: int, verdict: str = "passed") -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        when = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=number)
        (folder / f"{when:%Y%m%dT%H%M%S.%f}-{verdict}.html").write_text("<p>x</p>" * 4000)


def test_pages_need_nothing_but_themselves(site: Path, connection: duckdb.DuckDBPyConnection) -> None:
    good = _validate(site, connection, "labeled_projects")
    bad = _validate(site, connection, "labeled_projects", "update labeled_projects set title = null, tag = 'x'")
    worse = _validate(site, connection, "labeled_projects", "alter table labeled_projects drop tag")
    for path in (good.page, bad.page, worse.page, site / "index.html"):
        assert path is not None
        page = Page(path)
        found = {tag for tag, _ in page.tags}
        assert not found & {"script", "link", "img", "iframe", "object", "embed", "button", "input", "form"}
        assert not re.search(r"url\(|@import|https?:|src=", page.html)
        assert not [a for _, attrs in page.tags for a in attrs if a.startswith(("on", "data-remote"))]
        assert "default-src 'none'" in page.html
        assert all((path.parent / link).is_file() for link in page.links)
    assert not [path for path in site.rglob("*") if path.is_file() and path.suffix != ".html"]


def test_a_page_says_the_verdict_the_rules_and_the_offending_rows(
    site: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    good = _validate(site, connection, "tags").page
    assert good is not None
    assert "6 expectations: 6 met." in Page(good).text
    assert "Each tag is one of the four classes." in Page(good).text
    bad = _validate(site, connection, "tags", "update tags set tag = 'robotics' where id in (4, 5)").page
    assert bad is not None
    text = Page(bad).text
    assert "6 expectations: 5 met, 1 not met." in text
    assert "id: 4, tag: robotics" in text
    assert "2 unexpected values found" in text
    assert Page(bad).html.count("fa-times") - Page(good).html.count("fa-times") == 1


def test_a_page_tells_what_could_not_be_evaluated(site: Path, connection: duckdb.DuckDBPyConnection) -> None:
    some = _validate(site, connection, "tags", "alter table tags drop tag").page
    assert some is not None
    assert some.name.endswith("-error.html")
    assert "6 expectations: 3 met, 3 could not be evaluated." in Page(some).text
    assert Page(some).text.count("table main.tags has no column tag") == 3
    none = _validate(site, connection, "tags", "create or replace table tags as select 1 as other").page
    assert none is not None
    assert "1 met, 5 could not be evaluated" in Page(none).text


def test_texts_of_the_table_are_shown_and_never_run(site: Path, connection: duckdb.DuckDBPyConnection) -> None:
    change = "update projects set created_on = null, title = ?, description = 'd' where id < 3"
    connection.execute(f"create table projects as {TABLES['projects']}")
    connection.execute(change, [HOSTILE])
    connection.execute(f"create table tags as {TABLES['tags']}")
    connection.execute("update tags set tag = ? where id = 1", [HOSTILE])
    engine = ExpectationsEngine(docs_dir=str(site), docs_url="")
    for suite in ("projects", "tags"):
        page = engine.validate_table(suite, DuckDBSource(connection, "main"), suite).page
        assert page is not None
        assert HOSTILE in Page(page).text
        assert {"script", "img"}.isdisjoint(tag for tag, _ in Page(page).tags)


def test_the_index_lists_pages_by_subject_the_latest_first(site: Path, connection: duckdb.DuckDBPyConnection) -> None:
    first = _validate(site, connection, "labeled_projects")
    second = _validate(site, connection, "labeled_projects", "delete from labeled_projects")
    third = _validate(site, connection, "labeled_projects", subject="validated_dataset")
    index = Page(site / "index.html")
    assert index.links == [
        each.page.relative_to(site).as_posix() for each in (second, first, third) if each.page is not None
    ]
    assert index.text.index("labeled_projects") < index.text.index("validated_dataset")
    assert index.text.count("✔ passed") == 2
    assert index.text.count("✘ failed") == 1


def test_fifty_pages_are_kept(site: Path, connection: duckdb.DuckDBPyConnection) -> None:
    _old(site / "tags", 60)
    latest = _validate(site, connection, "tags").page
    kept = _pages(site / "tags")
    assert len(kept) == 50
    assert kept[-1] == latest
    assert kept[0].name.startswith("20200101T11")
    assert len(Page(site / "index.html").links) == 50


def test_other_files_are_left_alone_and_not_listed(site: Path, connection: duckdb.DuckDBPyConnection) -> None:
    (site / "tags").mkdir(parents=True)
    others = [site / "tags" / ".page.html.1.partial", site / "tags" / "notes.html", site / "stray.txt"]
    for path in others:
        path.write_text("<html><bo")
    result = _validate(site, connection, "tags")
    assert result.page is not None
    assert all(path.exists() for path in others)
    assert Page(site / "index.html").links == [result.page.relative_to(site).as_posix()]


def test_a_full_site_does_not_slow_the_next_page(site: Path) -> None:
    from mlops_platform.resources.validation import data_docs

    for table in ("projects", "tags", "labeled_projects", "validated_dataset"):
        _old(site / table, 50, "failed")
    validation = data_docs.Validation("tags", "main.tags", "tags", [], {})
    data_docs.write_page(site, validation, [])
    spent = []
    for _ in range(5):
        started = time.process_time()
        data_docs.write_page(site, validation, [])
        spent.append(time.process_time() - started)
    assert min(spent) < 0.02
