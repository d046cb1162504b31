"""The assets `projects` and `tags` loaded by Airbyte: the real dagster-airbyte over HTTP against a server double."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.assets.airbyte import build_airbyte_assets
from mlops_platform.assets.ingest import TABLES, build_ingest_assets
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.settings import SAMPLE_DIR
from mlops_platform_tests.production.airbyte_double import (
    CONNECTIONS,
    WORKSPACE,
)
from mlops_platform_tests.production.airbyte_world import (
    PROJECTS,
    World,
    failure,
    metadata,
    passed,
)


def test_both_are_loaded_as_the_csv_loader_would_load_them(world: World, tmp_path: Path) -> None:
    result = world.materialize()
    assert result.success
    assert world.starts == 2
    shown = metadata(result, "projects")
    rows = world.warehouse.row_count("projects")
    job = world.double.jobs[shown["airbyte_job_id"]]
    assert shown["dagster/row_count"] == shown["airbyte_rows"] == rows == job.rows
    assert shown["airbyte_bytes"] == 100 * rows
    assert shown["airbyte_job"] == (
        f"{world.double.url}/workspaces/{WORKSPACE}/connections/{PROJECTS}/timeline?openLogs=true&jobId={job.number}"
    )
    assert (shown["rejected_rows"], shown["airbyte_joined"]) == (0, False)
    assert "| id | created_on | title | description |" in shown["preview"]
    assert all(passed(result).values())
    assert len(passed(result)) == 4

    by_csv = DuckDBWarehouse(path=str(tmp_path / "csv.duckdb"))
    uris = [str(SAMPLE_DIR / f"{name}.csv") for name in CONNECTIONS]
    dg.materialize(build_ingest_assets(uris[0], uris[1], 5.0), resources={"warehouse": by_csv})
    for table, columns in TABLES.items():
        assert world.warehouse.describe(table) == [(name, column.kind) for name, column in columns.items()]
        assert world.warehouse.content_version(table) == by_csv.content_version(table)


def test_the_same_content_synced_again_is_the_same_data_version(world: World) -> None:
    def versions(result: dg.ExecuteInProcessResult) -> list[str]:
        events = [event for key in CONNECTIONS for event in result.asset_materializations_for_node(key)]
        return [(event.tags or {})["dagster/data_version"] for event in events]

    first, second = versions(world.materialize(checks=False)), versions(world.materialize(checks=False))
    assert first == second
    assert len(first) == 2
    world.rows = f"id <> (SELECT min(id) FROM '{SAMPLE_DIR / 'tags.csv'}')"
    assert set(versions(world.materialize(checks=False))).isdisjoint(first)


def test_the_declaration_is_that_of_the_csv_loader() -> None:
    for ours, theirs in zip(build_airbyte_assets("", ""), build_ingest_assets("", "", 1.0), strict=True):
        (a,), (b,) = ours.specs, theirs.specs
        assert a.kinds == {"airbyte", "duckdb"}
        assert (a.key, a.group_name, a.owners, a.description) == (b.key, b.group_name, b.owners, b.description)
        assert a.metadata["dagster/column_schema"] == b.metadata["dagster/column_schema"]
        assert ours.op.pool == theirs.op.pool == "warehouse"


def test_values_that_airbyte_nulled_or_that_do_not_fit_are_rejected(world: World) -> None:
    noted = '{"sync_id": 1, "changes": [{"field": "created_on", "change": "NULLED", "reason": "SOURCE_ERROR"}]}'
    elsewhere = noted.replace("created_on", "stars")
    world.afterwards = (
        "ALTER TABLE airbyte_projects ALTER id TYPE VARCHAR; "
        f"UPDATE airbyte_projects SET _airbyte_meta = '{noted}' WHERE rowid = 0; "
        f"UPDATE airbyte_projects SET _airbyte_meta = '{elsewhere}' WHERE rowid = 1; "
        "UPDATE airbyte_projects SET id = '1.5' WHERE rowid = 2"
    )
    result = world.materialize()
    assert metadata(result, "projects")["rejected_rows"] == 2
    assert world.warehouse.row_count("projects") == world.warehouse.row_count("airbyte_projects") - 2
    rows = world.warehouse.fetch_rows(
        "SELECT column_name, reason, file FROM rejects WHERE source_table = 'projects' ORDER BY column_name"
    )
    job = f"Airbyte job {metadata(result, 'projects')['airbyte_job_id']}"
    assert rows == [
        ("created_on", "Airbyte could not keep the value (NULLED, SOURCE_ERROR)", job),
        ("id", '"1.5" is not a whole number that fits BIGINT', job),
    ]
    assert not passed(result)["projects", "no_rejected_rows"]
    assert passed(result)["tags", "no_rejected_rows"]


def test_rejects_of_an_earlier_load_are_removed(world: World) -> None:
    bad = world.home / "bad.csv"
    bad.write_text("id,tag\n1,mlops\nx,other\n")
    world.warehouse.load_csv("tags", bad, {"id": "BIGINT", "tag": "VARCHAR"}, "bad.csv")
    assert world.warehouse.fetch_rows("SELECT count(*) FROM rejects") == [(1,)]
    result = world.materialize()
    assert world.warehouse.fetch_rows("SELECT count(*) FROM rejects") == [(0,)]
    assert all(passed(result).values())


def test_a_connection_without_the_prefix_is_used_as_it_is(world: World) -> None:
    bad = world.home / "bad.csv"
    bad.write_text("id,tag\n1,mlops\nx,other\n")
    world.warehouse.load_csv("tags", bad, {"id": "BIGINT", "tag": "VARCHAR"}, "bad.csv")
    world.target = "{name}"
    first, second = world.materialize(), world.materialize()
    assert first.success
    assert second.success
    assert all(passed(second).values())
    assert "_airbyte_raw_id" in dict(world.warehouse.describe("projects"))
    for key in CONNECTIONS:
        (a,), (b,) = (run.asset_materializations_for_node(key) for run in (first, second))
        assert (a.tags or {})["dagster/data_version"] == (b.tags or {})["dagster/data_version"]


def test_a_sync_that_writes_elsewhere_fails_the_asset(world: World) -> None:
    world.target = "elsewhere"
    assert "with the table prefix airbyte_" in failure(world.materialize(checks=False), "projects")
    world.target, world.afterwards = "airbyte_{name}", "CREATE OR REPLACE TABLE airbyte_projects AS SELECT 1 AS id"
    assert "has no column created_on, title, description" in failure(world.materialize(checks=False), "projects")


def test_a_job_without_counts_is_a_success(world: World) -> None:
    load = world.load

    def load_without_count(name: str) -> Any:
        load(name)

    world.double.load = load_without_count
    shown = metadata(world.materialize(checks=False), "projects")
    assert (shown["airbyte_rows"], shown["airbyte_bytes"]) == (None, None)
    assert shown["dagster/row_count"] > 100


def test_an_empty_landing_table_leaves_the_old_one(world: World) -> None:
    world.materialize(checks=False)
    before = world.warehouse.content_version("projects")
    world.rows = "false"
    assert "left no row in airbyte_projects" in failure(world.materialize(checks=False), "projects")
    assert world.warehouse.content_version("projects") == before


def test_on_bigquery_the_same_sync_gives_the_same_table(world: World, bigquery: BigQueryWarehouse) -> None:
    noted = '{"sync_id": 1, "changes": [{"field": "created_on", "change": "NULLED", "reason": "SOURCE_ERROR"}]}'
    world.rows = "id < 200"  # a few are enough
    world.afterwards = f"UPDATE airbyte_projects SET _airbyte_meta = '{noted}' WHERE id = 101"
    assert metadata(world.materialize(), "projects")["rejected_rows"] == 1

    def load(name: str) -> int:
        columns = {name: column.kind for name, column in TABLES[name].items()}
        bigquery.load_csv("source", SAMPLE_DIR / f"{name}.csv", columns, name)
        bigquery.execute(
            f"CREATE OR REPLACE TABLE airbyte_{name} AS SELECT GENERATE_UUID() AS _airbyte_raw_id, "
            f"""PARSE_JSON(IF(id = 101 AND '{name}' = 'projects', '{noted}', '{{"changes": []}}')) AS _airbyte_meta, """
            f"1 AS _airbyte_generation_id, * FROM source WHERE {world.rows}"
        )
        return bigquery.row_count(f"airbyte_{name}")

    world.double.load = load
    local, world.warehouse = world.warehouse, bigquery
    result = world.materialize()
    assert metadata(result, "projects")["rejected_rows"] == 1
    assert not passed(result)["projects", "no_rejected_rows"]
    rejects = "SELECT source_table, line, column_name, reason FROM rejects"
    assert bigquery.fetch_rows(rejects)[0][2:] == local.fetch_rows(rejects)[0][2:]
    for table in TABLES:
        assert bigquery.describe(table) == local.describe(table)
        assert bigquery.content_version(table) == local.content_version(table)
        assert bigquery.content_version(table, ["id"]) == local.content_version(table, ["id"])
    bigquery.clear_rejects("projects")
    assert bigquery.fetch_rows(rejects) == []
