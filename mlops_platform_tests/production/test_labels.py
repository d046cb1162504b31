"""People's labels in `tags` where Airbyte loads it, and where the warehouse is BigQuery."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from mlops_platform.assets.airbyte import build_airbyte_assets
from mlops_platform.assets.ingest import build_ingest_assets
from mlops_platform.checks.labels import build_conflict_check
from mlops_platform.labeling.queue import read_queue
from mlops_platform.resources.labels.label_log import Label, append
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform_tests.labeling.home import ROWS, LabelHome
from mlops_platform_tests.production.airbyte_double import CONNECTIONS, AirbyteDouble, airbyte

CV, NLP = "computer-vision", "natural-language-processing"
SOURCE = [(1, "mlops"), (2, "other"), (4, "mlops"), (4, "other"), (6, "mlops")]
LABELS = [(1, CV, "ann"), (3, CV, "ann"), (3, NLP, "bob"), (6, "other", "ann"), (6, "", "ann")]
TABLES = {
    "tags": [(1, CV), (2, "other"), (3, NLP), (4, "mlops"), (4, "other"), (6, "mlops")],
    "label_conflicts": [(1, CV, True, False), (1, "mlops", False, False), (3, CV, False, True), (3, NLP, True, True)],
}


def say(log: Path) -> None:
    append(log, [Label(*each[:2], f"2026-03-01T10:0{n}:00+00:00", each[2], "page") for n, each in enumerate(LABELS)])


def expect_labeled(warehouse: Warehouse, result: dg.ExecuteInProcessResult) -> str:
    assert result.success
    assert sorted(warehouse.fetch_rows("SELECT id, tag FROM tags")) == TABLES["tags"]
    conflicts = warehouse.fetch_rows("SELECT id, tag, won, unresolved FROM label_conflicts")
    assert sorted(conflicts) == TABLES["label_conflicts"]
    assert warehouse.row_count("labels") == len(LABELS)
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    (event,) = result.asset_materializations_for_node("tags")
    assert event.metadata["labels_by_people"].value == 2
    version = (event.tags or {})["dagster/data_version"]
    assert version == warehouse.content_version("tags")
    return version


class AirbyteTags:
    """The asset `tags` that Airbyte loads into a DuckDB file."""

    def __init__(self, folder: Path, target: str) -> None:
        self.log, self.target = folder / "events.db", target
        self.warehouse = DuckDBWarehouse(path=str(folder / "w.duckdb"))
        self.double = AirbyteDouble(self._load)

    def _load(self, _: str) -> int:
        values = ", ".join(f"({key}, '{tag}')" for key, tag in SOURCE)
        self.warehouse.execute(
            f"CREATE OR REPLACE TABLE {self.target} AS SELECT id::BIGINT AS id, tag, 'x' AS _airbyte_raw_id "
            f"FROM (VALUES {values}) AS source(id, tag)"
        )
        return len(SOURCE)

    def run(self) -> dg.ExecuteInProcessResult:
        assets = build_airbyte_assets(CONNECTIONS["projects"], CONNECTIONS["tags"], self.log)
        return dg.materialize(
            [*assets, build_conflict_check()],
            selection=dg.AssetSelection.assets("tags"),
            resources={"warehouse": self.warehouse, "airbyte": airbyte(self.double)},
            raise_on_error=False,
        )


def test_airbyte_and_people(tmp_path: Path) -> None:
    tags = AirbyteTags(tmp_path, "airbyte_tags")
    try:
        assert tags.run().success
        assert sorted(tags.warehouse.fetch_rows("SELECT id, tag FROM tags")) == SOURCE
        say(tags.log)
        first = expect_labeled(tags.warehouse, tags.run())
        assert expect_labeled(tags.warehouse, tags.run()) == first
        # a damaged log is reported before Airbyte starts anything
        starts = tags.double.count("POST .*/jobs")
        tags.log.write_bytes(b"nonsense" * 1000)
        assert not tags.run().success
        assert tags.double.count("POST .*/jobs") == starts
        assert sorted(tags.warehouse.fetch_rows("SELECT id, tag FROM tags")) == TABLES["tags"]
    finally:
        tags.double.stop()


def test_a_table_that_is_airbytes_own_is_not_rewritten(tmp_path: Path) -> None:
    tags = AirbyteTags(tmp_path, "tags")
    try:
        assert tags.run().success
        say(tags.log)
        result = tags.run()
        (event,) = result.get_step_failure_events()
        stated = event.step_failure_data.user_failure_data
        assert stated is not None
        assert "let the loader write to a landing table with the prefix airbyte_" in str(stated.description)
        assert sorted(tags.warehouse.fetch_rows("SELECT id, tag FROM tags")) == SOURCE
    finally:
        tags.double.stop()


def test_bigquery_and_people(bigquery: BigQueryWarehouse, tmp_path: Path) -> None:
    source, log = tmp_path / "tags.csv", tmp_path / "events.db"
    source.write_text("id,tag\n" + "".join(f"{key},{tag}\n" for key, tag in SOURCE))

    def run() -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [*build_ingest_assets(str(source), str(source), 5.0, log), build_conflict_check()],
            selection=dg.AssetSelection.assets("tags"),
            resources={"warehouse": bigquery},
            raise_on_error=False,
        )

    assert run().success
    say(log)
    first = expect_labeled(bigquery, run())
    assert expect_labeled(bigquery, run()) == first
    log.unlink()
    assert run().success
    assert sorted(bigquery.fetch_rows("SELECT id, tag FROM tags")) == SOURCE
    assert bigquery.row_count("labels") == bigquery.row_count("label_conflicts") == 0


def test_the_queue_is_read_from_bigquery(bigquery: BigQueryWarehouse, tmp_path: Path) -> None:
    local = LabelHome(tmp_path / "home").warehouse
    for table, order in (("labeling_queue", "rank"), ("labeled_projects", "id")):
        local.export_parquet(f"SELECT * FROM {table} ORDER BY {order}", tmp_path / "table.parquet")
        bigquery.replace_rows(table, tmp_path / "table.parquet", {})
    queue = read_queue(bigquery)
    assert [row["id"] for row in queue.rows] == [row[0] for row in ROWS]
    assert [row["given"] for row in queue.rows if row["reason"] == "suspect"] == [NLP]
    assert [count for _, count in queue.classes] == [1, 0, 0, 0]
