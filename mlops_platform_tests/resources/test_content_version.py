"""The content version of a table."""

from __future__ import annotations

import hashlib

import duckdb
import pytest

from mlops_platform.resources import content_version as module
from mlops_platform.resources.content_version import LARGE_ROWS, digested_by, table_version


@pytest.fixture(autouse=True, params=["small", "large"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of digesting, on tables of a few rows."""
    if request.param == "large":
        monkeypatch.setattr(module, "LARGE_ROWS", 0)


def version(values: str, columns: str = "id BIGINT, name VARCHAR", insert: str = "") -> str:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t ({columns})")
        if values:
            connection.execute(f"INSERT INTO t {insert} VALUES {values}")
        return table_version(connection, "t")


def test_a_small_one_is_the_same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE_ROWS", LARGE_ROWS)
    # worked out by hand, from nothing but MD5 and SHA-256
    digests = [hashlib.md5(row, usedforsecurity=False).hexdigest() for row in (b"1:1;2:\xc3\xa9;", b"1:2;-;")]
    sums = [sum(int(digest[part], 16) for digest in digests) for part in (slice(0, 15), slice(15, 30))]
    content = f"[('id', 'BIGINT'), ('name', 'VARCHAR')]|2|{sums[0]}|{sums[1]}"
    assert version("(1, 'é'), (2, NULL)") == hashlib.sha256(content.encode()).hexdigest()[:32]


def test_does_not_depend_on_the_order_of_rows_or_columns() -> None:
    expected = version("(1, 'a'), (2, 'b')")
    assert version("(2, 'b'), (1, 'a')") == expected
    assert version("('a', 1), ('b', 2)", "name VARCHAR, id BIGINT") == expected


@pytest.mark.parametrize(
    "values",
    [
        "(1, 'a')",
        "(1, 'a'), (2, 'b'), (2, 'b')",
        "(1, 'a'), (2, 'b'), (2, 'b'), (2, 'b')",
        "(1, 'b'), (2, 'a')",
        "(1, 'a'), (2, NULL)",
        "(1, 'a'), (2, '')",
        "(1, 'a'), (2, '-')",
        "(1, 'a'), (NULL, 'b')",
        "",
    ],
)
def test_sees_a_difference(values: str) -> None:
    assert version(values) != version("(1, 'a'), (2, 'b')")


def test_fields_do_not_run_into_each_other() -> None:
    columns = "a VARCHAR, b VARCHAR"
    assert version("('x;1:', 'y')", columns) != version("('x', '1:;y')", columns)
    assert version("(NULL, '-')", columns) != version("('-', NULL)", columns)


def test_a_column_may_have_any_name() -> None:
    names = ("digest", "part", "high", "low")
    columns = ", ".join(f"{name} BIGINT" for name in names)
    assert len({version(values, columns) for values in ("(1, 2, 3, 4)", "(2, 2, 3, 4)", "(1, 2, 3, 5)")}) == 3


def test_sees_a_microsecond_and_a_type() -> None:
    one, two = "('2026-01-01 00:00:00.000001')", "('2026-01-01 00:00:00.000002')"
    assert version(one, "at_ TIMESTAMP") != version(two, "at_ TIMESTAMP")
    assert version("(1)", "n BIGINT") != version("(1)", "n INTEGER")


def test_values_that_are_equal_and_written_otherwise_are_digested_as_they_are_written() -> None:
    assert digested_by([("x", "DOUBLE")], LARGE_ROWS) == "md5"
    assert version("('0.0')", "x DOUBLE") != version("('-0.0')", "x DOUBLE")


def test_rows_that_swap_a_field_or_cancel_out_show_in_a_large_table() -> None:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT i AS id, 'text ' || i AS name FROM range({LARGE_ROWS}) AS r(i)")
        seen = [table_version(connection, "t")]
        for change in (
            "UPDATE t SET name = CASE id WHEN 7 THEN 'text 8' ELSE 'text 7' END WHERE id IN (7, 8)",
            "UPDATE t SET id = id + 1 WHERE id = 50",
            "UPDATE t SET name = NULL WHERE id = 3",
            "UPDATE t SET name = '' WHERE id = 3",
            "INSERT INTO t FROM t",
        ):
            connection.execute(change)
            seen.append(table_version(connection, "t"))
        assert len(set(seen)) == len(seen)
        connection.execute("CREATE TABLE other AS SELECT name, id FROM t ORDER BY hash(id)")
        assert table_version(connection, "other") == seen[-1]
