"""No line of a CSV is lost in silence, whatever the file holds."""

from __future__ import annotations

import csv
import io
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_platform.errors import SourceError
from mlops_platform_tests.resources.csv_loader import PROJECTS, Loader

TEXT = st.text(alphabet=st.sampled_from('ab é,"\n\r #\t' + "'\\\u2028"), max_size=10)


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
