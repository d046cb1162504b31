"""Runs and steps as jobs of Kubernetes, with the values under deploy/ and the real dagster-k8s.

The other side of the HTTP calls is our double (kubernetes_double.py), and no cluster: it answers as the API does and
runs each container as a process. What makes dagster.yaml of the values is our reading of the chart's templates
(kubernetes_chart.py). The daemon, the code server, the database and what runs in the containers are real. All runs are
launched at once, as most of the time they wait.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

from mlops_platform.settings import PROJECT_ROOT
from mlops_platform_tests.production.kubernetes_chart import (
    CONFIG_MAP,
    DEPLOYMENT,
    IMAGE,
    VALUES,
    container_context,
    instance,
)
from mlops_platform_tests.production.kubernetes_double import Kubernetes, Pod, serving

if TYPE_CHECKING:
    from mlops_platform_tests.production.postgres import Server

pytest_plugins = ["mlops_platform_tests.production.postgres"]

GRAPH = "mlops_platform_tests.production.small_graph"
WAIT_SECONDS = 200.0


@dataclass
class Deployment:
    """What is deployed, and the runs that were launched, by their job."""

    kubernetes: Kubernetes
    instance: dg.DagsterInstance
    folder: Path
    settings: dict[str, str]
    runs: dict[str, str]

    def launch(self, job: str) -> None:
        """Launch a run as a user would."""
        from dagster._cli.job import job_launch_command

        said = CliRunner().invoke(job_launch_command, ["-w", str(self.folder / "workspace.yaml"), "-j", job])
        assert said.exit_code == 0, said.output
        (newest,) = self.instance.get_runs(filters=dg.RunsFilter(job_name=job), limit=1)
        self.runs[job] = newest.run_id

    def run(self, job: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(self.runs[job])
        assert run is not None
        return run

    def ended(self, job: str) -> dg.DagsterRunStatus:
        """Wait for the end of a run."""
        _until(lambda: self.run(job).is_finished)
        return self.run(job).status

    def pods(self, job: str, op: str | None = None) -> list[Pod]:
        """The pods of a run: those of a step, or without one, the one in which the run itself goes."""
        found = [(pod, pod.job["metadata"]["labels"]) for pod in self.kubernetes.made]
        run = self.runs[job]
        return [pod for pod, has in found if has["dagster/run-id"] == run and has.get("dagster/op") == op]

    def said(self, job: str, kind: dg.DagsterEventType) -> dict[str | None, str]:
        """The messages of a run's events of a kind, by step, with the error of each."""
        told = {}
        for entry in self.instance.all_logs(self.runs[job], of_type=kind):
            event = entry.dagster_event
            assert event is not None
            error = event.step_failure_data.error if event.is_step_failure else None
            told[event.step_key] = f"{event.message}\n{error.to_string() if error else ''}"
        return told


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


@contextmanager
def _process(log: Path, command: list[str], environment: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=PROJECT_ROOT, env=environment, stdout=file, stderr=file
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def deployment(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The code server and the daemon, with an instance whose runs go to the double."""
    folder = tmp_path_factory.mktemp("kubernetes")
    url = postgres.new_database()
    settings = {**DEPLOYMENT["env"], "MLOPS_HOME": str(folder / "home")}
    kubernetes = Kubernetes(folder)
    kubernetes.images[IMAGE] = {"DAGSTER_HOME": "/opt/dagster"}
    kubernetes.config_maps[CONFIG_MAP] = settings
    kubernetes.secrets = {
        "mlops-settings": {"MLOPS_POSTGRES_URL": url, "MLOPS_BIGQUERY_PROJECT": "a-project"},
        VALUES["global"]["postgresqlSecretName"]: {"postgresql-password": postgres.password},
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = {"host": "127.0.0.1", "port": port, "location_name": DEPLOYMENT["name"]}
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    (folder / "dagster").mkdir()
    # neither daemon nor code server has more than a container would have
    own = {
        "PATH": os.environ["PATH"],
        "DAGSTER_HOME": str(folder / "dagster"),
        "DAGSTER_PG_PASSWORD": postgres.password,
    }
    coding = {
        **own,
        **settings,
        **kubernetes.secrets["mlops-settings"],
        "DAGSTER_CURRENT_IMAGE": IMAGE,
        "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT": json.dumps(container_context()),
    }
    grpc = ["dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(port), "--module-name", GRAPH]
    with ExitStack() as stack:
        stack.enter_context(serving(kubernetes))
        database = {"hostname": "127.0.0.1", "port": postgres.port, "db_name": urlsplit(url).path[1:]}
        content = instance(own["DAGSTER_HOME"], str(kubernetes.kubeconfig()), database)
        (folder / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(content))
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        for name in ("DAGSTER_HOME", "DAGSTER_PG_PASSWORD"):
            patched.setenv(name, own[name])
        stack.enter_context(_process(folder / "code.log", grpc, coding))
        dagster = stack.enter_context(dg.DagsterInstance.get())
        daemon = ["dagster._daemon", "run", "-w", str(folder / "workspace.yaml")]
        stack.enter_context(_process(folder / "daemon.log", daemon, own))
        _until(lambda: "Started Dagster code server" in (folder / "code.log").read_text())
        deployed = Deployment(kubernetes, dagster, folder, settings, {})
        for job in ("slow_and_patient", "both", "broken_job", "slow_job"):
            deployed.launch(job)
        yield deployed


def test_a_run_and_each_of_its_steps_have_a_job(deployment: Deployment) -> None:
    assert deployment.ended("both") is dg.DagsterRunStatus.SUCCESS
    run = deployment.run("both")
    pods = {op: deployment.pods("both", op) for op in (None, "first", "second")}
    assert [len(found) for found in pods.values()] == [1, 1, 1]
    made = {
        record.asset_key.to_user_string(): record.asset_materialization.metadata
        for key in ("first", "second")
        for record in deployment.instance.fetch_materializations(dg.AssetKey(key), limit=1).records
        if record.asset_key is not None and record.asset_materialization is not None
    }
    for op, (pod,) in pods.items():
        assert pod.process is not None
        assert pod.process.wait(60) == 0
        (container,) = pod.spec["containers"]
        assert container["image"] == IMAGE
        assert container["imagePullPolicy"] == "IfNotPresent"
        assert container["args"][:3] == ["dagster", "api", "execute_step" if op else "execute_run"]
        assert pod.job["metadata"]["labels"]["dagster/job"] == "both"
        # both the launcher's part of the values and the code server's
        assert container["resources"]["limits"] == {"memory": "4Gi"}
        assert pod.spec["securityContext"] == {"fsGroup": 1000}
        assert pod.spec["serviceAccountName"].endswith("user-deployments")
        assert [each["mountPath"] for each in container["volumeMounts"]] == [DEPLOYMENT["env"]["MLOPS_HOME"]]
        assert pod.spec["volumes"] == DEPLOYMENT["volumes"]
        assert pod.job["spec"]["ttlSecondsAfterFinished"] == 86400
        has = pod.environment
        assert has.items() >= deployment.settings.items()
        assert has.items() >= deployment.kubernetes.secrets["mlops-settings"].items()
        if op is not None:
            # the value of the one came to the other through a file
            assert made[op]["pid"].value == pod.process.pid
    assert made["second"]["upstream_pid"].value == made["first"]["pid"].value
    # no secret stands in what the API was sent
    sent = json.dumps([pod.job for found in pods.values() for pod in found])
    assert deployment.kubernetes.secrets[VALUES["global"]["postgresqlSecretName"]]["postgresql-password"] not in sent
    assert run.tags["dagster/image"] == IMAGE


def test_a_failing_step_fails_the_run_with_its_sentence(deployment: Deployment) -> None:
    assert deployment.ended("broken_job") is dg.DagsterRunStatus.FAILURE
    said = deployment.said("broken_job", dg.DagsterEventType.STEP_FAILURE)
    assert "The source has no rows: fill it, and run again." in said["broken"]
    # it failed, its container did not: a job of Kubernetes that fails is one whose process died
    assert [pod.code for pod in deployment.pods("broken_job", "broken")] == [0]


def _gone(deployment: Deployment, pod: str) -> bool:
    return pod not in deployment.kubernetes.pods


def test_a_terminated_run_leaves_no_job(deployment: Deployment) -> None:
    _until(lambda: _begun(deployment, "slow_job", "slow"))
    (run_pod,), (step_pod,) = deployment.pods("slow_job"), deployment.pods("slow_job", "slow")
    assert deployment.instance.run_coordinator.cancel_run(deployment.runs["slow_job"])
    assert deployment.ended("slow_job") is dg.DagsterRunStatus.CANCELED
    for pod in (run_pod, step_pod):
        assert pod.process is not None
        pod.process.wait(60)
        assert pod.job["metadata"]["name"] not in deployment.kubernetes.jobs
        _until(partial(_gone, deployment, pod.name))


def test_a_step_that_ran_out_of_memory_fails_or_is_tried_again(deployment: Deployment) -> None:
    job = "slow_and_patient"
    for op in ("slow", "patient"):
        _until(partial(_begun, deployment, job, op))
        deployment.kubernetes.out_of_memory(deployment.pods(job, op)[0])
    assert deployment.ended(job) is dg.DagsterRunStatus.FAILURE
    (slow,), (killed, again) = deployment.pods(job, "slow"), deployment.pods(job, "patient")
    assert again.process is not None
    again.process.wait(60)
    assert [slow.code, killed.code, again.code] == [137, 137, 0]
    said = deployment.said(job, dg.DagsterEventType.STEP_FAILURE)
    assert set(said) == {"slow"}
    assert f"Discovered failed Kubernetes job {slow.job['metadata']['name']} for step slow" in said["slow"]
    assert set(deployment.said(job, dg.DagsterEventType.STEP_SUCCESS)) == {"patient"}


def _begun(deployment: Deployment, job: str, op: str) -> bool:
    return op in deployment.said(job, dg.DagsterEventType.STEP_START)
