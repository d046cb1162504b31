"""Good tables, and for each expectation of each suite a statement that breaks that one rule and no other."""

from __future__ import annotations

from collections.abc import Mapping

ROWS = 60

_PROJECTS = f"""
    select i::bigint as id, timestamp '2024-01-01' + to_days(i::integer) as created_on,
           'title ' || i as title, 'description ' || i as description
    from range(1, {ROWS + 1}) as numbers(i)
"""
_TAG = "['natural-language-processing', 'computer-vision', 'mlops', 'other'][1 + (id % 4)::bigint]::varchar as tag"

TABLES: Mapping[str, str] = {
    "projects": _PROJECTS,
    "tags": f"select id, {_TAG} from ({_PROJECTS})",
    "labeled_projects": f"select *, {_TAG} from ({_PROJECTS})",
}

_ENUM = (
    "create type class as enum ('natural-language-processing', 'computer-vision', 'mlops', 'other'); "
    "alter table {table} alter tag type class"
)
_OF_PROJECTS = {
    "table_row_count_to_be_between": "delete from {table}",
    "title_description_to_be_unique": (
        "update {table} set title = 'title 1', description = 'description 1' where id = 2"
    ),
    "id_to_be_unique": "update {table} set id = 1 where id = 2",
    "id_to_not_be_null": "update {table} set id = null where id = 2",
    "created_on_to_not_be_null": "update {table} set created_on = null where id = 2",
    "title_to_not_be_null": "update {table} set title = null where id = 2",
    "title_to_be_in_type_list": "alter table {table} alter title type bigint using id",
    "description_to_not_be_null": "update {table} set description = null where id = 2",
    "description_to_be_in_type_list": "alter table {table} alter description type bigint using id",
}
_OF_TAGS = {
    "table_row_count_to_be_between": "delete from {table}",
    "id_to_be_unique": "update {table} set id = 1 where id = 2",
    "id_to_not_be_null": "update {table} set id = null where id = 2",
    "tag_to_not_be_null": "update {table} set tag = null where id = 2",
    # the classes are still found in it, yet it is no text
    "tag_to_be_in_type_list": _ENUM,
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
# Parquet has no enumerations: as bytes it holds the same classes and is no text either
SNAPSHOT_CORRUPTIONS: Mapping[str, str] = {
    **_OF_LABELED_PROJECTS,
    "tag_to_be_in_type_list": "alter table {table} alter tag type blob",
}
