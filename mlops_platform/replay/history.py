"""A labeled history: the rows of a pair of CSV files, read and rejected by the platform's own loader."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import duckdb

from mlops_platform.assets.ingest import TABLES
from mlops_platform.errors import SourceError
from mlops_platform.resources.csv_ingest.csv_loader import load_csv
from mlops_platform.resources.csv_ingest.source_file import fetched


@dataclass(frozen=True)
class Row:
    """A labeled project."""

    id: int
    created_on: dt.datetime | None
    title: str | None
    description: str | None
    tag: str


@dataclass(frozen=True)
class History:
    """The labeled projects by time (those without a time last) and id, and how many projects have no tag.

    `rejected` lines of both files could not be read.
    """

    rows: list[Row]
    unlabeled: int
    rejected: int


def read_history(projects: str, tags: str, *, timeout: float = 30.0) -> History:
    """Read a pair of CSV files.

    Args:
        projects: Path or URL of a file with the columns id, created_on, title, description.
        tags: Path or URL of a file with the columns id, tag.
        timeout: Seconds to wait for a server.
    """
    rejected = 0
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        for table, uri in (("projects", projects), ("tags", tags)):
            columns = {name: column.kind for name, column in TABLES[table].items()}
            with fetched(uri, timeout) as source:
                rejected += load_csv(connection, table, source.path, columns, source.name).rejected
        # a repeated id counts once: a check of the warehouse would report it, the replay goes on
        projects_with_tags = connection.execute(
            "SELECT id, any_value(created_on), any_value(title), any_value(description), any_value(trim(tag)) "
            "FROM projects LEFT JOIN (SELECT id, min(tag) AS tag FROM tags GROUP BY id) USING (id) "
            "WHERE id IS NOT NULL GROUP BY id ORDER BY any_value(created_on) NULLS LAST, id"
        ).fetchall()
    rows = [Row(*values) for values in projects_with_tags if values[4]]
    if not rows:
        raise SourceError(f"No project of {projects} has a tag in {tags}: a replay needs labeled rows.")
    return History(rows, len(projects_with_tags) - len(rows), rejected)
