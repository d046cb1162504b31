"""Starts local-bigquery, mended in two places, in the emulator's own environment.

- BigQuery's answer about a CREATE TABLE AS SELECT names the table that was made as the job's destination;
  local-bigquery 0.4.0 leaves it out, and dbt-bigquery reads it. Tests that run dbt on the emulator lean on this.
- INFORMATION_SCHEMA.PARTITIONS has no last_modified_time there. Here it is the time at which a look at the view
  first found the partition with its present rows: never earlier than the change, and later where nobody looked.
"""

from __future__ import annotations

import time
from typing import Any

from local_bigquery.api import jobs  # type: ignore[import-not-found]
from local_bigquery.cli import main  # type: ignore[import-not-found]
from local_bigquery.jobs import runner  # type: ignore[import-not-found]
from local_bigquery.sql.rules import information_schema as views  # type: ignore[import-not-found]


def _target(job: Any) -> Any:
    statistics = job.statistics and job.statistics.query
    made = statistics and statistics.statementType == "CREATE_TABLE_AS_SELECT"
    return statistics.ddlTargetTable if made else None


def _with_destination(answer: Any) -> Any:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        job = answer(*args, **kwargs)
        query = job.configuration.query
        if query and not query.destinationTable and _target(job):
            job = job.model_copy(deep=True)
            job.configuration.query.destinationTable = _target(job)
        return job

    return wrapped


def _without_destination(results: Any) -> Any:
    # such a job has no rows to give, and its destination is not where they would be
    def wrapped(job: Any, *args: Any, **kwargs: Any) -> Any:
        if job.configuration.query.destinationTable and _target(job):
            job = job.model_copy(deep=True)
            job.configuration.query.destinationTable = None
        return results(job, *args, **kwargs)

    return wrapped


_SEEN: dict[tuple[str, ...], tuple[int, str]] = {}  # rows' digest and time, by table, its creation and partition


def _times(table: Any) -> dict[str, str]:
    """When each partition of a table changed, in milliseconds; empty for a table without partitions."""
    partitioning = table.timePartitioning
    if not (partitioning and partitioning.field) or table.type != "TABLE":
        return {}
    identity = views._identity(table)
    field = views.quote(partitioning.field)
    form = views.PARTITION_FORMATS.get(partitioning.type or "DAY", "%Y%m%d")
    digests = views.database.fetch(
        f"select coalesce(strftime({field}, '{form}'), '__NULL__'), sum(hash(t)) from {views.tables.name(*identity)} t "
        "group by 1"
    )
    times = {}
    for name, digest in digests:
        key = (*identity, str(table.creationTime), name)
        if key not in _SEEN or _SEEN[key][0] != digest:
            _SEEN[key] = (digest, str(int(time.time() * 1000)))  # the table's own time stays as it is with DML
        times[name] = _SEEN[key][1]
    return times


def _partitions(project: str, dataset: str) -> tuple[list[str], list[list[Any]]]:
    columns = [*views.IDENTITY, "partition_id", "total_rows INT64", "last_modified_time TIMESTAMP"]
    rows = []
    for table in views._tables(project, dataset):
        times = _times(table)
        for name, count in views._partitions(table):
            changed = times.get(name, str(table.lastModifiedTime or 0))
            rows.append([*views._identity(table), name, count, views._timestamp(changed)])
    return columns, rows


views.VIEWS["PARTITIONS"] = _partitions
runner.get, runner.submitted = _with_destination(runner.get), _with_destination(runner.submitted)
jobs.results = _without_destination(jobs.results)

if __name__ == "__main__":
    main()
