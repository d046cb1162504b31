"""The course of a sync: its ends, its limits, what it survives, and the sentence where it does not."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from mlops_platform.assets.airbyte import build_airbyte_assets
from mlops_platform.errors import AirbyteError
from mlops_platform_tests.production.airbyte_double import (
    WORKSPACE,
)
from mlops_platform_tests.production.airbyte_world import (
    PROJECTS,
    World,
    failure,
    wait_for,
)


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
