"""The service under load while its MLflow server ends, hangs and comes back, and a start while it is away."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.service_load import Load, Served, count, served
from mlops_platform.resources.registry.model_registry import CHAMPION
from mlops_platform_tests.production.mlflow_server import mlflow_server
from mlops_platform_tests.serving.conftest import make_registry, tracking_of, wait_for

CLIENTS = 4


def _model(service: Served) -> dict[str, Any]:
    told: dict[str, Any] = requests.get(f"{service.url}/model", timeout=60).json()
    return told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "server"
    made.mkdir()
    return made


def test_a_server_that_ends_or_hangs_fails_no_request(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with mlflow_server(folder) as server:
        make_registry(home, server.uri)
        tracking, settings = tracking_of(home, server.uri), {"MLOPS_MLFLOW_URI": server.uri}

        def following(service: Served, load: Load, version: str) -> None:
            tracking.set_alias(CHAMPION, version, {})
            asked = len(load.answers.versions)
            wait_for(lambda: version in load.answers.versions[asked:])
            wait_for(lambda: _model(service)["registry_problem"] is None)

        def serving_on(service: Served, load: Load, version: str, said: str) -> None:
            wait_for(lambda: said in (_model(service)["registry_problem"] or ""))
            asked = len(load.answers.versions)
            wait_for(lambda: len(load.answers.versions) > asked + 20)
            assert set(load.answers.versions[asked:]) == {version}
            ready = requests.get(f"{service.url}/readyz", timeout=60)
            assert (ready.status_code, ready.json()["model_version"]) == (200, version)
            assert said in ready.json()["registry_problem"]

        with served(home, settings=settings) as service:
            load = Load(service.url, CLIENTS, [{"title": "a"}])
            following(service, load, "2")
            server.stop()
            serving_on(service, load, "2", f"{server.uri} does not answer (ConnectionError): start it, or set")
            server.start()
            following(service, load, "1")
            server.signal(signal.SIGSTOP)
            serving_on(service, load, "1", f"{server.uri} does not answer (ReadTimeout)")
            server.signal(signal.SIGCONT)
            following(service, load, "2")
            answers = load.stop()
            assert answers.failures == []
            os.killpg(service.process.pid, signal.SIGKILL)
        log = count(home, answers.told)
        assert (log.events, log.lost, log.doubled) == (len(answers.told), 0, 0)

        server.stop()
        with served(home, settings=settings) as service:
            assert _model(service)["version"] == "2"  # from the copy on the disk
            assert server.uri in _model(service)["registry_problem"]
        with served(tmp_path / "new home", settings=settings, ready=False) as service:
            wait_for(lambda: _answers(service))
            for path in ("readyz", "model"):
                answer = requests.get(f"{service.url}/{path}", timeout=60)
                assert answer.status_code == 503
                said = f"No model can be served yet: The MLflow server {server.uri} does not answer (ConnectionError): "
                assert answer.json()["detail"].startswith(said)
            assert said.partition(": ")[2] in service.said()
            server.start()
            wait_for(service.ready)
            assert _model(service)["version"] == "2"


def _answers(service: Served) -> bool:
    try:
        return requests.get(f"{service.url}/healthz", timeout=10).ok
    except requests.ConnectionError:
        return False
