"""Split a CSV file into records, line by line, and say what is wrong with those that are damaged.

This is the slow, exact reader (RFC 4180 with a comma and a double quote) for files that DuckDB's ``read_csv``
can't read to the last line. It knows nothing of column types or tables. After a damaged record it starts
again at the very next physical line, so that one stray quote costs one line and not the rest of the file.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

MAX_RECORD_CHARS = 64_000_000  # also DuckDB's max_line_size; a quote that is never closed stops here
TEXT_CHARS = 500  # what a reject row keeps of the raw text

_SPACES = re.compile(" *")
_LINE_END = "\r\n"


@dataclass(frozen=True, slots=True)
class Record:
    """A well-formed record; `None` is an empty field without quotes, ``""`` an empty field in quotes."""

    line: int
    fields: list[str | None]
    text: str


@dataclass(frozen=True, slots=True)
class Reject:
    """A physical line that is in no record; `column` counts from 0, None where no column is to blame."""

    line: int
    column: int | None
    reason: str
    text: str


class LineSource:
    """The physical lines of an open file (``newline=""``), which can be given back."""

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle
        self._pending: deque[str] = deque()
        self.number = 0

    def take(self) -> str | None:
        """Return the next line with its line end, or None at the end of the file."""
        line = self._pending.popleft() if self._pending else next(self._handle, None)
        if line is not None:
            self.number += 1
        return line

    def give_back(self, lines: Sequence[str]) -> None:
        """Put the lines that were taken last back in front."""
        self._pending.extendleft(reversed(lines))
        self.number -= len(lines)


@dataclass(slots=True)
class _Parsed:
    raw: list[str]
    fields: list[str | None]
    problem: str | None = None


def read_header(lines: LineSource) -> Record | Reject | None:
    """Return the first record that is not blank, whatever its width; None if there is none."""
    return next(read_records(lines, width=None, row_start=None), None)


def read_records(lines: LineSource, width: int | None, row_start: re.Pattern[str] | None) -> Iterator[Record | Reject]:
    """Yield every record of `width` fields, and a reject for each line that is in none.

    Blank lines carry no data and are passed over; so are surplus fields that are empty (a trailing comma).

    Args:
        lines: The lines behind the header.
        width: Number of fields of a row; None for any.
        row_start: Pattern of the start of a row. A quoted field that holds such a line is taken for a field whose
            closing quote is lost, because it would swallow rows in silence.
    """
    while (parsed := _parse(lines)) is not None:
        raw, fields = parsed.raw, parsed.fields
        number = lines.number - len(raw) + 1
        if len(raw) == 1 and not raw[0].strip():
            continue
        problem, column = parsed.problem, max(len(fields) - 1, 0)
        if problem is not None:
            lines.give_back(raw[1:])
            yield Reject(number, column, problem, _shown(raw[0]))
            continue
        if width is not None and not any(fields[width:]):
            del fields[width:]
        blame: int | None = None
        if width is not None and len(fields) != width:
            problem = f"the row has {len(fields)} fields, the header has {width}"
            blame = len(fields) if len(fields) < width else None
        swallowed = row_start is not None and any(row_start.match(line) for line in raw[1:])
        if problem is not None and swallowed:
            lines.give_back(raw[1:])
            yield Reject(number, blame, f"{problem}; a quote may be missing", _shown(raw[0]))
        elif problem is not None or swallowed:
            reason = problem or "a quoted field holds what looks like further rows; a quote may be missing"
            yield Reject(number, blame, reason, _shown(raw[0]))
            for offset, line in enumerate(raw[1:], start=1):
                if line.strip():
                    reason = f"part of the row that was rejected at line {number}"
                    yield Reject(number + offset, None, reason, _shown(line))
        else:
            text = raw[0] if len(raw) == 1 else "".join(raw)
            yield Record(number, fields, _shown(text))


def _shown(text: str) -> str:
    return text[:TEXT_CHARS].rstrip(_LINE_END)


def _parse(lines: LineSource) -> _Parsed | None:
    line = lines.take()
    if line is None:
        return None
    parsed = _Parsed([line], [])
    if len(line) > MAX_RECORD_CHARS:
        parsed.problem = f"the line is longer than {MAX_RECORD_CHARS:,} characters"
        return parsed
    if '"' not in line:
        parsed.fields = [field or None for field in line.rstrip(_LINE_END).split(",")]
        return parsed
    position = 0
    while True:
        quote = _SPACES.match(line, position).end()  # type: ignore[union-attr]  # " *" matches everywhere
        if line.startswith('"', quote):
            end = _quoted_field(lines, parsed, line, quote + 1)
            if end is None:
                return parsed
            line, position = end
            if position >= len(line) or line[position] in _LINE_END:
                return parsed
            if line[position] != ",":
                parsed.problem = "text follows the closing quote of a field"
                return parsed
            position += 1
            continue
        comma = line.find(",", position)
        if comma < 0:
            parsed.fields.append(line[position:].rstrip(_LINE_END) or None)
            return parsed
        parsed.fields.append(line[position:comma] or None)
        position = comma + 1


def _quoted_field(lines: LineSource, parsed: _Parsed, line: str, position: int) -> tuple[str, int] | None:
    """Add the field that starts behind an opening quote; return where the text behind it starts."""
    parts: list[str] = []
    size = sum(map(len, parsed.raw))
    while True:
        quote = line.find('"', position)
        if quote < 0:
            parts.append(line[position:])
            following = lines.take()
            if following is not None:
                parsed.raw.append(following)
                size += len(following)
            if following is None or size > MAX_RECORD_CHARS:
                parsed.fields.append(None)
                parsed.problem = "a quote is opened and never closed"
                return None
            line, position = following, 0
        elif line.startswith('"', quote + 1):
            parts.append(line[position : quote + 1])
            position = quote + 2
        else:
            parts.append(line[position:quote])
            parsed.fields.append("".join(parts))
            return line, _SPACES.match(line, quote + 1).end()  # type: ignore[union-attr]
