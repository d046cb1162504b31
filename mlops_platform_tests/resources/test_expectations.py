"""The engine that runs suites: what it tells, what it leaves alone, and that it bears company."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mlops_platform.errors import PlatformError
from mlops_platform.resources.validation.resource import ExpectationsEngine, SuiteResult
from mlops_platform.resources.validation.suite import read_suite
from mlops_platform.resources.warehouse.duckdb_validation import DuckDBSource
from mlops_platform_tests.checks.corruptions import ROWS, TABLES


@pytest.fixture
def engine(tmp_path: Path) -> ExpectationsEngine:
    return ExpectationsEngine(docs_dir=str(tmp_path / "docs"), docs_url="http://127.0.0.1:3080")


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def _validate(
    engine: ExpectationsEngine, connection: duckdb.DuckDBPyConnection, suite: str, change: str = "select 1"
) -> SuiteResult:
    connection.execute(f"create or replace table {suite} as {TABLES[suite]}")
    connection.execute(change)
    return engine.validate_table(suite, DuckDBSource(connection, "main"), suite)


def _failed(result: SuiteResult) -> set[str]:
    return {each.name for each in result.outcomes if not each.passed}


def test_outcomes_come_in_the_order_of_the_suite(
    engine: ExpectationsEngine, connection: duckdb.DuckDBPyConnection
) -> None:
    result = _validate(engine, connection, "projects")
    assert [each.name for each in result.outcomes] == [each.name for each in read_suite("projects")]
    assert result.success
    assert result.page is not None
    assert result.page.parent.name == "projects"


def test_an_empty_table_breaks_the_rule_about_rows_alone(
    engine: ExpectationsEngine, connection: duckdb.DuckDBPyConnection
) -> None:
    for suite in TABLES:
        result = _validate(engine, connection, suite, f"delete from {suite}")
        assert _failed(result) == {"table_row_count_to_be_between"}
        assert all(each.error is None for each in result.outcomes)


def test_without_ids_the_offending_values_are_told(
    engine: ExpectationsEngine, connection: duckdb.DuckDBPyConnection
) -> None:
    result = _validate(
        engine, connection, "tags", "update tags set tag = 'robotics' where id < 3; alter table tags drop id"
    )
    outcomes = {each.name: each for each in result.outcomes}
    assert outcomes["tag_to_be_in_set"].examples == [{"tag": "robotics"}] * 2
    assert outcomes["tag_to_not_be_null"].passed
    assert outcomes["id_to_be_unique"].error == "table main.tags has no column id"


def test_a_long_text_is_cut(engine: ExpectationsEngine, connection: duckdb.DuckDBPyConnection) -> None:
    result = _validate(engine, connection, "tags", "update tags set tag = repeat('x', 1000000) where id = 7")
    (broken,) = (each for each in result.outcomes if not each.passed)
    assert broken.examples[0]["id"] == 7
    assert len(broken.examples[0]["tag"]) == 200
    assert result.page is not None
    assert result.page.stat().st_size < 50_000


def test_many_offending_rows_give_few_examples(
    engine: ExpectationsEngine, connection: duckdb.DuckDBPyConnection
) -> None:
    result = _validate(engine, connection, "projects", "update projects set title = 't', description = 'd'")
    (broken,) = (each for each in result.outcomes if not each.passed)
    assert broken.offending_rows == ROWS
    assert [each["id"] for each in broken.examples] == [1, 2, 3, 4, 5]


def test_a_validation_that_breaks_off_is_one_sentence(
    engine: ExpectationsEngine, connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from great_expectations.datasource.fluent import SQLDatasource

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such luck\nand more")

    monkeypatch.setattr(SQLDatasource, "add_table_asset", broken)
    with pytest.raises(PlatformError, match=r"^Great Expectations could not check main\.tags \(no such luck\): "):
        _validate(engine, connection, "tags")


def test_two_threads_get_each_their_own_verdicts(engine: ExpectationsEngine) -> None:
    def work(number: int) -> tuple[set[str], bool]:
        with duckdb.connect() as connection:
            change = "update tags set tag = 'robotics' where id = 1" if number % 2 else "select 1"
            result = _validate(engine, connection, "tags", change)
            return _failed(result), result.page is not None and result.page.is_file()

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(work, range(8)))
    assert told == [(set(), True), ({"tag_to_be_in_set"}, True)] * 4


def test_one_validation_runs_at_a_time(engine: ExpectationsEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlops_platform.resources.validation import suite_runner

    evaluate, inside, most = suite_runner.evaluate, 0, 0

    def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)  # long enough for another to come in
        try:
            return evaluate(*arguments, **options)
        finally:
            inside -= 1

    def work(_: int) -> bool:
        with duckdb.connect() as connection:
            return _validate(engine, connection, "tags").success

    monkeypatch.setattr(suite_runner, "evaluate", watched)
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(work, range(3)))
    assert most == 1


def test_the_connection_stays_open_for_its_owner(
    engine: ExpectationsEngine, connection: duckdb.DuckDBPyConnection
) -> None:
    for _ in range(2):
        _validate(engine, connection, "tags")
        assert connection.execute("select count(*) from tags").fetchall() == [(ROWS,)]


def test_verdicts_stand_where_no_page_can_be_written(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "docs").write_text("a file, no folder")
    engine = ExpectationsEngine(docs_dir=str(tmp_path / "docs"), docs_url="http://127.0.0.1:3080")
    logging.getLogger("dagster").propagate = True
    with caplog.at_level(logging.WARNING):
        result = _validate(engine, connection, "tags", "update tags set tag = null where id = 1")
    assert _failed(result) == {"tag_to_not_be_null"}
    assert (result.page, result.url) == (None, None)
    assert "The Data Docs of tags could not be written" in caplog.text


def test_nothing_is_sent_and_nothing_is_written_elsewhere(
    engine: ExpectationsEngine,
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _validate(engine, connection, "tags")  # what an import writes is not the validation's
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("no network here")

    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    result = _validate(engine, connection, "tags", "update tags set tag = null where id = 1")
    assert _failed(result) == {"tag_to_not_be_null"}
    assert asked == []
    assert os.listdir(elsewhere) == []  # noqa: PTH208
