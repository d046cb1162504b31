"""Partitions on DuckDB: cut by day, and a digest that changes with the rows and with nothing else."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import duckdb
import pytest

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.resources.warehouse.partitions import Partition

RAW = """
    create table projects (id bigint, created_on timestamp, title varchar);
    create table tags (id bigint, tag varchar);
    insert into projects values (1, '2024-01-01 23:59:59', 'a'), (2, '2024-01-02', 'b'), (3, '2024-01-02', null),
        (4, null, 'd');
    insert into tags values (1, 'mlops'), (2, 'other');
"""
TABLES = ("projects", "tags")


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    warehouse = DuckDBWarehouse(path=str(tmp_path / "w.duckdb"), lock_timeout=5)
    warehouse.execute(RAW)
    return warehouse


def states(warehouse: DuckDBWarehouse) -> dict[tuple[str, str], Partition]:
    return {(each.table, each.partition_id): each for each in warehouse.partitions(TABLES)}


def test_days_a_null_day_and_a_table_without_a_day(warehouse: DuckDBWarehouse) -> None:
    rows = {key: each.rows for key, each in states(warehouse).items()}
    assert rows == {
        ("projects", "20240101"): 1,
        ("projects", "20240102"): 2,
        ("projects", "__NULL__"): 1,
        ("tags", "__UNPARTITIONED__"): 2,
    }


@pytest.mark.parametrize(
    ("statement", "changed"),
    [
        ("update projects set title = 'z' where id = 2", {("projects", "20240102")}),
        ("update projects set title = '' where id = 3", {("projects", "20240102")}),
        ("insert into projects select * from projects where id = 1", {("projects", "20240101")}),
        ("update projects set created_on = '2024-01-01' where id = 4", {("projects", "20240101")}),
        ("insert into projects values (9, '1999-12-31', 'old')", {("projects", "19991231")}),
        ("update tags set tag = case id when 1 then 'other' else 'mlops' end", {("tags", "__UNPARTITIONED__")}),
        (
            "alter table projects rename title to name",
            {("projects", "20240101"), ("projects", "20240102"), ("projects", "__NULL__")},
        ),
        ("create or replace table projects as select * from projects order by id desc", set()),
    ],
)
def test_what_changes_is_what_was_touched(
    warehouse: DuckDBWarehouse, statement: str, changed: set[tuple[str, str]]
) -> None:
    before = states(warehouse)
    warehouse.execute(statement)
    assert {key for key, each in states(warehouse).items() if before.get(key) != each} == changed


def test_an_empty_table_is_there_and_an_absent_one_is_not(warehouse: DuckDBWarehouse) -> None:
    warehouse.execute("delete from projects; drop table tags")
    (only,) = warehouse.partitions(TABLES)
    assert (only.table, only.partition_id, only.rows) == ("projects", "__UNPARTITIONED__", 0)


def test_dates_that_are_texts_cut_nothing(warehouse: DuckDBWarehouse) -> None:
    warehouse.execute("alter table projects alter created_on type varchar")
    assert ("projects", "__UNPARTITIONED__") in states(warehouse)


def test_a_sensor_waits_for_the_lock_for_seconds_not_minutes(
    warehouse: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(path: str) -> None:
        raise duckdb.IOException(f"Could not set lock on file {path}: held in x (PID 1)")

    monkeypatch.setattr("mlops_platform.resources.warehouse.duckdb._SENSOR_LOCK_TIMEOUT", 0.2)
    monkeypatch.setattr(duckdb, "connect", held)
    patient = DuckDBWarehouse(path=warehouse.path, lock_timeout=600)
    errors: list[Exception] = []

    def look() -> None:
        try:
            patient.partitions(TABLES)
        except WarehouseError as error:
            errors.append(error)

    looking = threading.Thread(target=look, daemon=True)
    started = time.monotonic()
    looking.start()
    looking.join(30)
    assert errors
    assert time.monotonic() - started < 30
    assert patient.lock_timeout == 600
