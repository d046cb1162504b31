"""The assets `projects` and `tags`, materialized."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import xxhash

from mlops_platform.assets.ingest import TABLES, build_ingest_assets, markdown_table
from mlops_platform.resources.csv_ingest.source_file import SOURCE_FINGERPRINT
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse


class Ingest:
    """Two source files, a warehouse, an instance; `run` materializes both assets."""

    def __init__(self, folder: Path) -> None:
        self.projects, self.tags = folder / "projects.csv", folder / "tags.csv"
        self.projects.write_text("id,created_on,title,description,stars\n2,2026-03-01,B,y,5\n1,2026-01-01,A,x,\n")
        self.tags.write_text("id,tag\n1,mlops\nx,other\n")
        self.warehouse = DuckDBWarehouse(path=str(folder / "w.duckdb"))
        self.instance = dg.DagsterInstance.ephemeral()
        self.assets = build_ingest_assets(str(self.projects), str(self.tags), 5.0)

    def run(self, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            self.assets,
            instance=self.instance,
            resources={"warehouse": self.warehouse},
            raise_on_error=raise_on_error,
        )

    def version(self, key: str) -> str:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(key))
        assert event is not None
        assert event.asset_materialization is not None
        return (event.asset_materialization.tags or {})["dagster/data_version"]


@pytest.fixture
def ingest(tmp_path: Path) -> Ingest:
    return Ingest(tmp_path)


def metadata(result: dg.ExecuteInProcessResult, key: str) -> dict[str, object]:
    (event,) = result.asset_materializations_for_node(key)
    return {name: value.value for name, value in event.metadata.items()}


def test_what_the_ui_shows(ingest: Ingest) -> None:
    projects, tags = ingest.assets
    spec = projects.get_asset_spec()
    assert (spec.key, tags.get_asset_spec().key) == (dg.AssetKey("projects"), dg.AssetKey("tags"))
    assert (spec.group_name, list(spec.owners), spec.kinds) == ("ingest", ["team:data"], {"duckdb", "csv"})
    assert spec.description
    assert projects.op.pool == tags.op.pool == "warehouse"
    schema = spec.metadata["dagster/column_schema"]
    assert {column.name: column.type for column in schema.columns} == {
        name: column.kind for name, column in TABLES["projects"].items()
    }
    assert all(column.description for column in schema.columns)


def test_loads_both_and_says_what_it_did(ingest: Ingest) -> None:
    result = ingest.run()
    found = metadata(result, "projects")
    assert found["dagster/row_count"] == 2
    assert found["rejected_lines"] == 0
    assert found["source"] == str(ingest.projects)
    assert found[SOURCE_FINGERPRINT] == xxhash.xxh3_128(ingest.projects.read_bytes()).hexdigest()
    assert found["ignored_columns"] == "stars"
    assert found["created_on"] == "2026-01-01 00:00:00 to 2026-03-01 00:00:00"
    assert str(found["preview"]).splitlines()[2] == "| 2 | 2026-03-01 00:00:00 | B | y |"
    assert metadata(result, "tags")["rejected_lines"] == 1
    assert ingest.warehouse.describe("projects") == [(n, c.kind) for n, c in TABLES["projects"].items()]


def test_the_data_version_follows_the_content(ingest: Ingest) -> None:
    ingest.run()
    first = ingest.version("projects")
    assert first == ingest.warehouse.content_version("projects")
    ingest.projects.write_text("id,created_on,title,description\n1,2026-01-01,A,x\n2,2026-03-01T00:00Z,B,y\n")
    ingest.run()
    assert ingest.version("projects") == first
    ingest.projects.write_text("id,created_on,title,description\n1,2026-01-01,A,z\n2,2026-03-01,B,y\n")
    ingest.run()
    assert ingest.version("projects") != first


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "does not exist; check the path."), ("id;tag\n1;a\n", "is separated by semicolons")],
)
def test_a_bad_source_fails_with_its_sentence_and_the_old_table_stays(
    ingest: Ingest, content: str | None, sentence: str
) -> None:
    ingest.run()
    if content is None:
        ingest.tags.unlink()
    else:
        ingest.tags.write_text(content)
    result = ingest.run(raise_on_error=False)
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    data = failure.step_failure_data
    assert data.user_failure_data is not None
    assert str(data.user_failure_data.description).startswith(f"{ingest.tags} {sentence}")
    assert ingest.warehouse.fetch_rows("SELECT * FROM tags") == [(1, "mlops")]


def test_a_preview_cannot_break_out_of_its_cell() -> None:
    table = markdown_table(["a"], [("x | y\n![i](u) <b>",), (None,), ("z" * 100,)], 20)
    assert table.splitlines()[2:] == [r"| x \| y \!\[i\](u) \<b\> |", "|  |", f"| {'z' * 19}… |"]
