"""Whose sync it is, which job is found whatever the clocks say, when to ask again, and counts that are no numbers."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_platform.assets.airbyte import build_airbyte_assets
from mlops_platform.errors import AirbyteError
from mlops_platform.resources.warehouse import DuckDBWarehouse
from mlops_platform_tests.production.airbyte_double import (
    CONNECTIONS,
    AirbyteDouble,
    Job,
    airbyte,
)

PROJECTS = CONNECTIONS["projects"]
DAY = 86_400.0


@pytest.fixture
def double() -> Iterator[AirbyteDouble]:
    double = AirbyteDouble(lambda _: 7)
    yield double
    double.stop()


def history(double: AirbyteDouble, jobs: int) -> None:
    for _ in range(jobs):
        double.make_job(PROJECTS).status = "succeeded"


def begun(double: AirbyteDouble, *script: str, ago: float = 0.0) -> Job:
    """A sync of somebody else's, which runs."""
    job = double.make_job(PROJECTS)
    job.status, job.script, job.started = "running", list(script), job.started - ago
    return job


# ---- which job


@pytest.mark.parametrize("later", [0, 250])
def test_a_sync_that_has_run_for_days_is_joined(double: AirbyteDouble, later: int) -> None:
    job = begun(double, "running", "succeeded", ago=5 * DAY)
    history(double, later)
    result = airbyte(double).sync(PROJECTS)
    assert (result.job_id, result.joined) == (job.number, True)
    assert double.count("POST .*/jobs") == 0


@pytest.mark.parametrize("ahead", [-5 * DAY, 5 * DAY])
def test_the_clock_of_the_server_does_not_matter(double: AirbyteDouble, ahead: float) -> None:
    double.ahead = ahead
    job = begun(double, "succeeded")
    assert airbyte(double).sync(PROJECTS).job_id == job.number
    double.lost_starts = 1
    assert airbyte(double).sync(PROJECTS).job_id == job.number + 1
    assert (double.count("POST .*/jobs"), len(double.jobs)) == (1, 2)


def test_a_long_history_costs_a_few_requests(double: AirbyteDouble) -> None:
    history(double, 450)
    double.lost_starts, double.script = 1, ["succeeded"]
    result = airbyte(double).sync(PROJECTS)
    assert (result.job_id, result.joined) == (550, False)
    assert double.count("GET .*/jobs") <= 10
    assert double.count("POST .*/jobs") == 1


def test_jobs_that_are_none_are_left_out(double: AirbyteDouble) -> None:
    listed = double._list

    def with_rubbish(query: Any) -> Any:
        status, answer = listed(query)
        return status, {**answer, "data": [7, {"jobId": "x"}, {"status": "running"}, *answer["data"]]}

    double._list = with_rubbish  # type: ignore[method-assign]
    assert airbyte(double).sync(PROJECTS).job_id == 100


@pytest.mark.parametrize("kind", ["reset", "clear", "refresh"])
def test_a_job_of_another_kind_is_waited_for_and_named(
    double: AirbyteDouble, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = double.make_job(PROJECTS, kind=kind)
    job.status = "running"
    with pytest.raises(AirbyteError, match=rf"the {kind} 100 of it still runs after 0\.\d+ s .*POLL_TIMEOUT"):
        airbyte(double, poll_timeout=0.3).sync(PROJECTS)
    assert len(double.jobs) == 1
    threading.Timer(0.3, lambda: setattr(job, "status", "succeeded")).start()
    assert airbyte(double).sync(PROJECTS).job_id == 101
    assert f"The sync waits for the {kind} 100" in caplog.text


# ---- whose sync


def test_a_joined_sync_is_left_running_at_the_time_limit(
    double: AirbyteDouble, caplog: pytest.LogCaptureFixture
) -> None:
    job = begun(double)
    with pytest.raises(AirbyteError, match=r"not over after 0\.2 s and goes on, since somebody else started it"):
        airbyte(double, poll_timeout=0.2).sync(PROJECTS)
    assert (job.status, double.count("DELETE .*")) == ("running", 0)
    assert "is left running" in caplog.text


def interrupted(double: AirbyteDouble) -> None:
    def interrupt() -> None:
        while double.count(r"GET .*/jobs/\d+") < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        airbyte(double).sync(PROJECTS)
    thread.join()


def test_an_interrupt_leaves_a_joined_sync_running(double: AirbyteDouble) -> None:
    job = begun(double)
    interrupted(double)
    assert (job.status, double.count("DELETE .*")) == ("running", 0)


def test_an_interrupt_cancels_the_sync_of_a_start_that_was_not_answered(double: AirbyteDouble) -> None:
    double.script, double.lost_starts = ["running"], 1
    interrupted(double)
    assert [job.status for job in double.jobs.values()] == ["cancelled"]


@pytest.mark.parametrize("link", ["dagster/parent_run_id", "dagster/root_run_id", None])
def test_a_retry_owns_the_sync_of_the_run_before(double: AirbyteDouble, tmp_path: Path, link: str | None) -> None:
    def materialize(tags: dict[str, str]) -> str:
        result = dg.materialize(
            build_airbyte_assets(PROJECTS, "")[:1],
            resources={
                "warehouse": DuckDBWarehouse(path=str(tmp_path / "warehouse.duckdb")),
                "airbyte": airbyte(double, poll_timeout=0.3),
            },
            instance=instance,
            tags=tags,
            raise_on_error=False,
        )
        assert not result.success
        return result.run_id

    double.script = ["running"]
    double.unavailable, double.unavailable_for = 100, re.compile("DELETE")  # as if the run was killed
    with dg.DagsterInstance.ephemeral() as instance:
        first = materialize({})
        double.unavailable = 0
        (job,) = double.jobs.values()
        assert job.status == "running"
        materialize({link: first} if link else {})
    assert job.status == ("cancelled" if link else "running")
    assert double.count("POST .*/jobs") == 1


# ---- when to ask again


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("method", [r"GET .*/jobs/\d+", r"GET .*/jobs$", ".*/token"])
def test_the_pause_that_airbyte_asks_for_is_kept(
    double: AirbyteDouble, method: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    double.headers = {"Retry-After": "1"}
    double.unavailable, double.unavailable_for, double.unavailable_status = 2, re.compile(method), status
    assert airbyte(double).sync(PROJECTS).rows == 7
    assert caplog.text.count(f"answered {status}); trying again in 1 s") == 2
    assert double.count("POST .*/jobs") == 1


def test_a_start_that_comes_too_often_is_tried_again_in_time(double: AirbyteDouble) -> None:
    double.headers = {"Retry-After": "1"}
    double.unavailable, double.unavailable_for, double.unavailable_status = 1, re.compile("POST .*/jobs$"), 429
    result = airbyte(double).sync(PROJECTS)
    assert (result.joined, double.count("POST .*/jobs"), len(double.jobs)) == (False, 2, 1)


def test_a_date_is_read_by_the_clock_of_the_server(double: AirbyteDouble, caplog: pytest.LogCaptureFixture) -> None:
    double.ahead = -5 * DAY
    double.headers = {"Retry-After": formatdate(time.time() + double.ahead + 2, usegmt=True)}
    double.unavailable, double.unavailable_for, double.unavailable_status = 1, re.compile(r"GET .*/jobs/\d+"), 429
    assert airbyte(double).sync(PROJECTS).rows == 7
    assert re.search(r"trying again in [123] s", caplog.text)


@pytest.mark.parametrize("said", ["86400", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_pause_ends_at_the_time_limit(double: AirbyteDouble, said: str) -> None:
    double.headers = {"Retry-After": said}
    double.unavailable, double.unavailable_for, double.unavailable_status = 99, re.compile(r"GET .*/jobs/\d+"), 429
    with pytest.raises(AirbyteError, match=r"away for too long .*answered 429"):
        airbyte(double, poll_timeout=0.3).sync(PROJECTS)
    assert double.count(r"GET .*/jobs/\d+") == 2


@pytest.mark.parametrize("said", ["soon", "-5", "1.5", "", "Fri, 99 Dec 2026"])
def test_a_pause_that_is_none_is_passed_over(double: AirbyteDouble, said: str) -> None:
    double.headers = {"Retry-After": said}
    double.unavailable, double.unavailable_for, double.unavailable_status = 1, re.compile(r"GET .*/jobs/\d+"), 429
    assert airbyte(double).sync(PROJECTS).rows == 7


# ---- counts


@pytest.mark.parametrize(
    ("said", "read"),
    [("764", 764), (764, 764), (" 5 ", 5), (0, 0), ("many", None), (-1, None), ({}, None), (True, None), ([3], None)],
)
def test_counts_are_numbers_or_nothing(double: AirbyteDouble, tmp_path: Path, said: Any, read: int | None) -> None:
    warehouse = DuckDBWarehouse(path=str(tmp_path / "warehouse.duckdb"))

    def load(_: str) -> Any:
        warehouse.execute("CREATE OR REPLACE TABLE airbyte_tags AS SELECT 1 AS id, 'mlops' AS tag")
        return 1

    double.load = load
    body = Job.body
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "body", lambda job: {**body(job), "rowsSynced": said, "bytesSynced": said})
        result = dg.materialize(
            build_airbyte_assets("", CONNECTIONS["tags"])[1:],
            resources={"warehouse": warehouse, "airbyte": airbyte(double)},
        )
    (event,) = result.asset_materializations_for_node("tags")
    shown = {name: value.value for name, value in event.metadata.items()}
    assert (shown["airbyte_rows"], shown["airbyte_bytes"], shown["dagster/row_count"]) == (read, read, 1)
