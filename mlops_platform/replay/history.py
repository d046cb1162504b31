"""A labelled history: the rows of a CSV pair, read and judged by the same loader as the platform's."""

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
    """A labelled project."""

    id: int
    created_on: dt.datetime | None
    title: str | None
    description: str | None
    tag: str


@dataclass(frozen=True)
class History:
    """Rows by time (those without a time last) and id.

    Attributes:
        rows: The labelled projects.
        unlabelled: Projects left out for want of a tag: nobody could say whether they were predicted rightly.
        rejected: Lines of both files that could not be read.
    """

    rows: list[Row]
    unlabelled: int
    rejected: int


def read_history(projects: str, tags: str, *, timeout: float = 30.0) -> History:
    """Read a CSV pair.

    Args:
        projects: Path or http(s) URL of the projects CSV: id, created_on, title, description.
        tags: Likewise of the tags CSV: id, tag.
        timeout: Seconds to wait for a server.

    Raises:
        SourceError: A file is missing, is not such a CSV, or no project has a tag.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone='UTC'")
    rejected = 0
    try:
        for table, uri in (("projects", projects), ("tags", tags)):
            columns = {name: column.kind for name, column in TABLES[table].items()}
            with fetched(uri, timeout) as source:
                rejected += load_csv(connection, table, source.path, columns, source.name).rejected
        # of an id that is there twice one row is taken: a warehouse check reports it, the replay has to go on
        found = connection.execute(
            "SELECT id, any_value(created_on), any_value(title), any_value(description), any_value(trim(tag)) "
            "FROM projects LEFT JOIN (SELECT id, min(tag) AS tag FROM tags GROUP BY id) USING (id) "
            "WHERE id IS NOT NULL GROUP BY id ORDER BY any_value(created_on) NULLS LAST, id"
        ).fetchall()
    finally:
        connection.close()
    rows = [Row(*each) for each in found if each[4]]
    if not rows:
        raise SourceError(f"No project of {projects} has a tag in {tags}: a replay needs labelled rows.")
    return History(rows, len(found) - len(rows), rejected)
