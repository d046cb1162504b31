"""Good tables, and for each expectation of each suite a statement that breaks that one rule and no other.

The SQL is what DuckDB and BigQuery both read.
"""

from __future__ import annotations

from collections.abc import Mapping

ROWS = 60

_PROJECTS = f"""
    with recursive numbers as (select 1 as i union all select i + 1 from numbers where i < {ROWS})
    select cast(i as int64) as id, timestamp '2024-01-01 00:00:00' + interval (i) day as created_on,
           concat('title ', cast(i as string)) as title, concat('description ', cast(i as string)) as description
    from numbers
"""
_TAG = """
    case mod(id, 4) when 0 then 'natural-language-processing' when 1 then 'computer-vision' when 2 then 'mlops'
                    else 'other' end as tag
"""

TABLES: Mapping[str, str] = {
    "projects": _PROJECTS,
    "tags": f"select id, {_TAG} from ({_PROJECTS}) as projects",
    "labeled_projects": f"select *, {_TAG} from ({_PROJECTS}) as projects",
}


def retyped(column: str, value: str) -> str:
    """A statement that puts another value, of another type, into a column of `{table}`."""
    return f"create or replace table {{table}} as select * replace ({value} as {column}) from {{table}}"


_OF_PROJECTS = {
    "table_row_count_to_be_between": "delete from {table} where true",
    "title_description_to_be_unique": (
        "update {table} set title = 'title 1', description = 'description 1' where id = 2"
    ),
    "id_to_be_unique": "update {table} set id = 1 where id = 2",
    "id_to_not_be_null": "update {table} set id = null where id = 2",
    "created_on_to_not_be_null": "update {table} set created_on = null where id = 2",
    "title_to_not_be_null": "update {table} set title = null where id = 2",
    "title_to_be_in_type_list": retyped("title", "id"),
    "description_to_not_be_null": "update {table} set description = null where id = 2",
    "description_to_be_in_type_list": retyped("description", "id"),
}
_OF_TAGS = {
    "table_row_count_to_be_between": "delete from {table} where true",
    "id_to_be_unique": "update {table} set id = 1 where id = 2",
    "id_to_not_be_null": "update {table} set id = null where id = 2",
    "tag_to_not_be_null": "update {table} set tag = null where id = 2",
    # a class is still found in it, yet it is bytes and no text
    "tag_to_be_in_type_list": retyped("tag", f"from_hex('{b'mlops'.hex()}')"),
    "tag_to_be_in_set": "update {table} set tag = 'robotics' where id = 2",
}
_OF_LABELED_PROJECTS = {
    **_OF_PROJECTS,
    **_OF_TAGS,
    # more than none, fewer than the suite asks for
    "table_row_count_to_be_between": "delete from {table} where id > 49",
}

CORRUPTIONS: Mapping[str, Mapping[str, str]] = {
    "projects": _OF_PROJECTS,
    "tags": _OF_TAGS,
    "labeled_projects": _OF_LABELED_PROJECTS,
}
