"""A file that has grown is appended, and the table is that of a whole load; in doubt it is loaded whole."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_platform.errors import SourceError
from mlops_platform.resources import csv_appending, csv_loading, table_records, table_version, untouched
from mlops_platform.resources.csv_loading import LoadResult, load_csv
from mlops_platform.resources.warehouse import DuckDBWarehouse
from mlops_platform_tests.resources.csv_loader import HEADER, PROJECTS, ROWS, Loader

MORE = '3,2026-01-03,e,"f, g"\n4,2026-01-04T12:00:00+02:00,,"two\nlines"\n'


class Grown:
    """A file that a table was loaded from, and what is loaded next."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "projects.csv"
        self.warehouse = DuckDBWarehouse(path=str(folder / "w.duckdb"), append_above_rows=1)
        self.appended: list[bool] = []
        real = csv_appending.append_rows

        def told(*arguments: Any) -> Any:
            record = real(*arguments)
            self.appended.append(record is not None)
            return record

        monkeypatch.setattr(csv_loading, "append_rows", told)

    def load(self, content: str | bytes) -> LoadResult:
        self.path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.warehouse.load_csv("projects", self.path, PROJECTS, "the file")

    def rows(self) -> list[tuple[Any, ...]]:
        return self.warehouse.fetch_rows("select * from projects")

    def same_as_whole(self, result: LoadResult) -> None:
        """The table is as one that the file as it is now was loaded into."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            whole = load_csv(connection, "projects", self.path, PROJECTS, "the file")
            assert self.rows() == connection.execute("from projects").fetchall()
            rejects = "select line, column_name, reason, text from rejects order by all"
            assert self.warehouse.fetch_rows(rejects) == connection.execute(rejects).fetchall()
        assert replace(result, appended=None) == whole
        assert self.warehouse.content_version("projects") == whole.version


@pytest.fixture
def grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grown:
    return Grown(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "more",
    [
        MORE,
        "3,2026-01-03,e,f\n" * 3,
        '3,2026-01-03,"a quoted ""mark""",f\n',
    ],
)
@pytest.mark.parametrize("large", [0, 4, 1000])
def test_new_lines_alone_are_read(grown: Grown, more: str, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_version, "LARGE_ROWS", large)
    grown.load(HEADER + ROWS)
    for many in (1, 3):
        before = len(grown.rows())
        result = grown.load(HEADER + ROWS + more * many)
        grown.same_as_whole(result)
        assert result.appended == result.rows - before > 0
    assert grown.appended == [True, True]


def test_the_same_file_is_not_read_into_the_table_again(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    first = grown.load(HEADER + ROWS)

    def refuse(*_: object, **__: object) -> int:
        raise AssertionError("rows were read")

    monkeypatch.setattr(csv_appending, "read_accounted", refuse)
    monkeypatch.setattr(csv_loading, "read_accounted", refuse)
    assert grown.load(HEADER + ROWS) == replace(first, appended=0)


@pytest.mark.parametrize(
    "then",
    [
        HEADER + ROWS.replace("a,b", "a,B") + MORE,  # an old line has changed
        HEADER + MORE,
        HEADER + ROWS[:-1],  # it has shrunk
        HEADER.replace("title,description", "description,title") + ROWS + MORE,
    ],
)
def test_another_file_is_loaded_whole(grown: Grown, then: str) -> None:
    grown.load(HEADER + ROWS)
    grown.same_as_whole(grown.load(then))
    assert grown.appended == []


@pytest.mark.parametrize(
    "more",
    [
        "x,2026-01-03,e,f\n",  # a value of another type
        "3,2026-01-03,e\n",  # a field is missing
        '3,2026-01-03,"e,f\n4,2026-01-04,g,h\n',  # a quote that is never closed
        "3,2026-01-03,e,f",  # a line that is not at its end yet
        '3,2026-01-03,"e" "x",f\n',
        "\n3,,,\n",  # a blank line
        "3,2026-01-03,e,f\r\n",  # line ends are mixed, which read_csv refuses
    ],
)
def test_new_lines_that_are_not_all_sound_are_accounted_for_as_in_a_whole_load(grown: Grown, more: str) -> None:
    grown.load(HEADER + ROWS)
    grown.same_as_whole(grown.load(HEADER + ROWS + more))
    assert grown.appended == [False]
    grown.same_as_whole(grown.load(HEADER + ROWS + more + "\n5,2026-01-05,i,j\n"))


@pytest.mark.parametrize("first", [HEADER + ROWS[:-1], HEADER + ROWS + "x,,,\n", HEADER + ROWS + '3,,"a" "x",b\n'])
def test_a_first_file_that_is_not_all_whole_sound_lines_is_not_continued(grown: Grown, first: str) -> None:
    grown.load(first)
    grown.same_as_whole(grown.load(first + "\n7,2026-01-07,k,l\n"))
    assert grown.appended == []


CHANGES = [
    "update {} set title = 'z' where id = 1",
    "delete from {} where id = 1",
    "insert into {} values (9, null, null, null)",
    # the same rows in other places
    "create temp table o as from {0} order by id desc; delete from {0}; insert into {0} from o",
    "create or replace table {0} as from {0}",
    "alter table {} add column other int",
    "comment on table {} is 'mine'",
    "comment on table {} is '{{\"load\": 7}}'",
    "drop table {}",
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("by", ["another program", "execute"])
def test_a_table_that_was_changed_is_loaded_whole(grown: Grown, change: str, by: str) -> None:
    grown.load(HEADER + ROWS)
    if by == "execute":
        grown.warehouse.execute(change.format("projects"))
    else:
        with duckdb.connect(grown.warehouse.path) as connection:
            connection.execute(f"use mlops_course; {change.format('projects')}")
    grown.same_as_whole(grown.load(HEADER + ROWS + MORE))
    assert grown.appended == []


def test_a_change_by_a_program_that_was_killed_is_seen(grown: Grown) -> None:
    grown.load(HEADER + ROWS)
    code = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); "
        "c.execute(\"update mlops_course.projects set title = 'z' where id = 1\"); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, grown.warehouse.path]
    assert subprocess.run(command, check=False).returncode == -9
    assert Path(f"{grown.warehouse.path}.wal").exists()
    grown.same_as_whole(grown.load(HEADER + ROWS + MORE))
    assert grown.appended == []


def test_a_table_that_another_program_wrote_beside_it_is_appended_to(grown: Grown) -> None:
    grown.load(HEADER + ROWS)
    with duckdb.connect(grown.warehouse.path) as connection:
        connection.execute("use mlops_course; create table other as select 1")
    grown.same_as_whole(grown.load(HEADER + ROWS + MORE))
    assert grown.appended == [True]
    assert untouched._held == {}


def test_rows_that_were_replaced_are_not_continued(grown: Grown, tmp_path: Path) -> None:
    grown.load(HEADER + ROWS)
    file = tmp_path / "rows.parquet"
    grown.warehouse.export_parquet("from projects order by id desc", file)
    grown.warehouse.replace_rows("projects", file, {})
    grown.same_as_whole(grown.load(HEADER + ROWS + MORE))
    assert grown.appended == []


def test_another_release_of_duckdb_does_not_trust_a_checksum(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    grown.load(HEADER + ROWS)
    monkeypatch.setattr(table_records, "_engine", lambda: "9.9.9")
    grown.same_as_whole(grown.load(HEADER + ROWS + MORE))
    assert grown.appended == []


def test_a_digest_of_an_older_release_is_not_added_to(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    grown.load(HEADER + ROWS)
    monkeypatch.setattr(table_version, "LARGE_ROWS", 2)
    grown.same_as_whole(grown.load(HEADER + ROWS + MORE))
    assert grown.appended == []


def test_below_the_number_of_rows_nothing_is_remembered(grown: Grown) -> None:
    small = DuckDBWarehouse(path=grown.warehouse.path, append_above_rows=3)
    grown.path.write_text(HEADER + ROWS)
    small.load_csv("projects", grown.path, PROJECTS, "the file")
    assert small.fetch_rows("select comment from duckdb_tables() where table_name = 'projects'") == [(None,)]


KILL = """
import os, signal, sys
from pathlib import Path
from mlops_platform.resources import csv_appending
from mlops_platform.resources.warehouse import DuckDBWarehouse
from mlops_platform_tests.resources.csv_loader import PROJECTS

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(csv_appending, sys.argv[3], kill)
DuckDBWarehouse(path=sys.argv[1], append_above_rows=1).load_csv("projects", Path(sys.argv[2]), PROJECTS, "the file")
"""


@pytest.mark.parametrize("before", ["read_accounted", "remember"])
def test_a_load_that_was_killed_is_healed_by_the_next(grown: Grown, before: str) -> None:
    grown.load(HEADER + ROWS)
    grown.path.write_text(HEADER + ROWS + MORE)
    command = [sys.executable, "-c", KILL, grown.warehouse.path, str(grown.path), before]
    assert subprocess.run(command, check=False).returncode == -9
    assert len(grown.rows()) == (2 if before == "read_accounted" else 4)
    grown.same_as_whole(grown.load(HEADER + ROWS + MORE + "5,2026-01-05,i,j\n"))


def test_a_file_that_changes_meanwhile_is_refused_and_the_rows_stay(
    grown: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown.load(HEADER + ROWS)
    real = csv_appending.read_accounted

    def grow(*arguments: Any, **options: Any) -> int:
        with grown.path.open("a") as handle:
            handle.write("9,,late,\n")
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(csv_appending, "read_accounted", grow)
        with pytest.raises(SourceError, match="changed while it was being read"):
            grown.load(HEADER + ROWS + MORE)
    assert len(grown.rows()) == 2
    grown.same_as_whole(grown.load(HEADER + ROWS + MORE))


FIELD = st.one_of(st.text("ab,\"\n é'", max_size=4), st.sampled_from(["", "2026-01-01", "x", "12"]))
LINE = st.one_of(
    st.tuples(st.integers(-5, 5).map(str), st.sampled_from(["2026-01-01", "", "no time"]), FIELD, FIELD),
    st.tuples(FIELD, FIELD, FIELD),
)


def _line(fields: tuple[str, ...], quoted: bool) -> str:
    marked = ['"' + field.replace('"', '""') + '"' if quoted else field for field in fields]
    return ",".join(marked)


ENDS = st.sampled_from(["\n", "\r\n"])
LINES = st.lists(
    st.builds(
        lambda fields, quoted, end: _line(fields, quoted) + end, LINE, st.booleans(), st.sampled_from(["\n", "\r\n"])
    )
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, LINES, LINES)
def test_whatever_lines_come_the_table_is_that_of_a_whole_load(
    loader: Loader, first: list[str], second: list[str], third: list[str]
) -> None:
    with duckdb.connect() as plain, pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_version, "LARGE_ROWS", 4)
        plain.execute("SET TimeZone = 'UTC'")
        content = HEADER + ROWS
        for lines in (first, second, third):
            content += "".join(lines)
            loader.path.write_bytes(content.encode())
            wanted = load_csv(plain, "t", loader.path, PROJECTS, "the file", append_above=10**9)
            found = load_csv(loader.connection, "t", loader.path, PROJECTS, "the file", append_above=1)
            assert replace(found, appended=None) == wanted
            assert loader.rows() == plain.execute("from t").fetchall()
