"""Partitions as INFORMATION_SCHEMA lists them, on the emulator.

The emulator's PARTITIONS has times of change that the launcher makes up; what the sensor does with times is tested
without BigQuery.
"""

from __future__ import annotations

from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform.resources.warehouse.partitions import Partition
from mlops_platform.sensors.new_partitions import TABLES


def test_partitions_empty_and_absent_tables(bigquery: BigQueryWarehouse) -> None:
    def poll() -> dict[tuple[str, str], Partition]:
        return {(partition.table, partition.partition_id): partition for partition in bigquery.partitions(TABLES)}

    assert poll() == {}
    partitioned = "create table `projects` (id int64, created_on timestamp) partition by date(created_on)"
    bigquery.execute(partitioned)
    bigquery.execute("create table tags (id bigint, tag varchar)")
    bigquery.execute("create table other (id bigint)")
    empty = poll()
    assert {key: partition.rows for key, partition in empty.items()} == {
        ("projects", "__UNPARTITIONED__"): 0,
        ("tags", "__UNPARTITIONED__"): 0,
    }
    bigquery.execute(
        "insert into projects values (1, timestamp '2024-01-01 23:59:59'), "
        "(2, timestamp '2024-01-02'), (3, timestamp '2024-01-02 12:00:00'), (4, null)"
    )
    bigquery.execute("insert into tags values (1, 'mlops')")
    full = poll()
    assert {key: partition.rows for key, partition in full.items()} == {
        ("projects", "20240101"): 1,
        ("projects", "20240102"): 2,
        ("projects", "__NULL__"): 1,
        ("tags", "__UNPARTITIONED__"): 1,
    }
    assert full["projects", "20240101"].created == empty["projects", "__UNPARTITIONED__"].created
    bigquery.execute("drop table projects")
    assert ("tags", "__UNPARTITIONED__") in poll()
    bigquery.execute(partitioned)
    again = poll()["projects", "__UNPARTITIONED__"]
    assert int(again.created) > int(full["projects", "20240101"].created)
