"""The assets `projects` and `tags` loaded by Airbyte: the real dagster-airbyte over HTTP against a server double."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from mlops_platform.assets.airbyte import build_airbyte_assets
from mlops_platform.assets.ingest import TABLES, build_ingest_assets
from mlops_platform.checks.ingest import build_ingest_checks
from mlops_platform.errors import AirbyteError
from mlops_platform.resources.airbyte import Airbyte
from mlops_platform.resources.bigquery import BigQueryWarehouse
from mlops_platform.resources.warehouse import DuckDBWarehouse
from mlops_platform.resources.warehouse_base import Warehouse
from mlops_platform.settings import PROJECT_ROOT, SAMPLE_DIR, Settings
from mlops_platform_tests.production.airbyte_double import (
    CLIENT_ID,
    CLIENT_SECRET,
    CONNECTIONS,
    WORKSPACE,
    AirbyteDouble,
    airbyte,
)

PROJECTS = CONNECTIONS["projects"]
META = (
    "uuid()::VARCHAR AS _airbyte_raw_id, now() AS _airbyte_extracted_at, "
    'json(\'{"sync_id": 1, "changes": []}\') AS _airbyte_meta, 1::BIGINT AS _airbyte_generation_id'
)


class World:
    """A server double that loads the sample into a warehouse, and the platform's side of it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.warehouse: Warehouse = DuckDBWarehouse(path=str(folder / "warehouse.duckdb"))
        self.double = AirbyteDouble(self.load)
        # how the destination writes: a table of its own, a time with its zone, Airbyte's columns
        self.target = "airbyte_{name}"
        self.rows = "true"  # a condition on the rows that the source has
        self.afterwards = ""  # what else the sync of projects does

    def load(self, name: str) -> int:
        table, path = self.target.format(name=name), SAMPLE_DIR / f"{name}.csv"
        typed = "REPLACE (created_on::TIMESTAMPTZ AS created_on)" if name == "projects" else ""
        self.warehouse.execute(
            f"CREATE OR REPLACE TABLE {table} AS SELECT {META}, * {typed} "
            f"FROM read_csv('{path}', header=true) WHERE {self.rows}"
        )
        if name == "projects" and self.afterwards:
            self.warehouse.execute(self.afterwards)
        return self.warehouse.row_count(table)

    def airbyte(self, **changes: Any) -> Airbyte:
        return airbyte(self.double, **changes)

    def materialize(self, checks: bool = True, **changes: Any) -> dg.ExecuteInProcessResult:
        assets = build_airbyte_assets(CONNECTIONS["projects"], CONNECTIONS["tags"])
        return dg.materialize(
            [*assets, *(build_ingest_checks(0.01) if checks else [])],
            resources={"warehouse": self.warehouse, "airbyte": self.airbyte(**changes)},
            raise_on_error=False,
        )

    @property
    def starts(self) -> int:
        return self.double.count("POST .*/jobs")

    @property
    def cancels(self) -> int:
        return self.double.count("DELETE .*")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.double.stop()


def metadata(result: dg.ExecuteInProcessResult, key: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(key)
    return {name: value.value for name, value in event.metadata.items()}


def failure(result: dg.ExecuteInProcessResult, key: str) -> str:
    (event,) = [event for event in result.get_step_failure_events() if event.step_key == key]
    data = event.step_failure_data
    assert data.user_failure_data is not None
    return str(data.user_failure_data.description)


def passed(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], bool]:
    return {
        (check.asset_key.to_user_string(), check.check_name): check.passed
        for check in result.get_asset_check_evaluations()
    }


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


# ---- the assets


def test_both_are_loaded_as_the_csv_loader_would_load_them(world: World, tmp_path: Path) -> None:
    result = world.materialize()
    assert result.success
    assert world.starts == 2
    found = metadata(result, "projects")
    rows = world.warehouse.row_count("projects")
    job = world.double.jobs[found["airbyte_job_id"]]
    assert found["dagster/row_count"] == found["airbyte_rows"] == rows == job.rows
    assert found["airbyte_bytes"] == 100 * rows
    assert found["airbyte_job"] == (
        f"{world.double.url}/workspaces/{WORKSPACE}/connections/{PROJECTS}/timeline?openLogs=true&jobId={job.number}"
    )
    assert (found["rejected_rows"], found["airbyte_joined"]) == (0, False)
    assert "| id | created_on | title | description |" in found["preview"]
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


def test_what_airbyte_could_not_type_and_what_does_not_fit_is_rejected(world: World) -> None:
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


def test_rejects_of_an_earlier_load_go(world: World) -> None:
    bad = world.home / "bad.csv"
    bad.write_text("id,tag\n1,mlops\nx,other\n")
    world.warehouse.load_csv("tags", bad, {"id": "BIGINT", "tag": "VARCHAR"}, "bad.csv")
    assert world.warehouse.fetch_rows("SELECT count(*) FROM rejects") == [(1,)]
    result = world.materialize()
    assert world.warehouse.fetch_rows("SELECT count(*) FROM rejects") == [(0,)]
    assert all(passed(result).values())


def test_a_connection_without_the_prefix_is_taken_as_it_stands(world: World) -> None:
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


def test_a_sync_that_writes_elsewhere_or_nothing_is_no_success(world: World) -> None:
    world.target = "elsewhere"
    assert "with the table prefix airbyte_" in failure(world.materialize(checks=False), "projects")
    world.target, world.afterwards = "airbyte_{name}", "CREATE OR REPLACE TABLE airbyte_projects AS SELECT 1 AS id"
    assert "has no column created_on, title, description" in failure(world.materialize(checks=False), "projects")


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


# ---- the course of a sync


def test_every_status_on_the_way_to_success(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.double.script = ["pending", "queued", "running", "incomplete", "running", "hibernating", "succeeded"]
    assert world.airbyte().sync(PROJECTS).rows
    assert "waits for another job" in caplog.text
    assert "lost an attempt" in caplog.text
    assert "unknown status 'hibernating'; it is taken as running" in caplog.text
    assert world.cancels == 0


@pytest.mark.parametrize(
    ("end", "sentence"), [("failed", "failed; its log says why: http"), ("cancelled", "was cancelled in Airbyte; see")]
)
def test_a_sync_that_ends_otherwise_fails_the_asset(world: World, end: str, sentence: str) -> None:
    world.double.script = ["running", end]
    assert sentence in failure(world.materialize(checks=False), "projects")
    assert not world.warehouse.has_table("projects")
    assert world.cancels == 0


def test_a_stuck_sync_is_cancelled_at_the_time_limit(world: World) -> None:
    world.double.script = ["queued", "running"]
    with pytest.raises(AirbyteError, match=r"not over after 0\.4 s and was cancelled; .*MLOPS_AIRBYTE_POLL_TIMEOUT"):
        world.airbyte(poll_timeout=0.4).sync(PROJECTS)
    assert world.cancels == 1
    assert [job.status for job in world.double.jobs.values()] == ["cancelled"]


def test_it_looks_as_often_as_it_was_told(world: World) -> None:
    world.double.script = ["running"] * 4 + ["succeeded"]
    began = time.monotonic()
    world.airbyte(poll_interval=0.2).sync(PROJECTS)
    assert 0.8 <= time.monotonic() - began < 2.0
    assert world.double.count(r"GET .*/jobs/\d+") == 5


def test_a_running_sync_is_joined(world: World) -> None:
    ended = world.double.make_job(PROJECTS)
    ended.status = "succeeded"
    world.double.script = ["running", "succeeded"]
    job = world.double.make_job(PROJECTS)
    job.status = "queued"
    result = world.airbyte().sync(PROJECTS)
    assert (result.job_id, result.joined) == (job.number, True)
    assert world.starts == 0


# ---- faults


def test_a_run_of_503s_while_polling_is_survived(world: World) -> None:
    world.double.script = ["running", "running", "succeeded"]
    world.double.unavailable, world.double.unavailable_for = 6, re.compile(r"GET .*/jobs/\d+")
    assert world.airbyte().sync(PROJECTS).rows
    assert (world.starts, world.cancels, world.double.unavailable) == (1, 0, 0)


def test_503s_before_the_start_and_at_the_token_are_survived(world: World) -> None:
    world.double.unavailable = 5
    assert world.airbyte().sync(PROJECTS).rows
    assert world.starts == 1


def test_a_server_that_goes_down_and_comes_back_is_survived(world: World) -> None:
    world.double.script = ["running"] * 3 + ["succeeded"]

    def restart() -> None:
        wait_for(lambda: world.double.count(r"GET .*/jobs/\d+") == 1)
        world.double.stop()
        time.sleep(0.5)
        world.double.forget_tokens()
        world.double.start()

    thread = threading.Thread(target=restart)
    thread.start()
    result = world.airbyte(poll_interval=0.1).sync(PROJECTS)
    thread.join()
    assert result.rows
    assert (world.starts, world.cancels) == (1, 0)
    assert world.double.count(".*/token") == 2


def test_a_server_that_stays_away_ends_the_run_at_the_time_limit(world: World) -> None:
    world.double.script = ["running"]
    world.double.unavailable, world.double.unavailable_for = 10**6, re.compile(r"GET .*/jobs/\d+")
    with pytest.raises(AirbyteError, match=r"was away for too long .*answered 503.*sync 100 may still run"):
        world.airbyte(poll_timeout=0.5).sync(PROJECTS)
    assert [job.status for job in world.double.jobs.values()] == ["cancelled"]  # where it can be


def test_a_server_that_is_not_there_is_named(world: World) -> None:
    world.double.stop()
    with pytest.raises(AirbyteError, match=rf"{world.double.url} was away .*cannot connect.*MLOPS_AIRBYTE_URL"):
        world.airbyte(poll_timeout=0.3).sync(PROJECTS)


@pytest.mark.parametrize("late", [0, 2])
def test_a_500_after_the_job_was_made_starts_no_second_one(world: World, late: int) -> None:
    world.double.make_job(PROJECTS).status = "failed"  # an older one is not taken for ours
    world.double.lost_starts, world.double.late_jobs = 1, late
    result = world.airbyte().sync(PROJECTS)
    assert result.rows
    assert (world.starts, len(world.double.jobs), result.job_id) == (1, 2, 101)


def test_a_job_that_ended_before_the_look_is_found(world: World) -> None:
    world.double.lost_starts = 1
    world.double.script = ["succeeded"]
    world.airbyte().sync(PROJECTS)
    assert len(world.double.jobs) == 1


def test_a_start_that_times_out_starts_no_second_job(world: World) -> None:
    world.double.slow_starts = [1.5]
    assert world.airbyte(request_timeout=1).sync(PROJECTS).rows
    assert (world.starts, len(world.double.jobs)) == (1, 1)


def test_a_500_without_a_job_is_tried_again(world: World) -> None:
    world.double.dead_starts = 2
    assert world.airbyte().sync(PROJECTS).rows
    assert (world.starts, len(world.double.jobs)) == (3, 1)


def test_a_reset_that_is_under_way_is_waited_for(world: World) -> None:
    reset = world.double.make_job(PROJECTS, kind="reset")
    threading.Timer(0.3, lambda: setattr(reset, "status", "succeeded")).start()
    assert world.airbyte().sync(PROJECTS).job_id != reset.number


def test_a_reset_that_does_not_end_is_named(world: World) -> None:
    world.double.make_job(PROJECTS, kind="reset")
    with pytest.raises(AirbyteError, match=r"started no sync .*: the reset 100 of it still runs after 0\.\d+ s"):
        world.airbyte(poll_timeout=0.3).sync(PROJECTS)
    assert world.cancels == 0


def test_a_token_that_ends_early_is_renewed(world: World) -> None:
    world.double.script = ["running"] * 20 + ["succeeded"]
    threading.Timer(0.2, world.double.forget_tokens).start()
    assert world.airbyte().sync(PROJECTS).rows
    assert world.double.count(".*/token") == 2


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_named_at_once(world: World, status: int) -> None:
    world.double.refuses = status
    with pytest.raises(AirbyteError, match=rf"refused the credentials .*{status}.*MLOPS_AIRBYTE_CLIENT_ID"):
        world.airbyte().sync(PROJECTS)
    world.double.refuses = None
    with pytest.raises(AirbyteError, match="unknown application") as caught:
        world.airbyte(client_secret=SecretStr("wrong-secret")).sync(PROJECTS)
    assert "wrong-secret" not in str(caught.value)


def test_an_unknown_connection_is_named(world: World) -> None:
    with pytest.raises(AirbyteError, match=r"no such connection.*MLOPS_AIRBYTE_PROJECTS_CONNECTION"):
        world.airbyte().sync("4f9c")


def test_an_address_that_is_none_is_named(world: World) -> None:
    with pytest.raises(AirbyteError, match="set MLOPS_AIRBYTE_URL to one such as"):
        world.airbyte(url="airbyte").sync(PROJECTS)


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ({"url": ""}, "MLOPS_AIRBYTE_URL"),
        ({"workspace_id": ""}, "MLOPS_AIRBYTE_WORKSPACE_ID"),
        ({"client_id": ""}, "MLOPS_AIRBYTE_CLIENT_ID"),
        ({"client_secret": SecretStr("")}, "MLOPS_AIRBYTE_CLIENT_SECRET"),
    ],
)
def test_a_missing_setting_is_named_when_the_asset_runs(world: World, change: dict[str, Any], setting: str) -> None:
    assert failure(world.materialize(checks=False, **change), "projects") == f"Airbyte is not set up: set {setting}."


def test_a_missing_connection_is_named_when_the_asset_runs(world: World) -> None:
    result = dg.materialize(
        build_airbyte_assets(PROJECTS, ""),
        resources={"warehouse": world.warehouse, "airbyte": world.airbyte()},
        raise_on_error=False,
    )
    assert "set MLOPS_AIRBYTE_TAGS_CONNECTION to its id" in failure(result, "tags")


def test_airbyte_cloud_by_its_own_workspace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_airbyte import AirbyteCloudWorkspace

    cloud = world.airbyte(cloud=True, url="")
    assert cloud.client().rest_api_base_url == "https://api.airbyte.com/v1"
    assert (
        cloud.job_url("c", 7)
        == f"https://cloud.airbyte.com/workspaces/{WORKSPACE}/connections/c/timeline?openLogs=true&jobId=7"
    )
    # the address of the cloud is a constant of dagster-airbyte: replaced, the rest of the way is the real one
    monkeypatch.setattr(AirbyteCloudWorkspace, "rest_api_base_url", f"{world.double.url}/v1")
    assert cloud.sync(PROJECTS).rows
    assert world.double.count("POST /v1/jobs") == 1


# ---- processes


def environment(world: World, home: Path) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_", "DBT_"))}
    (home / "dagster").mkdir(exist_ok=True)
    (home / "dagster" / "dagster.yaml").write_text(
        # without the queue, which needs a daemon
        "telemetry: {enabled: false}\n"
        "run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}\n"
    )
    return {
        **clean,
        "DAGSTER_HOME": str(home / "dagster"),
        "MLOPS_HOME": str(home),
        "MLOPS_LOADER": "airbyte",
        "MLOPS_AIRBYTE_URL": world.double.url,
        "MLOPS_AIRBYTE_WORKSPACE_ID": WORKSPACE,
        "MLOPS_AIRBYTE_CLIENT_ID": CLIENT_ID,
        "MLOPS_AIRBYTE_CLIENT_SECRET": CLIENT_SECRET,
        "MLOPS_AIRBYTE_PROJECTS_CONNECTION": CONNECTIONS["projects"],
        "MLOPS_AIRBYTE_TAGS_CONNECTION": CONNECTIONS["tags"],
        "MLOPS_AIRBYTE_POLL_INTERVAL": "0.1",
    }


LOCATION = "mlops_platform_tests.production.airbyte_location"


@pytest.mark.parametrize(
    ("kind", "moment"), [(signal.SIGINT, "polling"), (signal.SIGTERM, "polling"), (signal.SIGTERM, "starting")]
)
def test_a_run_that_is_interrupted_cancels_its_sync(
    world: World, tmp_path: Path, kind: signal.Signals, moment: str
) -> None:
    world.double.script = ["running"]
    if moment == "starting":  # the job is made, and the answer that would name it does not come
        world.double.slow_starts = [60.0]
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster", "job", "execute", "-m", LOCATION, "-j", "load"],
        cwd=PROJECT_ROOT,
        env=environment(world, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: world.double.count(r"GET .*/jobs/\d+") > 2 or bool(moment == "starting" and world.double.jobs))
        process.send_signal(kind)
        assert process.wait(30) != 0
    finally:
        process.kill()
        process.wait()
    assert world.cancels == 1
    assert [job.status for job in world.double.jobs.values()] == ["cancelled"]


def test_a_run_that_is_terminated_in_the_ui_cancels_its_sync(world: World, tmp_path: Path) -> None:
    from dagster_graphql import DagsterGraphQLClient

    world.double.script = ["running"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "dagster_webserver", "-m", LOCATION, "-h", "127.0.0.1", "-p", str(port)],
        cwd=PROJECT_ROOT,
        env=environment(world, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: listens(port))
        client = DagsterGraphQLClient("127.0.0.1", port_number=port)  # what the UI's buttons send
        run = client.submit_job_execution("load")
        wait_for(lambda: world.double.count(r"GET .*/jobs/\d+") > 2)
        client.terminate_run(run)
        wait_for(lambda: client.get_run_status(run) == dg.DagsterRunStatus.CANCELED)
    finally:
        server.terminate()
        server.wait(30)
    assert world.cancels == 1
    assert [job.status for job in world.double.jobs.values()] == ["cancelled"]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_definitions_load_with_nothing_listening_and_without_dagster_airbyte(world: World, tmp_path: Path) -> None:
    world.double.stop()
    code = f"import sys, {LOCATION} as l; assert len(l.defs.assets) == 2; print('dagster_airbyte' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT_ROOT,
        env=environment(world, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (answer.returncode, answer.stdout) == (0, "False\n"), answer.stderr


def test_the_settings_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_AIRBYTE_CLIENT_SECRET", "hidden")
    airbyte = Airbyte.of(Settings())
    assert (airbyte.poll_interval, airbyte.poll_timeout) == (3.0, 3600.0)
    assert airbyte.client_secret.get_secret_value() == "hidden"
    assert "hidden" not in repr(airbyte)
