"""A CSV in the warehouse: values kept, damage named, no line lost in silence."""

from __future__ import annotations

import csv
import errno
import io
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_platform.errors import SourceError, WarehouseError
from mlops_platform.resources import csv_loading
from mlops_platform.resources.csv_loading import LoadResult, load_csv
from mlops_platform.settings import PROJECT_ROOT

REAL_DATA = PROJECT_ROOT.parent / "shared" / "data" / "made_with_ml"
PROJECTS = {"id": "BIGINT", "created_on": "TIMESTAMP", "title": "VARCHAR", "description": "VARCHAR"}
TAGS = {"id": "BIGINT", "tag": "VARCHAR"}
HEADER = "id,created_on,title,description\n"
ROWS = "1,2026-01-01,a,b\n2,2026-01-02,c,d\n"
TEXT = st.text(alphabet=st.sampled_from('ab é,"\n\r #\t' + "'\\\u2028"), max_size=10)


class Loader:
    """An empty warehouse in memory and a file to load into it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "in [1]*, 100%.csv"  # a name that read_csv would take for a pattern
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")

    def load(self, content: str | bytes, columns: dict[str, str] = PROJECTS, table: str = "t") -> LoadResult:
        self.path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_csv(self.connection, table, self.path, columns, "the file")

    def rows(self, table: str = "t") -> list[tuple[Any, ...]]:
        return self.connection.execute(f"SELECT * FROM {table}").fetchall()

    def rejects(self, table: str = "t") -> list[tuple[Any, ...]]:
        return self.connection.execute(
            "SELECT line, column_name, reason, text FROM rejects WHERE source_table = ? ORDER BY ALL", [table]
        ).fetchall()


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[Loader]:
    loader = Loader(tmp_path)
    yield loader
    loader.connection.close()


@pytest.fixture(params=["direct", "exact"])
def both(request: pytest.FixtureRequest, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> Loader:
    """The loader, once as it is and once made to split every file with csv_records."""
    if request.param == "exact":
        monkeypatch.setattr(csv_loading, "_read_directly", lambda *_: False)
    return loader


@pytest.fixture
def no_exact_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test whose file is not read by read_csv alone."""

    def refuse(*_: object) -> None:
        raise AssertionError("read_csv did not account for every line")

    monkeypatch.setattr(csv_loading, "_read_exactly", refuse)


# ---- what is accepted


@pytest.mark.usefixtures("no_exact_reader")
@pytest.mark.parametrize("table", ["projects", "tags"])
@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real data is not there")
def test_the_real_data_loads_as_the_csv_module_reads_it(loader: Loader, table: str) -> None:
    content = (REAL_DATA / f"{table}.csv").read_bytes()
    result = loader.load(content, PROJECTS if table == "projects" else TAGS)
    _, *expected = csv.reader(io.StringIO(content.decode(), newline=""))
    assert (result.rows, result.rejected) == (len(expected), 0)
    assert [["" if v is None else str(v) for v in row] for row in loader.rows()] == expected


@pytest.mark.parametrize(
    "content",
    [
        HEADER + ROWS,
        HEADER + ROWS.rstrip("\n"),
        "\ufeff" + HEADER + ROWS,
        (HEADER + ROWS).replace("\n", "\r\n"),
        (HEADER + ROWS).replace("\n", "\r"),
        HEADER + ROWS.replace("\n", "\r\n"),
        "\n" + HEADER + "\n" + ROWS + "\n  \n",
        " ID ,Created_On,TITLE,description\n" + ROWS,
        '"id","created_on","title","description"\n"1","2026-01-01","a","b"\n"2","2026-01-02","c","d"\n',
        "description,extra,title,id,,created_on\nb,x,a,1,,2026-01-01\nd,y,c,2,,2026-01-02\n",
        HEADER + ROWS.replace("\n", ",\n"),
        HEADER + "1.0, 2026-01-01 ,a,b\n +2 ,2026-01-02T00:00Z,c,d\n",
    ],
)
def test_a_file_in_another_dress_gives_the_same_rows(both: Loader, content: str) -> None:
    result = both.load(content)
    assert both.rows() == [(1, datetime(2026, 1, 1), "a", "b"), (2, datetime(2026, 1, 2), "c", "d")]
    assert result.rejected == 0


def test_surplus_columns_are_named(both: Loader) -> None:
    result = both.load("id,why,tag,\n1,x,a,\n", TAGS)
    assert result.ignored_columns == ("why", "(column 4, without a name)")


def test_text_stays_as_it_stands(both: Loader) -> None:
    texts = [
        "NULL",
        "NA",
        "None",
        "nan",
        " a ",
        "#1",
        "a\tb",
        "\\N",
        "'q'",
        'say "x"',
        "l1\nl2\r\nl3\rl4",
        ",",
    ]
    content = io.StringIO()
    csv.writer(content).writerows([["id", "tag"], *enumerate(texts)])
    both.load(content.getvalue(), TAGS)
    assert [tag for _, tag in both.rows()] == texts


def test_an_empty_field_is_null_and_a_quoted_one_an_empty_text(both: Loader) -> None:
    both.load('id,created_on,title,description\n1,,,""\n"","",a,b\n')
    assert both.rows() == [(1, None, None, ""), (None, None, "a", "b")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", datetime(2026, 1, 31)),
        ("2026-01-31 12:30:15", datetime(2026, 1, 31, 12, 30, 15)),
        ("2026-01-31T12:30:15Z", datetime(2026, 1, 31, 12, 30, 15)),
        ("2026-01-31T12:30:15.123456789", datetime(2026, 1, 31, 12, 30, 15, 123456)),
        ("2026-01-31T12:30:15+02:00", datetime(2026, 1, 31, 10, 30, 15)),
        ("2026-01-31 12:30:15.5-0530", datetime(2026, 1, 31, 18, 0, 15, 500000)),
        ("2026-01-31 12:30:15 UTC", datetime(2026, 1, 31, 12, 30, 15)),
    ],
)
@pytest.mark.usefixtures("no_exact_reader")
def test_times_in_iso_8601_become_utc(loader: Loader, text: str, expected: datetime) -> None:
    loader.load(HEADER + f"1,{text},a,b\n")
    assert loader.rows() == [(1, expected, "a", "b")]


def test_a_field_of_a_million_characters_loads(both: Loader) -> None:
    text = 'x"\n,' * 250_000
    content = io.StringIO()
    csv.writer(content).writerows([["id", "tag"], [1, text], [2, "b"]])
    assert both.load(content.getvalue(), TAGS).rejected == 0
    assert both.rows() == [(1, text), (2, "b")]


# ---- what is rejected


@pytest.mark.parametrize("text", ["x", "1.5", "0x10", "1e3", "1_000", "9223372036854775808", "NULL", "#1", "\u0661"])
def test_an_id_that_is_not_a_bigint_is_rejected(both: Loader, text: str) -> None:
    assert both.load(f"id,tag\n0,z\n{text},a\n", TAGS).rejected == 1
    assert both.rejects() == [(3, "id", f'"{text}" is not a whole number that fits BIGINT', f"{text},a")]
    assert both.rows() == [(0, "z")]


@pytest.mark.parametrize(
    "text",
    ["02/20/2026", "2026-02-30", "2026-01-01 25:00", "infinity", "epoch", "1582180998", "20260101", "soon"],
)
def test_a_time_that_is_not_iso_8601_is_rejected(both: Loader, text: str) -> None:
    assert both.load(HEADER + ROWS + f"3,{text},a,b\n").rejected == 1
    ((line, column, reason, raw),) = both.rejects()
    assert (line, column, raw) == (4, "created_on", f"3,{text},a,b")
    assert reason.startswith(f'"{text}" is not an ISO 8601 time')


def test_a_row_with_two_bad_values_is_one_line_with_two_reasons(both: Loader) -> None:
    result = both.load(HEADER + ROWS + 'x,y,a,"b\nc"\n')
    assert (result.rows, result.rejected) == (2, 1)
    assert [(line, column) for line, column, *_ in both.rejects()] == [(4, "created_on"), (4, "id")]


@pytest.mark.parametrize(
    ("damaged", "loaded", "lines"),
    [
        ("3,2026-01-03,x\n", [1, 2], [4]),
        ("3,2026-01-03,x,y,z\n", [1, 2], [4]),
        ('3,2026-01-03,x,"y\n4,2026-01-04,x,y\n', [1, 2, 4], [4]),
        ('3,2026-01-03,x,"y\n4,2026-01-04,x,"y"\n', [1, 2, 4], [4]),
        ('3,2026-01-03,x,"y"z"\n4,2026-01-04,x,y\n', [1, 2, 4], [4]),
        ('3,2026-01-03,"x,y\n4,2026-01-04,x,y\n5,2026-01-05,"x",y\n', [1, 2, 4, 5], [4]),
        ('3,2026-01-03,x,"y\n4,2026-01-04,x,"\n5,2026-01-05,x,y\n', [1, 2, 5], [4, 5]),
        # read_csv loses the rest of the file behind each of these, without an entry in its reject tables
        ('3,2026-01-03,x"y,z\n4,2026-01-04,x,"y\n5,2026-01-05,x,y\n', [1, 2, 3, 5], [5]),
        ('"\n4,2026-01-04,x,y\n', [1, 2, 4], [4]),
        ('3,2026-01-03,x,"', [1, 2], [4]),
        # and takes the quotes out of this one
        ('3,2026-01-03,x,"y" "z"\n4,2026-01-04,x,y\n', [1, 2, 4], [4]),
    ],
)
def test_damage_costs_no_more_than_it_must(loader: Loader, damaged: str, loaded: list[int], lines: list[int]) -> None:
    result = loader.load(HEADER + ROWS + damaged)
    assert [row[0] for row in loader.rows()] == loaded
    assert [line for line, *_ in loader.rejects()] == lines
    assert (result.rows, result.rejected) == (len(loaded), len(lines))


def test_a_reject_names_the_source_and_keeps_a_piece_of_the_text(loader: Loader) -> None:
    loader.load("id,tag\n1,a\nx," + "y" * 10_000 + "\n", TAGS)
    ((table, file, text),) = loader.connection.execute("SELECT source_table, file, text FROM rejects").fetchall()
    assert (table, file, text[:4], len(text)) == ("t", "the file", "x,yy", 500)


def test_a_broken_quote_weighs_as_many_lines_as_it_takes(loader: Loader) -> None:
    rows = "".join(f"{number},a\n" for number in range(2, 52))
    result = loader.load('id,tag\n0,z\n1,"\n' + rows + '52,"\n53,b\n', TAGS)
    assert (result.rows, result.rejected) == (2, 52)


# ---- all or nothing


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("id,tag\n", "the file has a header and no rows; the table keeps its old content."),
        ("id,tag\n\n \n", "the file has a header and no rows"),
        (
            "id,tag\nx,a\ny,b\n",
            'the file has no row that can be read (2 lines rejected; line 2: "x" is not a',
        ),
        ("id,label\n1,a\n", "the file has no column 'tag'"),
        ("id;tag\n1;a\n", "the file is separated by semicolons"),
        ("id,tag\n1,\u00e9\n".encode("latin-1"), "the file is not encoded in UTF-8"),
        ("", "the file is empty"),
    ],
)
def test_a_refused_file_leaves_table_and_rejects(loader: Loader, content: str | bytes, sentence: str) -> None:
    loader.load("id,tag\n1,old\nx,bad\n", TAGS)
    before = loader.rows(), loader.rejects()
    with pytest.raises(SourceError) as caught:
        loader.load(content, TAGS)
    assert str(caught.value).startswith(sentence)
    assert (loader.rows(), loader.rejects()) == before


def test_an_error_inside_the_transaction_leaves_table_and_rejects(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.load("id,tag\n1,old\nx,bad\n", TAGS)
    before = loader.rows(), loader.rejects()

    def fail(*_: object) -> str:
        raise RuntimeError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(csv_loading, "table_version", fail)
        with pytest.raises(RuntimeError, match="disk full"):
            loader.load("id,tag\n2,new\n", TAGS)
    assert (loader.rows(), loader.rejects()) == before
    assert loader.load("id,tag\n2,new\n", TAGS).rows == 1


def test_a_file_that_changes_while_it_is_read_is_refused(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    read = csv_loading._read_directly

    def grow(*arguments: Any) -> int:
        with loader.path.open("a") as handle:
            handle.write("3,late\n")
        return read(*arguments)

    monkeypatch.setattr(csv_loading, "_read_directly", grow)
    with pytest.raises(SourceError, match="changed while it was being read"):
        loader.load("id,tag\n1,a\n", TAGS)


def test_a_full_disk_is_said_plainly(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    loader.load("id,tag\n1,old\n", TAGS)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(csv_loading, "_write_record", full)
    with pytest.raises(WarehouseError, match=r"No space left on device.*set TMPDIR"):
        loader.load("id,tag\n2,new\nx,bad\n", TAGS)
    assert loader.rows() == [(1, "old")]


def test_a_load_replaces_its_own_rejects_only(loader: Loader) -> None:
    loader.load("id,tag\n1,a\nx,b\n", TAGS, table="one")
    loader.load("id,tag\n1,a\ny,b\n", TAGS, table="two")
    loader.load("id,tag\n1,a\n", TAGS, table="one")
    assert (loader.rejects("one"), len(loader.rejects("two"))) == ([], 1)


def test_tables_of_an_older_shape_are_replaced(loader: Loader) -> None:
    loader.connection.execute("CREATE TABLE t (id VARCHAR); CREATE TABLE rejects (file VARCHAR, line INTEGER)")
    assert loader.load("id,tag\n1,a\nx,b\n", TAGS).rejected == 1
    assert loader.rows() == [(1, "a")]
    assert len(loader.rejects()) == 1


def test_the_same_content_has_the_same_version(loader: Loader) -> None:
    first = loader.load("id,tag\n1,a\n2,b\n", TAGS)
    second = loader.load('tag,id\r\n"b",2\r\n"a",1\r\n', TAGS)
    third = loader.load("id,tag\n1,a\n2,c\n", TAGS)
    assert first.version == second.version != third.version
    assert first.fingerprint != second.fingerprint


# ---- never a silent loss


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[tuple[int, str, str]], list[int]]:
    """A file, its rows (id, title, description), and the physical line on which each row starts."""
    texts = draw(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    quote_all = draw(st.booleans())
    if not quote_all and end == "\n":  # the csv module forgets to quote a CR here
        texts = [(title.replace("\r", ""), text.replace("\r", "")) for title, text in texts]
    content = io.StringIO()
    starts: list[int] = []
    writer = csv.writer(content, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL, lineterminator=end)
    writer.writerow(PROJECTS)
    rows = [(number, title, text) for number, (title, text) in enumerate(texts, start=1)]
    for number, title, text in rows:
        starts.append(1 + breaks(content.getvalue()))
        writer.writerow([number, "2026-01-01", title, text])
    return content.getvalue(), rows, starts


def breaks(text: str) -> int:
    return len(re.findall(r"\r\n|\r|\n", text))


def loaded_texts(loader: Loader) -> list[tuple[int, str, str]]:
    # the csv module writes None and "" alike
    return [(number, title or "", text or "") for number, _, title, text in loader.rows()]


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(file=files())
@FUZZ
def test_what_the_csv_module_writes_is_loaded_value_for_value(
    both: Loader, file: tuple[str, list[tuple[int, str, str]], list[int]]
) -> None:
    content, rows, _ = file
    result = both.load(content)
    assert loaded_texts(both) == rows
    assert result.rejected == 0


@given(
    file=files(),
    place=st.floats(0, 1),
    piece=st.sampled_from(["", '"', ",", "\n", '"\n', " "]),
    cut=st.booleans(),
)
@FUZZ
def test_every_line_of_a_damaged_file_is_loaded_or_rejected(
    loader: Loader,
    file: tuple[str, list[tuple[int, str, str]], list[int]],
    place: float,
    piece: str,
    cut: bool,
) -> None:
    content, rows, starts = file
    behind_header = content.index("\n") + 1
    position = behind_header + int(place * (len(content) - behind_header - 1))
    damaged = content[:position] + piece + content[position + cut :]
    try:
        loader.load(damaged)
    except SourceError:
        return  # refused as a whole, with a sentence
    loaded, rejects = loader.rows(), loader.rejects()
    lost_lines = {line for line, *_ in rejects}

    # every physical line is in a row, in a reject, or blank
    spans = sum(1 + sum(breaks(value) for value in row if isinstance(value, str)) for row in loaded)
    spans += len(lost_lines) + sum(breaks(text) for text in {line: text for line, *_, text in rejects}.values())
    lines = breaks(damaged) + (damaged[-1] not in "\r\n")
    blank = sum(not line.strip() for line in re.split(r"\r\n|\r|\n", damaged))
    assert 0 <= lines - 1 - spans <= blank

    # rows before the damage are untouched, and a row behind it is loaded or its first line is rejected
    hit = 1 + breaks(content[:position])
    shift = breaks(damaged) - breaks(content)
    values = set(loaded_texts(loader))
    for row, start, end in zip(rows, starts, [*starts[1:], 1 << 30], strict=True):
        if end <= hit:
            assert row in values
        elif start > hit:
            assert row in values or start + shift in lost_lines
