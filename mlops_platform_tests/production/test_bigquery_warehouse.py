"""The BigQuery warehouse gives what DuckDB's gives.

Against plain local-bigquery, without changes to it. It checks no permission, knows no quota, reports its location as
US whatever is asked and bills 0 bytes: refusals come from the proxy, and location and limits are read from requests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from mlops_platform.assets.ingest import build_ingest_assets
from mlops_platform.checks.rejects import build_ingest_checks
from mlops_platform.errors import SourceError, WarehouseError
from mlops_platform.ml.training_data.splits import assign_splits
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform_tests.production.bigquery_behind import DENIED, INSERT_JOB, TAGS, UPLOAD, csv_file, load_tags
from mlops_platform_tests.production.bigquery_emulator import LOCATION, PROJECT, Emulator
from mlops_platform_tests.production.misbehaving import Fault, Proxy
from mlops_platform_tests.resources.replacing import (
    OTHER_COLUMNS,
    TWO_DAYS,
    refuses_other_columns,
    replaces_only_what_meets_the_condition,
    scores,
)

PROJECTS = {"id": "BIGINT", "created_on": "TIMESTAMP", "title": "VARCHAR", "description": "VARCHAR"}
HEADER = "id,created_on,title,description\n"
FILES = {
    "plain": HEADER + "".join(f"{n},2026-01-{n % 28 + 1:02d}T10:00:00Z,title {n},text {n}\n" for n in range(1, 300)),
    "values": HEADER
    + '9223372036854775807,2026-03-01 10:11:12.123456,"Bé ""x"", ✓\nsecond line",\n'
    + '-1,1969-12-31T23:59:59.999999,"",😀\n7,,,\n7,,,\n3,2026-05-05T01:00:00+02:00,NULL,\\N\n',
    "damaged": HEADER
    + "1,2026-01-01,one,first\nx,2026-01-02,two,second\n3,no date,three,third\n4,2026-01-04,four\n"
    + '5,2026-01-05,"lost quote,fifth\n6,2026-01-06,six,sixth\n7.5,32nd of May,seven,seventh\n8,2026-01-08,eight,\n',
}


@pytest.fixture
def duck(bigquery: BigQueryWarehouse, tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(path=str(tmp_path / "w.duckdb"), schema_name=bigquery.schema_name)


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_operation_gives_what_duckdb_gives(
    bigquery: BigQueryWarehouse, duck: DuckDBWarehouse, tmp_path: Path, name: str
) -> None:
    path = csv_file(tmp_path, FILES[name])
    told: list[dict[str, Any]] = []
    for warehouse in (bigquery, duck):
        parquet = tmp_path / f"{type(warehouse).__name__}.parquet"
        split = warehouse.split_sql("id", 0.3)
        query = f"SELECT id, created_on, title, {split} AS split FROM projects ORDER BY id, title"
        with warehouse.connect():
            told.append(
                {
                    "had table": warehouse.has_table("projects"),
                    "load": warehouse.load_csv("projects", path, PROJECTS, "projects.csv"),
                    "has table": warehouse.has_table("projects"),
                    "rows": warehouse.row_count("projects"),
                    "columns": warehouse.describe("projects"),
                    "version": warehouse.content_version("projects"),
                    "tuples": warehouse.fetch_rows("SELECT * FROM projects ORDER BY id, title NULLS LAST"),
                    "some": warehouse.fetch_rows("SELECT id FROM projects WHERE id > ? AND title = ?", [1, "title 2"]),
                    "arrow": warehouse.fetch_arrow("SELECT * FROM projects WHERE id > ? ORDER BY id, title", [3]),
                    "exported": warehouse.export_parquet(query, parquet),
                    "parquet": (pq.read_table(parquet).to_pydict(), pq.read_schema(parquet).types),
                    "rejects": warehouse.fetch_rows("SELECT * FROM rejects ORDER BY line, column_name NULLS LAST"),
                    "version of rejects": warehouse.content_version("rejects"),
                }
            )
    assert told[0] == told[1]
    assert told[0]["version"] == told[0]["load"].version
    assert bool(told[0]["rejects"]) == (name == "damaged")
    values, _ = told[0]["parquet"]
    assert values["split"] == assign_splits(values["id"], 0.3).tolist()


def test_a_big_result_comes_whole_and_in_order(bigquery: BigQueryWarehouse, tmp_path: Path) -> None:
    query = "SELECT n, make_timestamp(n * 1000000) AS t FROM UNNEST(generate_series(1, 300000)) AS s(n) ORDER BY n DESC"
    assert bigquery.export_parquet(query, tmp_path / "out.parquet") == 300_000
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["n"].to_pylist() == list(range(300_000, 0, -1))
    assert str(table.schema.field("t").type) == "timestamp[us]"
    assert bigquery.fetch_arrow(query).equals(table)


def test_a_big_result_does_not_come_in_pages_of_json(behind: BigQueryWarehouse, proxy: Proxy) -> None:
    query = "SELECT n FROM UNNEST(generate_series(1, 300000)) AS s(n) ORDER BY n"
    assert behind.fetch_arrow(query).num_rows == 300_000
    assert proxy.count(r"pageToken=") == 0


def test_no_rows_are_an_empty_file(bigquery: BigQueryWarehouse, tmp_path: Path) -> None:
    load_tags(bigquery, tmp_path)
    assert bigquery.export_parquet("SELECT * FROM tags WHERE id > 9", tmp_path / "out.parquet") == 0
    assert pq.read_table(tmp_path / "out.parquet").column_names == ["id", "tag"]


def test_a_view_can_be_asked_too(bigquery: BigQueryWarehouse, tmp_path: Path) -> None:
    load_tags(bigquery, tmp_path)
    bigquery.execute("CREATE VIEW seen AS SELECT * FROM tags")
    assert bigquery.has_table("seen")
    assert bigquery.row_count("seen") == 2
    assert bigquery.content_version("seen") == bigquery.content_version("tags")


def test_the_assets_and_their_checks_run_on_it(
    bigquery: BigQueryWarehouse, duck: DuckDBWarehouse, tmp_path: Path
) -> None:
    projects, tags = tmp_path / "projects.csv", tmp_path / "tags.csv"
    projects.write_text(FILES["damaged"], encoding="utf-8")
    tags.write_text("id,tag\n1,mlops\nx,other\n")
    told = []
    for warehouse in (bigquery, duck):
        result = dg.materialize(
            [*build_ingest_assets(str(projects), str(tags), 5.0), *build_ingest_checks(1.0)],
            resources={"warehouse": warehouse},
        )
        checks = {
            (each.asset_key, each.check_name): (each.passed, each.description, each.metadata)
            for each in result.get_asset_check_evaluations()
        }
        loads = {
            name: {key: value for key, value in event.metadata.items() if key != "preview"}
            for name in ("projects", "tags")
            for event in result.asset_materializations_for_node(name)
        }
        told.append((checks, loads))
    assert told[0] == told[1]
    assert any(not passed for passed, _, _ in told[0][0].values())


# ---- how tables and jobs are made


def test_tables_are_partitioned_by_day_and_clustered_by_id(
    bigquery: BigQueryWarehouse, bigquery_emulator: Emulator, tmp_path: Path
) -> None:
    for _ in range(2):  # the second load finds the table as the first has made it
        bigquery.load_csv("projects", csv_file(tmp_path, FILES["plain"]), PROJECTS, "projects.csv")
        load_tags(bigquery, tmp_path)
    with bigquery_emulator.client() as client:
        projects, tags = (client.get_table(f"{PROJECT}.{bigquery.schema_name}.{name}") for name in ("projects", "tags"))
    assert (projects.time_partitioning.type_, projects.time_partitioning.field) == ("DAY", "created_on")
    assert projects.clustering_fields == tags.clustering_fields == ["id"]
    assert tags.time_partitioning is None


def test_each_job_of_a_run_says_where_whose_and_how_much(
    behind: BigQueryWarehouse, proxy: Proxy, tmp_path: Path
) -> None:
    tags = tmp_path / "tags.csv"
    tags.write_text("id,tag\n1,mlops\nx,other\n")
    assets = build_ingest_assets(str(tags), str(tags), 5.0)
    result = dg.materialize(
        [*assets, *build_ingest_checks(1.0)],
        resources={"warehouse": behind},
        selection=dg.AssetSelection.assets("tags"),
    )
    jobs = proxy.jobs()
    uploads = [body for line, body in proxy.requests if line.startswith("POST /") and "upload" in line]
    assert len(jobs) >= 4
    assert uploads
    for job in jobs:
        assert job["jobReference"]["location"] == LOCATION
        assert job["configuration"]["labels"] == {"dagster_run_id": result.run_id, "asset_key": "tags"}
        assert job["configuration"]["jobTimeoutMs"] == "300000"
        assert job["configuration"]["query"]["maximumBytesBilled"] == str(10 * 1024**3)
    for body in uploads:
        assert LOCATION.encode() in body
        assert result.run_id.encode() in body
        assert b'"jobTimeoutMs": "300000"' in body


def test_labels_keep_to_the_rules_and_are_on_the_jobs(
    bigquery: BigQueryWarehouse, bigquery_emulator: Emulator, tmp_path: Path
) -> None:
    @dg.asset(name="Odd_" + "name" * 20)
    def odd(warehouse: BigQueryWarehouse) -> None:
        load_tags(warehouse, tmp_path)

    result = dg.materialize([odd], resources={"warehouse": bigquery})
    with bigquery_emulator.client() as client:
        found = [job for job in client.list_jobs() if job.labels.get("dagster_run_id") == result.run_id]
    assert {job.job_type for job in found} == {"load", "query"}
    assert {job.labels["asset_key"] for job in found} == {("odd_" + "name" * 20)[:63]}


# ---- loads


def test_rejects_of_other_tables_stay_and_nothing_else_is_left(
    bigquery: BigQueryWarehouse, bigquery_emulator: Emulator, tmp_path: Path
) -> None:
    bad = "id,tag\n1,a\nx,b\n"
    bigquery.load_csv("first", csv_file(tmp_path, bad), TAGS, "first.csv")
    bigquery.load_csv("second", csv_file(tmp_path, bad + "y,c\n"), TAGS, "second.csv")
    sources = "SELECT source_table, line FROM rejects ORDER BY source_table, line"
    assert bigquery.fetch_rows(sources) == [("first", 3), ("second", 3), ("second", 4)]
    bigquery.load_csv("first", csv_file(tmp_path, "id,tag\n1,a\n"), TAGS, "first.csv")
    assert bigquery.fetch_rows(sources) == [("second", 3), ("second", 4)]
    bigquery.load_csv("second", csv_file(tmp_path, "id,tag\nz,a\n2,b\n"), TAGS, "second.csv")
    assert bigquery.fetch_rows(sources) == [("second", 2)]
    with bigquery_emulator.client() as client:
        tables = {table.table_id for table in client.list_tables(f"{PROJECT}.{bigquery.schema_name}")}
    assert tables == {"first", "second", "rejects"}


@pytest.mark.parametrize("content", ["id,tag\n", "id;tag\n1;a\n", "id,tag\nx,y\n"])
def test_a_refused_file_leaves_the_old_table(bigquery: BigQueryWarehouse, tmp_path: Path, content: str) -> None:
    load_tags(bigquery, tmp_path, "id,tag\n1,a\nx,b\n")
    before = [bigquery.content_version(name) for name in ("tags", "rejects")]
    with pytest.raises(SourceError, match=r"^tags\.csv "):
        load_tags(bigquery, tmp_path, content)
    assert [bigquery.content_version(name) for name in ("tags", "rejects")] == before


def test_a_failed_load_job_leaves_the_old_table(
    behind: BigQueryWarehouse, proxy: Proxy, bigquery_emulator: Emulator, tmp_path: Path
) -> None:
    load_tags(behind, tmp_path, "id,tag\n1,a\nx,b\n")
    before = [behind.content_version(name) for name in ("tags", "rejects")]
    proxy.faults = [Fault(UPLOAD, 400, "invalid", "Provided Schema does not match.", times=99)]
    with pytest.raises(WarehouseError, match="Provided Schema does not match"):
        load_tags(behind, tmp_path, "id,tag\n7,new\ny,b\nz,c\n")
    proxy.faults.clear()
    assert [behind.content_version(name) for name in ("tags", "rejects")] == before
    with bigquery_emulator.client() as client:
        tables = {table.table_id for table in client.list_tables(f"{PROJECT}.{behind.schema_name}")}
    assert tables == {"tags", "rejects"}


def test_replaces_the_rows_that_meet_the_condition(
    bigquery: BigQueryWarehouse, bigquery_emulator: Emulator, tmp_path: Path
) -> None:
    replaces_only_what_meets_the_condition(bigquery, tmp_path)
    with bigquery_emulator.client() as client:
        made = client.get_table(f"{PROJECT}.{bigquery.schema_name}.scores")
        tables = [table.table_id for table in client.list_tables(f"{PROJECT}.{bigquery.schema_name}")]
    assert (made.time_partitioning.type_, made.time_partitioning.field) == ("DAY", "day")
    assert made.clustering_fields == ["id"]
    assert tables == ["scores"]


@pytest.mark.parametrize("other", OTHER_COLUMNS)
def test_rows_of_other_columns_leave_the_old_ones(bigquery: BigQueryWarehouse, tmp_path: Path, other: str) -> None:
    refuses_other_columns(bigquery, tmp_path, other)


def test_a_type_that_bigquery_does_not_take_is_named(bigquery: BigQueryWarehouse, tmp_path: Path) -> None:
    file = scores(tmp_path, TWO_DAYS, "* REPLACE ([id] AS id)")
    with pytest.raises(WarehouseError, match=r"table scores cannot take the column id \(BIGINT\[\]\): cast it"):
        bigquery.replace_rows("scores", file, {})
    assert not bigquery.has_table("scores")


def test_a_refused_replacement_leaves_the_rows_and_nothing_else(
    behind: BigQueryWarehouse, proxy: Proxy, bigquery_emulator: Emulator, tmp_path: Path
) -> None:
    behind.replace_rows("scores", scores(tmp_path, TWO_DAYS), {})
    before = behind.content_version("scores")
    proxy.faults = [Fault(INSERT_JOB, 403, "accessDenied", DENIED, times=99)]
    with pytest.raises(WarehouseError, match=r"the permission bigquery\.jobs\.create is missing"):
        behind.replace_rows("scores", scores(tmp_path, "(9, 9, DATE '2026-01-01')"), {})
    proxy.faults.clear()
    assert behind.content_version("scores") == before
    with bigquery_emulator.client() as client:
        tables = [table.table_id for table in client.list_tables(f"{PROJECT}.{behind.schema_name}")]
    assert tables == ["scores"]


def test_a_failed_export_leaves_the_old_file_and_nothing_else(bigquery: BigQueryWarehouse, tmp_path: Path) -> None:
    path = tmp_path / "out" / "x.parquet"
    bigquery.export_parquet("SELECT 1 AS n", path)
    before = path.read_bytes()
    with pytest.raises(WarehouseError, match="refused a statement"):
        bigquery.export_parquet("SELECT ERROR('no') AS n", path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
