"""The casts of CSV fields to typed values, as SQL: strict, without a silent change of the value."""

from __future__ import annotations

from collections.abc import Mapping

_INTEGER = r"[+-]?[0-9]+(?:\.0*)?"
_TIMESTAMP = (
    r"[1-9][0-9]{3}-[0-9]{1,2}-[0-9]{1,2}"
    r"(?:[T ][0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z| ?UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_SHOWN_TIME = "____-__-__ __:__:__%"  # how DuckDB writes a time of the years 1000 to 9999
# the start of a field of a type in a line; of any other type: anything without comma and quote
_STARTS = {"BIGINT": ' *"?[+-]?[0-9]+"? *', "TIMESTAMP": ' *"?[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}[^,"]*"?'}


class CastPlan:
    """The SQL of one load, which turns the raw texts c0, c1, ... into the declared columns.

    Args:
        columns: Name and DuckDB type of each column.
        positions: Position of each column in the file.
        width: Number of columns of the file.
    """

    def __init__(self, columns: Mapping[str, str], positions: Mapping[str, int], width: int) -> None:
        self.columns, self.positions = columns, positions
        self.raw_names = [f"c{position}" for position in range(width)]

    def casts(self) -> list[str]:
        """Return the casts, each under the name that `value` gives; they are computed once, while reading."""
        return [f"{self._cast(name)} AS {self.value(name)}" for name in self.columns if not self._is_text(name)]

    def value(self, name: str) -> str:
        """Return the column's value; NULL where the text is empty or bad."""
        position = self.positions[name]
        return f"c{position}" if self._is_text(name) else f"v{position}"

    def is_bad(self, name: str) -> str:
        """Return whether a text doesn't fit the column's type."""
        if self._is_text(name):
            return "false"
        return f"({self.value(name)} IS NULL AND coalesce(trim(c{self.positions[name]}), '') <> '')"

    def is_bad_row(self) -> str:
        """Return whether any column's text doesn't fit."""
        return "(" + " OR ".join(self.is_bad(name) for name in self.columns) + ")"

    def reason(self, name: str) -> str:
        """Return the sentence that says why a bad text doesn't fit."""
        wanted = {
            "BIGINT": "is not a whole number that fits BIGINT",
            "TIMESTAMP": "is not an ISO 8601 time such as 2026-01-31T12:00:00Z",
        }.get(self.columns[name].upper(), f"is not a valid {self.columns[name]}")
        return f"""'"' || c{self.positions[name]}[1:60] || '" {wanted}'"""

    def line_breaks(self, raw: str) -> str:
        """Return the number of line breaks in a raw text: LF, CR and CRLF are one each."""
        lone = f"strlen({raw}) - strlen(replace(replace({raw}, chr(10), ''), chr(13), ''))"
        pairs = f"(strlen({raw}) - strlen(replace({raw}, chr(13) || chr(10), ''))) // 2"
        return f"CASE WHEN {_is_broken(raw)} THEN {lone} - {pairs} ELSE 0 END"

    def holds_row(self, raw: str) -> str:
        """Return whether a line within a raw text could be the start of a row."""
        start = self.row_start()
        if start is None:
            return "false"
        return f"CASE WHEN {_is_broken(raw)} THEN regexp_matches({raw}, '[\\r\\n]{start}') ELSE false END"

    def row_start(self) -> str | None:
        """Return a pattern (Python's and RE2's) for the start of a row, up to the last column with a typed pattern."""
        kinds = {self.positions[name]: kind.upper() for name, kind in self.columns.items()}
        typed = [position for position, kind in kinds.items() if kind in _STARTS]
        if not typed:
            return None
        fields = (_STARTS.get(kinds.get(position, ""), '[^,"]*') for position in range(max(typed) + 1))
        return ",".join(fields) + r"(?:,|[\r\n]|$)"

    def _is_text(self, name: str) -> bool:
        return self.columns[name].upper() == "VARCHAR"

    def _cast(self, name: str) -> str:
        raw, kind = f"c{self.positions[name]}", self.columns[name].upper()
        text = f"trim({raw})"
        if kind == "BIGINT":
            # a text that the value is written as again was read without a change: most rows need no pattern
            plain = f"TRY_CAST({raw} AS BIGINT)"
            return (
                f"CASE WHEN CAST({plain} AS VARCHAR) = {raw} THEN {plain} "
                f"WHEN regexp_full_match({text}, '{_INTEGER}') THEN TRY_CAST({text} AS BIGINT) END"
            )
        if kind == "TIMESTAMP":
            plain, shown = f"TRY_CAST({raw} AS TIMESTAMP)", f"replace(rtrim({raw}, 'Z'), 'T', ' ')"
            # by way of TIMESTAMPTZ, because a direct cast drops the offset
            utc = f"CAST(TRY_CAST(replace({text}, ' UTC', 'Z') AS TIMESTAMPTZ) AS TIMESTAMP)"
            return (
                f"CASE WHEN CAST({plain} AS VARCHAR) = {shown} AND {shown} LIKE '{_SHOWN_TIME}' AND {shown} >= '1000' "
                f"THEN {plain} WHEN regexp_full_match({text}, '{_TIMESTAMP}') THEN {utc} END"
            )
        return f"TRY_CAST({text} AS {kind})"


def _is_broken(raw: str) -> str:
    return f"(contains({raw}, chr(10)) OR contains({raw}, chr(13)))"
