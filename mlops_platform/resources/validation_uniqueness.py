"""Counts the rows that repeat values, on DuckDB, without bringing texts together that can't be equal.

The library counts them by grouping and joining the whole table by its texts: at 10^7 rows that is the most of a
validation, and gigabytes. Equal values have equal hashes: where all hashes differ, so do all values, and 8 bytes a row
tell it. Where some hashes meet, the values of those rows alone are compared, so the count is exact either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from great_expectations.execution_engine import SqlAlchemyExecutionEngine
    from great_expectations.validator.metric_configuration import MetricConfiguration

_COLUMN, _COMPOUND = "column_values.unique.unexpected_count", "compound_columns.unique.unexpected_count"
_DEFAULTS = {"row_condition": None, "condition_parser": None, "table": None, "ignore_row_if": "all_values_are_missing"}


def repeated_rows(engine: SqlAlchemyExecutionEngine, metric: MetricConfiguration) -> int | None:
    """Counts the rows whose values are in another row too, as the library's metric does.

    Args:
        engine: Asks the database.
        metric: What is asked for.

    Returns:
        The number of rows; None where this is another metric, of some of the rows, or on another database, where the
        library has to be asked.

    Raises:
        Exception: What the database says.
    """
    columns = _columns(metric)
    if not columns or engine.dialect_name != "duckdb":
        return None
    found = engine.get_domain_records(domain_kwargs=dict(metric.metric_domain_kwargs))
    rows = found if isinstance(found, sa.FromClause) else found.subquery()
    values: list[sa.ColumnClause[Any]] = [sa.column(name) for name in columns]
    whole = sa.and_(*(value.is_not(None) for value in values))
    key = sa.func.hash(*values)
    hashes = sa.select(sa.func.count(), sa.func.count(sa.distinct(key))).select_from(rows).where(whole)
    ((total, different),) = engine.execute_query(hashes).fetchall()
    if total == 0:  # the library has no number for it
        return None
    if total == different:
        return 0
    met = sa.select(key).select_from(rows).where(whole).group_by(key).having(sa.func.count() > 1)
    groups = (
        sa.select(sa.func.count().label("times"))
        .select_from(rows)
        .where(whole, key.in_(met))
        .group_by(*values)
        .having(sa.func.count() > 1)
        .subquery()
    )
    ((repeated,),) = engine.execute_query(sa.select(sa.func.coalesce(sa.func.sum(groups.c.times), 0))).fetchall()
    return int(repeated)


def _columns(metric: MetricConfiguration) -> list[str]:
    """The columns whose values must not be repeated; none where the metric asks for something else."""
    domain = metric.metric_domain_kwargs
    if any(domain.get(name, default) != default for name, default in _DEFAULTS.items()):
        return []
    if metric.metric_name == _COLUMN:
        return [domain["column"]]
    return list(domain["column_list"]) if metric.metric_name == _COMPOUND else []
