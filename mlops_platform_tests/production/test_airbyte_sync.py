"""A sync from start to end: how it ends, which faults it survives, and the sentence where it does not."""

from __future__ import annotations

import os
import re
import signal
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

# ---- how it ends


def test_every_status_on_the_way_to_success(world: World) -> None:
    world.double.script = ["pending", "queued", "running", "incomplete", "running", "succeeded"]
    assert world.airbyte().sync(PROJECTS).rows
    assert (world.starts, world.cancels) == (1, 0)


@pytest.mark.parametrize(("end", "reason"), [("failed", "Job failed: 100"), ("cancelled", "Job was cancelled: 100")])
def test_a_sync_that_does_not_succeed_fails_the_asset(world: World, end: str, reason: str) -> None:
    world.double.script = ["running", end]
    assert failure(world.materialize(checks=False), "projects") == (
        f"Airbyte at {world.double.url} did not sync connection {PROJECTS} ({reason}): see "
        f"{world.double.url}/workspaces/{WORKSPACE}/connections/{PROJECTS}/timeline."
    )
    assert not world.warehouse.has_table("projects")
    assert world.cancels == 0


def test_a_sync_is_cancelled_at_the_time_limit(world: World) -> None:
    world.double.script = ["queued", "running"]
    with pytest.raises(AirbyteError, match=r"Timeout: .* 0\.4 seconds.*raise MLOPS_AIRBYTE_POLL_TIMEOUT"):
        world.airbyte(poll_timeout=0.4).sync(PROJECTS)
    assert world.cancels == 1
    assert [job.status for job in world.double.jobs.values()] == ["cancelled"]


def test_it_polls_at_the_interval(world: World) -> None:
    world.double.script = ["running"] * 4 + ["succeeded"]
    began = time.monotonic()
    world.airbyte(poll_interval=0.2).sync(PROJECTS)
    assert 0.8 <= time.monotonic() - began < 2.0
    assert world.double.count(r"GET .*/jobs/\d+") == 5


# ---- a sync that somebody else started


@pytest.mark.parametrize("status", ["running", "queued"])
def test_a_running_sync_is_polled_instead_of_starting_another(world: World, status: str) -> None:
    world.double.make_job(PROJECTS).status = "succeeded"
    world.double.script = ["running", "succeeded"]
    job = world.double.make_job(PROJECTS)
    job.status = status
    result = world.airbyte().sync(PROJECTS)
    assert (result.job_id, result.joined) == (job.number, True)
    assert world.starts == 0


def test_of_two_running_syncs_the_newer_is_polled(world: World) -> None:
    for _ in range(2):
        world.double.make_job(PROJECTS).status = "running"
    assert world.airbyte().sync(PROJECTS).job_id == 101
    assert world.starts == 0


def test_a_polled_sync_is_left_running_at_the_time_limit(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.double.script = ["running"]
    job = world.double.make_job(PROJECTS)
    job.status = "running"
    with pytest.raises(AirbyteError, match="Timeout"):
        world.airbyte(poll_timeout=0.2).sync(PROJECTS)
    assert (job.status, world.cancels) == ("running", 0)
    assert "Airbyte job 100 is left running" in caplog.text


@pytest.mark.parametrize("ours", [True, False])
def test_an_interrupt_cancels_only_the_sync_that_it_started(world: World, ours: bool) -> None:
    world.double.script = ["running"]
    if not ours:
        world.double.make_job(PROJECTS).status = "running"

    def interrupt() -> None:
        wait_for(lambda: world.double.count(r"GET .*/jobs/\d+") >= 3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        world.airbyte().sync(PROJECTS)
    thread.join()
    assert [job.status for job in world.double.jobs.values()] == ["cancelled" if ours else "running"]


def test_a_running_reset_is_waited_for(world: World) -> None:
    reset = world.double.make_job(PROJECTS, kind="reset")
    threading.Timer(0.3, lambda: setattr(reset, "status", "succeeded")).start()
    assert world.airbyte().sync(PROJECTS).job_id != reset.number


def test_a_reset_that_does_not_end_fails_the_sync(world: World) -> None:
    world.double.make_job(PROJECTS, kind="reset")
    with pytest.raises(AirbyteError, match=r"started no job; another job of the connection may be running"):
        world.airbyte(request_max_retries=3).sync(PROJECTS)
    assert world.cancels == 0


# ---- faults


def test_503s_while_polling_are_survived(world: World) -> None:
    world.double.script = ["running", "running", "succeeded"]
    world.double.unavailable, world.double.unavailable_for = 6, re.compile(r"GET .*/jobs/\d+")
    assert world.airbyte().sync(PROJECTS).rows
    assert (world.starts, world.cancels, world.double.unavailable) == (1, 0, 0)


def test_503s_before_the_start_and_at_the_token_are_survived(world: World) -> None:
    world.double.unavailable = 5
    assert world.airbyte().sync(PROJECTS).rows
    assert world.starts == 1


def test_a_restart_of_the_server_is_survived(world: World) -> None:
    world.double.script = ["running"] * 3 + ["succeeded"]

    def restart() -> None:
        wait_for(lambda: world.double.count(r"GET .*/jobs/\d+") == 1)
        world.double.stop()
        time.sleep(0.5)
        world.double.start()

    thread = threading.Thread(target=restart)
    thread.start()
    result = world.airbyte(poll_interval=0.1, request_retry_delay=0.1).sync(PROJECTS)
    thread.join()
    assert result.rows
    assert (world.starts, world.cancels) == (1, 0)


def test_a_server_that_stays_unavailable_ends_the_run(world: World) -> None:
    world.double.script = ["running"]
    world.double.unavailable, world.double.unavailable_for = 10**6, re.compile(r"GET .*/jobs/\d+")
    with pytest.raises(AirbyteError, match=rf"{PROJECTS} \(Max retries \(5\) exceeded with url: .*/jobs/100\)"):
        world.airbyte(request_max_retries=5).sync(PROJECTS)
    assert [job.status for job in world.double.jobs.values()] == ["cancelled"]  # where it can be


def test_a_cancellation_that_fails_does_not_hide_the_reason(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.double.script = ["running"]
    world.double.unavailable, world.double.unavailable_for = 10**6, re.compile(r"DELETE .*")
    with pytest.raises(AirbyteError, match="Timeout"):
        world.airbyte(poll_timeout=0.2).sync(PROJECTS)
    assert "Airbyte job 100 was not cancelled and may still run" in caplog.text


def test_a_server_that_is_down_is_named(world: World) -> None:
    world.double.stop()
    with pytest.raises(AirbyteError, match=rf"Airbyte at {world.double.url} did not sync connection {PROJECTS}"):
        world.airbyte(request_max_retries=2).sync(PROJECTS)


@pytest.mark.parametrize("late", [0, 2])
def test_a_500_after_the_job_was_created_starts_no_second_job(world: World, late: int) -> None:
    world.double.make_job(PROJECTS).status = "failed"  # an older one is not taken for ours
    world.double.lost_starts, world.double.late_jobs = 1, late
    result = world.airbyte().sync(PROJECTS)
    assert result.rows
    assert (world.starts, len(world.double.jobs), result.job_id, result.joined) == (1, 2, 101, False)


def test_a_job_that_ended_before_the_listing_is_found(world: World) -> None:
    world.double.lost_starts = 1
    world.double.script = ["succeeded"]
    world.airbyte().sync(PROJECTS)
    assert len(world.double.jobs) == 1


def test_a_start_that_times_out_starts_no_second_job(world: World) -> None:
    world.double.slow_starts = [1.5]
    assert world.airbyte(request_timeout=1).sync(PROJECTS).rows
    assert (world.starts, len(world.double.jobs)) == (1, 1)


def test_a_500_without_a_job_is_retried(world: World) -> None:
    world.double.dead_starts = 2
    assert world.airbyte().sync(PROJECTS).rows
    assert (world.starts, len(world.double.jobs)) == (3, 1)


# ---- settings


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_named_without_retries(world: World, status: int) -> None:
    world.double.refuses = status
    with pytest.raises(AirbyteError, match=rf"refused the credentials \(HTTP {status}\).*MLOPS_AIRBYTE_CLIENT_ID"):
        world.airbyte().sync(PROJECTS)
    world.double.refuses = None
    with pytest.raises(AirbyteError, match=r"refused the credentials \(HTTP 403\)") as caught:
        world.airbyte(client_secret=SecretStr("wrong-secret")).sync(PROJECTS)
    assert "wrong-secret" not in str(caught.value)
    assert len(world.double.requests) == 3


def test_an_unknown_connection_is_named(world: World) -> None:
    with pytest.raises(AirbyteError, match=r"refused connection 4f9c \(HTTP 404\).*MLOPS_AIRBYTE_PROJECTS_CONNECTION"):
        world.airbyte().sync("4f9c")


def test_a_malformed_address_is_named(world: World) -> None:
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


def test_airbyte_cloud_has_its_own_addresses(world: World) -> None:
    cloud = world.airbyte(cloud=True, url="")
    client = cloud.client()
    assert client.rest_api_base_url == "https://api.airbyte.com/v1"
    assert client.configuration_api_base_url == "https://cloud.airbyte.com/api/v1"
    assert cloud.timeline_url("c") == f"https://cloud.airbyte.com/workspaces/{WORKSPACE}/connections/c/timeline"
    local = {
        "rest_api_base_url": f"{world.double.url}/v1",
        "configuration_api_base_url": f"{world.double.url}/api/v1",
    }
    assert client.model_copy(update=local).sync_and_poll(PROJECTS).job_details["rowsSynced"]
    assert world.double.count("POST /v1/jobs") == 1
