"""The DuckDB file: opened, locked, damaged, killed; and the ways in and out of its tables."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from mlops_platform.errors import SourceError, WarehouseError
from mlops_platform.resources.factory import duckdb_warehouse
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.settings import PROJECT_ROOT, Settings
from mlops_platform_tests.resources.replacing import (
    OTHER_COLUMNS,
    refuses_other_columns,
    replaces_only_what_meets_the_condition,
    scores,
)

TAGS = {"id": "BIGINT", "tag": "VARCHAR"}
HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
# loads a file, and stops for good inside the transaction
HANG = """
import sys, time
from pathlib import Path
from mlops_platform.resources.csv_ingest import csv_loader
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse

read = csv_loader.read_accounted

def hang(*arguments):
    assert read(*arguments)
    print("inside", flush=True)
    time.sleep(60)

if sys.argv[3] == "inside":
    csv_loader.read_accounted = hang
else:
    print("before", flush=True)
columns = {"id": "BIGINT", "tag": "VARCHAR"}
DuckDBWarehouse(path=sys.argv[1]).load_csv("tags", Path(sys.argv[2]), columns, "new")
"""


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(path=str(tmp_path / "new folder" / "w.duckdb"), schema_name="raw", lock_timeout=0.3)


def load(warehouse: DuckDBWarehouse, folder: Path, content: str = "id,tag\n1,a\n2,b\n") -> None:
    path = folder / "tags.csv"
    path.write_text(content)
    warehouse.load_csv("tags", path, TAGS, "tags.csv")


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "TMPDIR": str(Path(arguments[0]).parent)},  # a killed process leaves its files
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


# ---- the file


def test_makes_folder_file_and_schema(warehouse: DuckDBWarehouse) -> None:
    with warehouse.connect() as connection:
        row = connection.execute("SELECT current_schema(), current_setting('TimeZone')").fetchone()
    assert row == ("raw", "UTC")
    assert Path(warehouse.path).is_file()


def test_connections_of_one_process_share_the_file(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    with warehouse.connect(), warehouse.connect():
        load(warehouse, tmp_path)
        assert warehouse.row_count("tags") == 2


def test_is_closed_after_an_error(warehouse: DuckDBWarehouse) -> None:
    with pytest.raises(ZeroDivisionError), warehouse.connect():
        raise ZeroDivisionError
    stop(start(HOLD, warehouse.path))  # another process can have it


def test_a_held_file_names_the_holder(warehouse: DuckDBWarehouse, caplog: pytest.LogCaptureFixture) -> None:
    warehouse.execute("SELECT 1")
    holder = start(HOLD, warehouse.path)
    try:
        with caplog.at_level(logging.INFO), pytest.raises(WarehouseError) as caught:
            warehouse.execute("SELECT 1")
    finally:
        stop(holder)
    assert f"is held by process {holder.pid} (" in str(caught.value)
    assert "was not free within 0.3 s" in str(caught.value)
    assert [record.message.split(" for ")[0] for record in caplog.records] == ["Waiting up to 0.3 s"]


def test_waits_until_the_holder_is_gone(tmp_path: Path) -> None:
    warehouse = DuckDBWarehouse(path=str(tmp_path / "w.duckdb"), lock_timeout=20)
    warehouse.execute("CREATE TABLE t AS SELECT 1 AS a")
    holder = start(HOLD, warehouse.path)
    timer = threading.Timer(0.4, holder.kill)
    timer.start()
    try:
        assert warehouse.row_count("t") == 1
    finally:
        timer.join()
        stop(holder)


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"x"])
def test_a_damaged_file_is_said_plainly(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.duckdb"
    path.write_bytes(content)
    with pytest.raises(WarehouseError, match=r"cannot be opened .* move the file away"):
        DuckDBWarehouse(path=str(path)).execute("SELECT 1")
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_created_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WarehouseError, match=r"cannot be created .* check MLOPS_HOME"):
        DuckDBWarehouse(path=str(tmp_path / "file" / "w.duckdb")).execute("SELECT 1")


# ---- a killed load


@pytest.mark.parametrize("moment", ["inside", "any"])
def test_a_load_killed_in_the_middle_leaves_the_old_table(tmp_path: Path, moment: str) -> None:
    warehouse = DuckDBWarehouse(path=str(tmp_path / "w.duckdb"), lock_timeout=5)
    load(warehouse, tmp_path, "id,tag\n1,old\nx,bad\n")
    new = tmp_path / "new.csv"
    new.write_text("id,tag\n" + "".join(f"{n},new\n" for n in range(100_000)))
    for delay in (0.0,) if moment == "inside" else (0.05, 0.2):
        process = start(HANG, warehouse.path, str(new), moment)
        time.sleep(delay)
        stop(process)
        state = (
            warehouse.fetch_rows("SELECT tag, count(*) FROM tags GROUP BY tag"),
            warehouse.fetch_rows("SELECT line FROM rejects"),
        )
        whole_new: tuple[list[object], list[object]] = ([("new", 100_000)], [])
        assert state == ([("old", 1)], [(3,)]) or (moment == "any" and state == whole_new)
    assert warehouse.load_csv("tags", new, TAGS, "new").rows == 100_000
    assert warehouse.fetch_rows("SELECT * FROM rejects") == []


# ---- tables


def test_load_describe_count(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    assert not warehouse.has_table("tags")
    load(warehouse, tmp_path)
    assert warehouse.has_table("tags")
    assert warehouse.describe("tags") == [("id", "BIGINT"), ("tag", "VARCHAR")]
    assert warehouse.row_count("tags") == 2


def test_a_refused_load_is_a_source_error(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    load(warehouse, tmp_path)
    version = warehouse.content_version("tags")
    with pytest.raises(SourceError, match=r"^tags\.csv has a header and no rows"):
        load(warehouse, tmp_path, "id,tag\n")
    assert warehouse.content_version("tags") == version


@pytest.mark.parametrize("method", ["row_count", "describe", "content_version"])
def test_a_missing_table_is_said_plainly(warehouse: DuckDBWarehouse, method: str) -> None:
    with pytest.raises(WarehouseError, match=r"has no table raw\.none; materialize the asset"):
        getattr(warehouse, method)("none")


def test_a_missing_table_in_a_query_is_said_plainly(warehouse: DuckDBWarehouse) -> None:
    with pytest.raises(WarehouseError, match=r"has no table raw\.none; materialize"):
        warehouse.fetch_rows("SELECT * FROM none")


def test_a_refused_statement_is_one_line(warehouse: DuckDBWarehouse) -> None:
    with pytest.raises(WarehouseError) as caught:
        warehouse.execute("SELEC 1")
    assert "refused a statement: Parser Error" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fetches_rows_and_arrow(warehouse: DuckDBWarehouse) -> None:
    warehouse.execute("CREATE TABLE t AS SELECT range AS n FROM range(?)", [3])
    assert warehouse.fetch_rows("SELECT n FROM t WHERE n > ? ORDER BY n", [0]) == [(1,), (2,)]
    assert warehouse.fetch_arrow("SELECT n FROM t ORDER BY n").to_pydict() == {"n": [0, 1, 2]}


# ---- some of a table's rows


def test_replaces_the_rows_that_meet_the_condition(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    replaces_only_what_meets_the_condition(warehouse, tmp_path)


@pytest.mark.parametrize("other", OTHER_COLUMNS)
def test_rows_of_other_columns_leave_the_old_ones(warehouse: DuckDBWarehouse, tmp_path: Path, other: str) -> None:
    refuses_other_columns(warehouse, tmp_path, other)


def test_a_missing_file_or_an_unknown_column_leaves_no_table(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="refused a statement: IO Error"):
        warehouse.replace_rows("scores", tmp_path / "none.parquet", {})
    with pytest.raises(WarehouseError, match="refused a statement: Binder Error"):
        warehouse.replace_rows("scores", scores(tmp_path, "(1, 0.5, DATE '2026-01-01')"), {"unknown": 1})
    assert not warehouse.has_table("scores")


# ---- Parquet


def test_exports_rows_in_order(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    path = tmp_path / "it's" / "out.parquet"
    query = "SELECT range AS n FROM range(300000) ORDER BY n DESC"
    assert warehouse.export_parquet(query, path) == 300_000
    table = pq.read_table(path)
    assert table["n"].to_pylist() == list(range(299_999, -1, -1))
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    first = path.read_bytes()
    warehouse.export_parquet(query, path)
    assert path.read_bytes() == first
    with path.open("rb") as reader:  # somebody in the middle of the old file can read on
        warehouse.export_parquet("SELECT 1 AS n", path)
        assert reader.read() == first


def test_a_failed_export_leaves_the_old_file_and_nothing_else(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    path = tmp_path / "out" / "x.parquet"
    warehouse.export_parquet("SELECT 1 AS n", path)
    before = path.read_bytes()
    with pytest.raises(WarehouseError, match="refused a statement"):
        warehouse.export_parquet("SELECT error('no') FROM range(9)", path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_plain_duckdb(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    load(warehouse, tmp_path)
    with duckdb.connect(warehouse.path) as connection:
        assert connection.execute("SELECT count(*) FROM raw.tags").fetchone() == (2,)


def test_duckdb_takes_no_more_memory_than_a_setting_allows(tmp_path: Path) -> None:
    small = duckdb_warehouse(Settings(home=tmp_path, duckdb_memory_mb=64, schema_name="raw"))
    with small.connect():
        # 102 MB of texts that do not compress
        small.execute("create table texts as select i, repeat(md5(i::varchar), 8) as t from range(400000) r(i)")
        assert small.row_count("texts") == 400000
        assert small.fetch_rows("select max(length(t)) from texts") == [(256,)]
        ((used,),) = small.fetch_rows("select sum(memory_usage_bytes) from duckdb_memory()")
        assert used <= 64 << 20
        assert small.fetch_rows("select current_setting('memory_limit')") == [("64.0 MiB",)]


def test_a_memory_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="duckdb_memory"):
        Settings(duckdb_memory_mb=1)
