"""Safe composition of SQL text: names are quoted, values are escaped, fragments are marked as such.

Queries are in DuckDB's dialect, which other warehouses transpile. Pass values that a driver can bind as parameters.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any


class SQL(str):
    """SQL text that is inserted into a template as it stands: a subquery, an expression, a quoted name."""

    __slots__ = ()


def identifier(name: str) -> SQL:
    """Quote a table or column name."""
    return SQL('"' + name.replace('"', '""') + '"')


def identifiers(names: Iterable[str]) -> SQL:
    """Quote names and join them with commas."""
    return SQL(", ".join(identifier(name) for name in names))


def literal(text: str) -> SQL:
    """Quote a string value, for the places where a driver cannot bind a parameter."""
    return SQL("'" + text.replace("'", "''") + "'")


def sql(template: str, /, **parts: str | int | float) -> SQL:
    """Fill the braces of an SQL template; the result may be a part of another one.

    A `SQL` is inserted as it stands, a number as digits, any other text as a quoted identifier.

    >>> sql("SELECT count(*) FROM {table} WHERE {condition}", table="tags", condition=SQL("id > 5"))
    'SELECT count(*) FROM "tags" WHERE id > 5'
    """
    return SQL(_Template().vformat(template, (), parts))


class _Template(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        """Return a part as SQL."""
        if isinstance(value, SQL):
            return str(value)
        if isinstance(value, str):
            return identifier(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return format(value, format_spec)
        raise TypeError(f"{value!r} is not a part of SQL.")
