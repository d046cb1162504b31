"""Airbyte and processes: an interrupted run cancels its sync, and the graph loads while the server is down."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.resources.airbyte.workspace import Airbyte
from mlops_platform.settings import PROJECT_ROOT, Settings
from mlops_platform_tests.production.airbyte_double import (
    CLIENT_ID,
    CLIENT_SECRET,
    CONNECTIONS,
    WORKSPACE,
)
from mlops_platform_tests.production.airbyte_world import (
    World,
    wait_for,
)


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
    if moment == "starting":  # the job is created, and the response that would name it does not come
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
