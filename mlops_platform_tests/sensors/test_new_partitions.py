"""Real ticks of the sensor on partitions, with the real graph on DuckDB: one run a change, and no loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan
from dagster._core.storage.dagster_run import DagsterRunStatus

from mlops_platform.build import build_definitions
from mlops_platform.errors import WarehouseError
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.resources.warehouse.partitions import Partition
from mlops_platform.sensors.new_partitions import TABLES, build_partition_sensor
from mlops_platform.settings import Settings


class Watcher:
    """Ticks the sensor and keeps its cursor and its events, as the daemon does."""

    def __init__(self, home: Path, on_change: Literal["run", "observe"] = "run") -> None:
        self.sensor = build_partition_sensor(on_change)
        self.instance = dg.DagsterInstance.ephemeral()
        self.defs = build_definitions(Settings(home=home))
        self.warehouse: Any = DuckDBWarehouse(path=str(home / "warehouse.duckdb"), lock_timeout=5)
        self.cursor: str | None = None
        self.skipped = ""
        self.conditions: Any = None

    def tick(self) -> list[dg.RunRequest]:
        resources = {"warehouse": self.warehouse}
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=resources) as context:
            data = self.sensor.evaluate_tick(context)
        self.cursor, self.skipped = data.cursor, str(data.skip_message)
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        return list(data.run_requests or [])

    def names(self) -> list[str]:
        """The partitions that a tick names in the tags of its runs; a list for each run."""
        return [request.tags["mlops/partitions"] for request in self.tick()]

    def run(self, job: str) -> dg.ExecuteInProcessResult:
        return self.defs.resolve_job_def(job).execute_in_process(instance=self.instance, raise_on_error=False)

    def requested(self) -> set[str]:
        """What one evaluation of the automation conditions asks for, of the tables next to the raw ones."""
        result = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.conditions)
        self.conditions = result.cursor
        return {
            each.key.to_user_string()
            for each in result.results
            if isinstance(each.key, dg.AssetKey) and result.get_num_requested(each.key)
        } & {"labeled_projects", "unlabeled_projects"}

    def relabel(self, tag: str) -> int:
        """An external process gives one project another tag; its id."""
        ((key,),) = self.warehouse.fetch_rows("select min(id) from tags")
        self.warehouse.execute("update tags set tag = ? where id = ?", [tag, key])
        return int(key)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_the_platforms_own_load_starts_nothing(home: Path) -> None:
    watcher = Watcher(home)
    assert watcher.tick() == []
    assert watcher.skipped == "The warehouse has no table projects and tags."
    assert watcher.run("dataops").success
    assert watcher.tick() == []
    assert watcher.run("dataops").success
    assert watcher.tick() == []
    # a load seen already explains no later change, nor the change back to what it loaded
    ((key, tag),) = watcher.warehouse.fetch_rows("select min(id), min_by(tag, id) from tags")
    watcher.relabel("other" if tag != "other" else "mlops")
    first = watcher.tick()
    watcher.warehouse.execute("update tags set tag = ? where id = ?", [tag, key])
    second = watcher.tick()
    assert [len(first), len(second)] == [1, 1]
    assert first[0].run_key != second[0].run_key


def test_a_change_is_asked_for_once_with_its_partitions(home: Path) -> None:
    watcher = Watcher(home)
    assert watcher.run("dataops").success
    assert watcher.tick() == []
    # a late change to an old partition, and a new one
    watcher.warehouse.execute("update projects set title = 'late' where id = (select min(id) from projects)")
    watcher.warehouse.execute("insert into projects values (1000001, '2031-05-06 10:00', 'new', 'a new project')")
    cursor = watcher.cursor
    (request,) = watcher.tick()
    ((day,),) = watcher.warehouse.fetch_rows("select strftime(created_on, '%Y%m%d') from projects where title = 'late'")
    assert request.tags["mlops/partitions"] == f"projects${day}, projects$20310506"
    assert request.tags["mlops/partition_count"] == "2"
    assert watcher.tick() == []
    # a tick that died before its cursor was kept repeats its key
    watcher.cursor = cursor
    assert [again.run_key for again in watcher.tick()] == [request.run_key]
    # the run that is asked for makes the tables downstream, loads nothing, and is no reason for another
    assert watcher.run("from_raw").success
    ids = watcher.warehouse.fetch_rows("select id from unlabeled_projects where title = 'new'")
    assert ids == [(1000001,)]
    assert watcher.tick() == []


def test_gone_rows_and_tables(home: Path) -> None:
    watcher = Watcher(home)
    assert watcher.run("dataops").success
    watcher.tick()
    ((day,),) = watcher.warehouse.fetch_rows("select max(strftime(created_on, '%Y%m%d')) from projects")
    watcher.warehouse.execute("delete from projects where strftime(created_on, '%Y%m%d') = ?", [day])
    (request,) = watcher.tick()
    assert request.tags["mlops/partitions"] == f"projects${day}"
    assert request.tags["mlops/partitions_gone"] == "1"
    watcher.warehouse.execute("drop table tags")
    cursor = watcher.cursor
    assert watcher.tick() == []
    assert watcher.skipped == "The warehouse has no table tags."
    assert watcher.cursor == cursor
    watcher.warehouse.execute("create table tags (id bigint, tag varchar)")
    assert watcher.names() == ["tags$__UNPARTITIONED__"]
    assert watcher.tick() == []


class Answering:
    """A warehouse that answers as BigQuery does, with the table's own time."""

    def __init__(self, count: int, created: str = "1") -> None:
        ids = [f"{20_000_000 + n}" for n in range(count)]
        self.found = [
            Partition("projects", each, f"{1_600_000_000_000_000 + n}", 1, created) for n, each in enumerate(ids)
        ]
        self.found.append(Partition("tags", "__UNPARTITIONED__", "5", count, "1"))

    def partitions(self, tables: object) -> list[Partition]:
        assert tables == TABLES
        return self.found

    def content_version(self, table: str) -> str:
        return f"content of {table}"

    def clear_rejects(self, table: str) -> None:
        assert table in TABLES


def test_rejects_of_an_earlier_load_go_with_its_rows(home: Path) -> None:
    watcher = Watcher(home)
    assert watcher.run("dataops").success
    watcher.tick()
    insert = "insert into rejects values (?, 'a file', 2, 'id', 'a reason', 'a text')"
    for table in TABLES:
        watcher.warehouse.execute(insert, [table])
    watcher.relabel("other")
    watcher.relabel("mlops")
    assert len(watcher.tick()) == 1
    assert watcher.warehouse.fetch_rows("select source_table from rejects") == [("projects",)]


def test_tables_that_the_platform_never_loaded_are_checked_too(home: Path) -> None:
    watcher = Watcher(home)
    assert watcher.run("dataops").success
    watcher.warehouse.execute("drop table rejects")
    watcher.relabel("other")
    watcher.relabel("mlops")
    watcher.warehouse.execute("update projects set title = title || '.'")
    assert len(watcher.tick()) == 1
    assert watcher.run("from_raw").success


def test_a_first_tick_on_ten_thousand_partitions_asks_for_one_run(home: Path) -> None:
    watcher = Watcher(home)
    watcher.warehouse = Answering(10_000)
    (request,) = watcher.tick()
    assert request.tags["mlops/partition_count"] == "10001"
    assert request.tags["mlops/partitions"].endswith(" and 9,981 more")
    assert len(request.tags["mlops/partitions"]) < 500
    assert watcher.cursor is not None
    assert len(watcher.cursor) < 27_000
    assert watcher.tick() == []
    watcher.warehouse = Answering(10_000, created="2")
    (request,) = watcher.tick()
    assert request.tags["mlops/tables_recreated"] == "projects"
    assert watcher.tick() == []


def test_a_failing_query_skips_and_keeps_the_cursor(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher(home)
    watcher.warehouse = Answering(3)
    watcher.tick()
    cursor = watcher.cursor

    def fail(*_: object) -> list[Partition]:
        raise WarehouseError("The dataset d is not there; create it.")

    with monkeypatch.context() as patch:
        patch.setattr(Answering, "partitions", fail)
        assert watcher.tick() == []
    assert watcher.skipped == "The partitions cannot be read: The dataset d is not there; create it."
    assert watcher.cursor == cursor
    assert watcher.tick() == []
    assert watcher.skipped.startswith("No partition has changed")


def test_a_load_in_progress_is_waited_for(home: Path) -> None:
    watcher = Watcher(home)
    job = watcher.defs.resolve_job_def("dataops")
    plan = create_execution_plan(job)
    run = watcher.instance.create_run_for_job(job, execution_plan=plan, status=DagsterRunStatus.STARTED)
    watcher.warehouse = Answering(3)
    assert watcher.tick() == []
    assert watcher.skipped == "A run is loading projects and tags; the next tick polls again."
    watcher.instance.report_run_failed(run)
    assert len(watcher.tick()) == 1


def test_from_raw_is_held_back_by_the_checks_of_the_raw_tables(home: Path) -> None:
    watcher = Watcher(home)
    assert watcher.run("dataops").success
    key = watcher.relabel("gardening")
    result = watcher.run("from_raw")
    assert not result.success
    assert result.get_asset_materialization_events() == []
    tag = watcher.warehouse.fetch_rows("select tag from labeled_projects where id = ?", [key])
    assert tag != [("gardening",)]


def test_an_external_load_drives_the_conditions_after_its_checks(home: Path) -> None:
    watcher = Watcher(home, "observe")
    assert watcher.run("dataops").success
    assert watcher.tick() == []
    watcher.requested()  # what follows the first load is not asked for again

    # new versions are seen at once, and held back until the checks of the new data have passed
    watcher.relabel("gardening")
    (request,) = watcher.tick()
    assert request.tags["mlops/partitions"] == "tags$__UNPARTITIONED__"
    event = watcher.instance.get_latest_materialization_event(dg.AssetKey("tags"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.tags is not None
    assert event.asset_materialization.tags["dagster/data_version"] == watcher.warehouse.content_version("tags")
    assert watcher.requested() == set()
    assert watcher.sensor.job_name == "raw_checks"
    assert not watcher.run("raw_checks").success
    assert watcher.requested() == set()

    # what the sensor reported is no news to it
    assert watcher.tick() == []
    watcher.relabel("mlops" if _first_tag(watcher) != "mlops" else "other")
    assert len(watcher.tick()) == 1
    assert watcher.requested() == set()
    assert watcher.run("raw_checks").success
    assert watcher.requested() == {"labeled_projects", "unlabeled_projects"}


def _first_tag(watcher: Watcher) -> str:
    ((tag,),) = watcher.warehouse.fetch_rows("select min_by(tag, id) from labeled_projects")
    return str(tag)
