"""Column lineage of a dbt model, read from its compiled SQL.

dagster-dbt has the same for runs of its own subprocess only (`fetch_column_metadata`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import dagster as dg

__all__ = ["column_lineage"]


def column_lineage(
    query: str, columns: Iterable[str], parents: Mapping[str, Sequence[tuple[str, str]]], dialect: str
) -> dg.TableColumnLineage | None:
    """Return the columns of other tables that each column of a query is computed from.

    Args:
        query: The compiled SQL of a model.
        columns: The columns of the table that it built.
        parents: The tables that the model reads, each with its columns as (name, type). A table and its asset have
            the same name.
        dialect: The SQL dialect, as sqlglot names it.

    Returns:
        The lineage; None for SQL that sqlglot cannot resolve.
    """
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage

    def parent_columns(column: str) -> Iterator[dg.TableColumnDep]:
        for node in lineage(column, tree, schema=schema, dialect=dialect).walk():
            if isinstance(node.expression, exp.Table) and node.expression.name in parents:
                yield dg.TableColumnDep(node.expression.name, exp.to_column(node.name).name)

    schema = {table: dict(table_columns) for table, table_columns in parents.items()}
    try:
        tree = parse_one(query, dialect=dialect)
        for table in tree.find_all(exp.Table):
            table.set("db", None)
            table.set("catalog", None)
        dependencies = {column: sorted(set(parent_columns(column))) for column in columns}
    except SqlglotError:
        return None
    return dg.TableColumnLineage(dependencies)
