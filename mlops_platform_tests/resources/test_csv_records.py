"""The exact reader against the csv module, and on damage."""

from __future__ import annotations

import csv
import io
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.resources.csv_ingest.parser import LineSource, Record, Reject, read_header, read_records

ROW_START = re.compile(r"[0-9]+,")
TEXT = st.text(alphabet=st.sampled_from('ab é,"\n\r '), max_size=8)


def split(text: str, width: int = 2, row_start: re.Pattern[str] | None = None) -> list[Record | Reject]:
    return list(read_records(LineSource(io.StringIO(text, newline="")), width, row_start))


def fields(text: str) -> list[list[str | None]]:
    items = split(text)
    assert all(isinstance(item, Record) for item in items), items
    return [item.fields for item in items if isinstance(item, Record)]


@given(rows=st.lists(st.tuples(TEXT, TEXT), max_size=5), line_end=st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=200, deadline=None)
def test_gives_back_what_the_csv_module_wrote(rows: list[tuple[str, str]], line_end: str) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator=line_end).writerows(rows)
    assert fields(written.getvalue()) == [list(row) for row in rows]


def test_tells_an_empty_field_from_an_empty_text() -> None:
    assert fields('1,\n2,""\n') == [["1", None], ["2", ""]]


def test_keeps_a_quote_inside_an_unquoted_field() -> None:
    assert fields('1,a "b" c"\n') == [["1", 'a "b" c"']]


def test_passes_over_spaces_around_quotes_and_nowhere_else() -> None:
    assert fields('1, "a b" \n2, a \n') == [["1", "a b"], ["2", " a "]]


def test_blank_lines_and_trailing_commas_carry_no_data() -> None:
    assert fields("\n1,a,,\n  \n\r\n2,b") == [["1", "a"], ["2", "b"]]


def test_a_line_number_is_that_of_the_record_s_first_physical_line() -> None:
    items = split('1,"a\nb\r\nc"\n\n2,d\n')
    assert [item.line for item in items] == [1, 5]


def test_a_stray_quote_costs_its_own_line_only() -> None:
    items = split('1,"a\n2,b\n3,"c"\n4,d\n')
    assert items[0] == Reject(1, 1, "text follows the closing quote of a field", '1,"a')
    assert [item.fields for item in items[1:] if isinstance(item, Record)] == [
        ["2", "b"],
        ["3", "c"],
        ["4", "d"],
    ]


def test_a_quote_that_is_never_closed_costs_its_own_line_only() -> None:
    items = split('1,a\n2,"b\n3,c\n')
    assert [(item.line, type(item)) for item in items] == [(1, Record), (2, Reject), (3, Record)]


def test_a_field_that_swallowed_rows_is_rejected_line_by_line() -> None:
    items = split('1,"a\n2,b\n3,"\n4,d\n', row_start=ROW_START)
    assert [item.line for item in items if isinstance(item, Reject)] == [1, 2, 3]
    assert [item.line for item in items if isinstance(item, Record)] == [4]


def test_a_row_of_the_wrong_width_names_the_first_missing_column() -> None:
    items = split("1\n2,a,b\n")
    assert items == [
        Reject(1, 1, "the row has 1 fields, the header has 2", "1"),
        Reject(2, None, "the row has 3 fields, the header has 2", "2,a,b"),
    ]


def test_a_wide_row_over_several_lines_is_rejected_with_each_of_them() -> None:
    items = split('1,"a\nb",c\n2,d\n')
    assert [(item.line, type(item)) for item in items] == [(1, Reject), (2, Reject), (3, Record)]


def test_a_wide_row_that_swallowed_rows_gives_them_back() -> None:
    items = split('1,"a,b\n2,b\n3,",c\n4,d\n', row_start=ROW_START)
    assert [(item.line, type(item)) for item in items] == [(1, Reject), (2, Record), (3, Reject), (4, Record)]


def test_the_header_may_span_lines_and_follow_blank_ones() -> None:
    lines = LineSource(io.StringIO('\n"a\nb",c\n1,2\n', newline=""))
    header = read_header(lines)
    assert header == Record(2, ["a\nb", "c"], '"a\nb",c')
    assert lines.number == 3
