"""Partitions as INFORMATION_SCHEMA tells them, on the emulator.

The emulator's PARTITIONS gives times of change that the launcher makes up; what the sensor makes of times is tested
without BigQuery.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mlops_platform.resources.partitions import Partition, bigquery_partitions
from mlops_platform.sensors.partitions import TABLES
from mlops_platform_tests.production.bigquery_emulator import PROJECT, Emulator


def test_partitions_empty_and_absent_tables(bigquery_emulator: Emulator, bigquery_dataset: str) -> None:
    with bigquery_emulator.client() as client:

        def run(query: str) -> Iterable[Sequence[Any]]:
            return [row.values() for row in client.query(query).result()]

        def look() -> dict[tuple[str, str], Partition]:
            found = bigquery_partitions(run, f"{PROJECT}.{bigquery_dataset}", TABLES)
            return {(each.table, each.partition_id): each for each in found}

        assert look() == {}
        made = "(id int64, created_on timestamp) partition by date(created_on)"
        run(f"create table {bigquery_dataset}.projects {made}")
        run(f"create table {bigquery_dataset}.tags (id int64, tag string)")
        run(f"create table {bigquery_dataset}.other (id int64)")
        empty = look()
        assert {key: each.rows for key, each in empty.items()} == {
            ("projects", "__UNPARTITIONED__"): 0,
            ("tags", "__UNPARTITIONED__"): 0,
        }
        run(
            f"insert into {bigquery_dataset}.projects values (1, timestamp '2024-01-01 23:59:59'), "
            "(2, timestamp '2024-01-02'), (3, timestamp '2024-01-02 12:00:00'), (4, null)"
        )
        run(f"insert into {bigquery_dataset}.tags values (1, 'mlops')")
        full = look()
        assert {key: each.rows for key, each in full.items()} == {
            ("projects", "20240101"): 1,
            ("projects", "20240102"): 2,
            ("projects", "__NULL__"): 1,
            ("tags", "__UNPARTITIONED__"): 1,
        }
        assert full["projects", "20240101"].created == empty["projects", "__UNPARTITIONED__"].created
        run(f"drop table {bigquery_dataset}.projects")
        assert ("tags", "__UNPARTITIONED__") in look()
        run(f"create table {bigquery_dataset}.projects {made}")
        again = look()["projects", "__UNPARTITIONED__"]
        assert int(again.created) > int(full["projects", "20240101"].created)
