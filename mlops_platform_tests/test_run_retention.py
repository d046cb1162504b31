"""Runs that were really made are pruned from real instances; what the platform asks of them stays the same."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from mlops_platform import run_retention
from mlops_platform.build import build_definitions
from mlops_platform.cli.instance import open_instance
from mlops_platform.cli.status import collect
from mlops_platform.settings import PROJECT_ROOT, Settings
from mlops_platform_tests import retained


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path), {"telemetry": {"enabled": False}}) as made:
        yield made


@pytest.mark.parametrize("changes", [False, True])
def test_what_is_asked_of_the_instance_stays_the_same(instance: dg.DagsterInstance, changes: bool) -> None:
    retained.fill_and_prune(instance, changes=changes)


def test_events_files_and_compute_logs_go_with_a_run(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    runs = [retained.run(instance, "talks") for _ in range(4)]
    logs = [tmp_path / "storage" / run / "compute_logs" for run in runs]
    files = [tmp_path / "history" / "runs" / f"{run}.db" for run in runs]
    assert all(any("talking" in each.read_text() for each in path.glob("*.out")) for path in logs)
    assert all(path.exists() for path in files)
    counts = run_retention.prune(instance, retained.NOW, [])
    # the latest materialization, and the one that it is compared with
    assert (counts["deleted"], counts["kept: latest of an asset"], counts["files freed"]) == (2, 2, 2)
    assert [path.exists() for path in files] == [path.exists() for path in logs] == [False, False, True, True]
    assert not list((tmp_path / "history" / "runs").glob(f"{runs[0]}*"))
    with sqlite3.connect(tmp_path / "history" / "runs" / "index.db") as index:
        assert index.execute("select count(*) from event_logs where run_id = ?", (runs[0],)).fetchone() == (0,)


def test_a_second_time_there_is_nothing_to_do(instance: dg.DagsterInstance) -> None:
    for _ in range(4):
        retained.run(instance, "talks")
    run_retention.prune(instance, retained.NOW, [])
    again = run_retention.prune(instance, retained.NOW, [])
    assert (again["deleted"], again["kept: latest of an asset"], again["files freed"]) == (0, 2, 0)


def test_young_and_unfinished_runs_stay(instance: dg.DagsterInstance) -> None:
    for _ in range(4):
        retained.run(instance, "talks")
    job = retained.defs.resolve_job_def("talks")
    waiting = instance.create_run_for_job(job).run_id
    assert run_retention.prune(instance, datetime.now(UTC) - timedelta(days=1), [])["deleted"] == 0
    counts = run_retention.prune(instance, retained.NOW, [])
    assert (counts["deleted"], counts["kept: not finished"]) == (2, 1)
    assert instance.has_run(waiting)


def test_more_runs_than_a_page(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept runs lie between deleted ones, and pages end on either."""
    monkeypatch.setattr(run_retention, "PAGE", 3)
    for _ in range(5):
        retained.run(instance, "fails")
    kept = {retained.run(instance, job) for job in ("talks", "observes", "talks", "follows", "checks")}
    for _ in range(4):
        retained.run(instance, "fails")
    kept.add(retained.run(instance, "fails"))  # what became of the last try
    counts = run_retention.prune(instance, retained.NOW, retained.CHECKS)
    assert {each.run_id for each in instance.get_runs()} == kept
    assert counts["deleted"] == 9
    assert (counts["kept: latest of an asset"], counts["kept: latest of a check"]) == (5, 1)


def test_the_first_try_of_a_kept_run_stays(instance: dg.DagsterInstance) -> None:
    first, other = (retained.run(instance, "checks") for _ in range(2))
    job = retained.defs.resolve_job_def("talks")
    tags = {"dagster/root_run_id": first, "dagster/parent_run_id": first}
    run = instance.create_run_for_job(job, root_run_id=first, parent_run_id=first, tags=tags)
    again = execute_run(InMemoryJob(job), run, instance).run_id
    assert run_retention.prune(instance, retained.NOW, [])["kept: retried by a kept run"] == 1
    group = instance.get_run_group(again)
    assert group is not None
    assert {run.run_id for run in group[1]} == {first, again}
    assert not instance.has_run(other)


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b", "c"]))
def parted() -> None:
    """Has partitions."""


def test_every_partition_stays_made(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_retention, "PAGE", 2)
    for partition in ("a", "b", "a", "c", "c", "c", "c"):
        dg.materialize([parted], instance=instance, partition_key=partition)
    made = instance.get_materialized_partitions(parted.key)
    assert made == {"a", "b", "c"}
    # of `a` the first; of `c` two: the last ones of the asset stay anyhow
    assert run_retention.prune(instance, retained.NOW, [])["deleted"] == 3
    assert instance.get_materialized_partitions(parted.key) == made


KILLED = """
import os, sys
from datetime import UTC, datetime
import dagster as dg
from mlops_platform import run_retention

with dg.DagsterInstance.local_temp(sys.argv[1]) as instance:
    whole, count = type(instance).delete_run, [0]

    def delete_run(self, run_id):
        count[0] += 1
        if count[0] == 2:
            os.kill(os.getpid(), 9)
        whole(self, run_id)

    type(instance).delete_run = delete_run
    run_retention.prune(instance, datetime(2100, 1, 1, tzinfo=UTC), [])
"""


def test_what_a_killed_call_left_the_next_one_deletes(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    runs = [retained.run(instance, "talks") for _ in range(5)]
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, cwd=PROJECT_ROOT)
    assert died.returncode == -9
    assert instance.get_runs_count() == 4
    counts = run_retention.prune(instance, retained.NOW, [])
    assert (counts["deleted"], counts["files freed"]) == (2, 3)
    assert sorted(path.stem for path in (tmp_path / "history" / "runs").glob("*.db") if path.stem != "index") == sorted(
        runs[-2:]
    )


@pytest.mark.long
def test_the_job_prunes_by_the_setting_and_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job of the real graph, on the project's dagster.yaml; `mlops status` says the same before and after."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    settings = Settings(home=tmp_path, run_retention_days=7)
    defs = build_definitions(settings)
    with open_instance(settings) as instance:
        for _ in range(4):
            assert defs.resolve_job_def("dataops").execute_in_process(instance=instance).success
    before = collect(settings)
    with sqlite3.connect(settings.dagster_home / "history" / "runs.db") as runs:
        # two days more than the setting for the second, and a day less for the first
        for age, order in ((9, "desc limit 3"), (6, "asc limit 1")):
            runs.execute(
                f"update runs set update_timestamp = ? where id in (select id from runs order by id {order})",
                ((datetime.now(UTC) - timedelta(days=age)).strftime("%Y-%m-%d %H:%M:%S.%f"),),
            )
    with open_instance(settings) as instance:
        result = defs.resolve_job_def("retention").execute_in_process(instance=instance)
        (event,) = [each for each in result.all_events if each.event_type is dg.DagsterEventType.STEP_OUTPUT]
        metadata = {name: value.value for name, value in event.step_output_data.metadata.items()}
        assert metadata["deleted"] == 1
        assert metadata["kept: latest of an asset"] == 2
        assert instance.get_runs_count() == 4
    assert collect(settings) == before
    assert before["assets"]["projects"]["data_version"]
