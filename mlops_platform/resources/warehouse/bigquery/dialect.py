"""BigQuery's SQL and type names: transpiling DuckDB's dialect, and the statements that only BigQuery runs.

The statements here are composed in DuckDB's dialect too, with functions of BigQuery that sqlglot passes through.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from mlops_platform.resources.warehouse.partitions import UNPARTITIONED
from mlops_platform.sql import SQL, literal, sql

BIGQUERY_TYPES = {
    "BIGINT": "INT64",
    "VARCHAR": "STRING",
    "TIMESTAMP": "TIMESTAMP",
    "DOUBLE": "FLOAT64",
    "BOOLEAN": "BOOL",
    "DATE": "DATE",
}
# BigQuery's name (of the API and of SQL) to DuckDB's; both kinds of DuckDB's times have no zone and are UTC here
DUCKDB_TYPES = {
    **{name: kind for kind, name in BIGQUERY_TYPES.items()},
    **{"INTEGER": "BIGINT", "FLOAT": "DOUBLE", "BOOLEAN": "BOOLEAN", "DATETIME": "TIMESTAMP"},
}
_FUNCTIONS = {"STRLEN": "BYTE_LENGTH", "EPOCH_US": "UNIX_MICROS"}  # which sqlglot passes through


@functools.lru_cache(maxsize=512)
def to_bigquery(query: str) -> str:
    """Transpile SQL from DuckDB's dialect; positional parameters keep their order.

    What sqlglot cannot read is returned as it stands: BigQuery's message about it is the better one, and the SQL
    that dbt has compiled for BigQuery has backticks, which no SQL of DuckDB has.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    def translate(node: exp.Expression) -> exp.Expression:
        # DuckDB's times without a zone are UTC: BigQuery's TIMESTAMP, which it does not compare with a DATETIME
        if isinstance(node, exp.DataType) and node.is_type("timestamp", "timestampntz", "datetime"):
            return exp.DataType.build("timestamptz")
        if isinstance(node, exp.Anonymous):
            node.set("this", _FUNCTIONS.get(node.name.upper(), node.name))
        return node

    try:
        statements = sqlglot.parse(query, read="duckdb")
    except SqlglotError:
        return query
    return ";\n".join(statement.transform(translate).sql("bigquery") for statement in statements if statement)


def landing_sql(landing: str, columns: Sequence[tuple[str, str]]) -> SQL:
    """Return the query of a landing table's columns, as (name, BigQuery type), as text for DuckDB to cast."""
    as_text = dict.fromkeys(("JSON", "RECORD", "STRUCT"), "TO_JSON_STRING({name}) AS {name}")
    texts = ", ".join(sql(as_text.get(kind, "CAST({name} AS VARCHAR) AS {name}"), name=name) for name, kind in columns)
    return sql("SELECT {texts} FROM {landing}", texts=SQL(texts), landing=landing)


def partitions_sql(schema: str, tables: Iterable[str]) -> SQL:
    """Return the query of the partitions of tables: name, creation and a text `id modified rows;...` of each table.

    It reads INFORMATION_SCHEMA only and bills the minimum of a query, 10 MB. A table without rows has no partition:
    the join with TABLES tells it from one that does not exist. One text per table, because Google's client takes
    20 us for each value.
    """
    return sql(
        """
        SELECT t.table_name, UNIX_MICROS(t.creation_time), string_agg(concat(
            coalesce(p.partition_id, {unpartitioned}), ' ',
            CAST(coalesce(UNIX_MICROS(p.last_modified_time), 0) AS VARCHAR), ' ',
            CAST(coalesce(p.total_rows, 0) AS VARCHAR)), ';')
        FROM {schema}.INFORMATION_SCHEMA.TABLES AS t
        LEFT JOIN {schema}.INFORMATION_SCHEMA.PARTITIONS AS p
            ON p.table_name = t.table_name AND p.table_name IN ({names})
        WHERE t.table_name IN ({names})
        GROUP BY t.table_name, t.creation_time
        """,
        unpartitioned=literal(UNPARTITIONED),
        schema=schema,
        names=SQL(", ".join(map(literal, tables))),
    )
