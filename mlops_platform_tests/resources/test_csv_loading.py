"""A CSV in the warehouse: values kept, damage named."""

from __future__ import annotations

import csv
import io
from datetime import datetime

import pytest

from mlops_platform.settings import PROJECT_ROOT
from mlops_platform_tests.resources.csv_loader import HEADER, PROJECTS, ROWS, TAGS, Loader

REAL_DATA = PROJECT_ROOT.parent / "shared" / "data" / "made_with_ml"


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
