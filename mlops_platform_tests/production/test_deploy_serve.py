"""The prediction service as compose and Kubernetes run it: their files, and their commands against a real MLflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes import client as kubernetes

from benchmarks.service_load import count, served
from mlops_platform.cli.serve import STOP_SECONDS
from mlops_platform.serving import log_uploader
from mlops_platform.serving.app import create_app
from mlops_platform.serving.champion import FIRST_POLL_SECONDS
from mlops_platform.settings import PROJECT_ROOT, Settings
from mlops_platform_tests.production.mlflow_server import MlflowServer, mlflow_server
from mlops_platform_tests.serving.conftest import make_registry, wait_for

DEPLOY = PROJECT_ROOT / "deploy"
MODELS = {
    "Service": kubernetes.V1Service,
    "StatefulSet": kubernetes.V1StatefulSet,
    "PodDisruptionBudget": kubernetes.V1PodDisruptionBudget,
}
PROBES = ("startup_probe", "readiness_probe", "liveness_probe")


def _objects() -> dict[str, Any]:
    """What is in serve.yaml, by kind, as Kubernetes' own client understands it; a key that it does not know raises."""
    text = (DEPLOY / "serve.yaml").read_text(encoding="utf-8")
    plain = {each["kind"]: each for each in yaml.safe_load_all(text)}
    found = {kind: k8s_model_from_dict(MODELS[kind], k8s_snake_case_dict(MODELS[kind], plain[kind])) for kind in plain}
    assert kubernetes.ApiClient().sanitize_for_serialization(found) == plain
    return found


def _container() -> Any:
    (container,) = _objects()["StatefulSet"].spec.template.spec.containers
    return container


def _compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def test_the_service_finds_its_pods_and_they_their_port() -> None:
    objects = _objects()
    assert set(objects) == set(MODELS)
    spec, labels = objects["StatefulSet"].spec, objects["StatefulSet"].spec.template.metadata.labels
    assert objects["Service"].spec.selector == spec.selector.match_labels == labels
    assert objects["PodDisruptionBudget"].spec.selector.match_labels == labels
    assert spec.service_name == objects["Service"].metadata.name
    container = _container()
    (port,) = container.ports
    assert container.command[container.command.index("--port") + 1] == str(port.container_port)
    assert objects["Service"].spec.ports[0].target_port == port.name
    assert {getattr(container, probe).http_get.port for probe in PROBES} == {port.name}


def test_the_log_of_a_pod_outlives_it() -> None:
    spec, container = _objects()["StatefulSet"].spec, _container()
    (claim,) = spec.volume_claim_templates
    (mount,) = container.volume_mounts
    home = next(each.value for each in container.env if each.name == "MLOPS_HOME")
    assert (mount.name, mount.mount_path) == (claim.metadata.name, home)
    kept = f'USER mlops\nVOLUME ["{home}"]'
    assert kept in (DEPLOY / "Dockerfile").read_text()
    assert f"--uid {spec.template.spec.security_context.run_as_user} " in (DEPLOY / "Dockerfile").read_text()
    assert spec.template.spec.security_context.fs_group == spec.template.spec.security_context.run_as_user
    assert spec.template.spec.termination_grace_period_seconds > STOP_SECONDS + log_uploader.STOP_SECONDS


def test_a_pod_is_not_restarted_before_the_first_look_is_over() -> None:
    probe = _container().startup_probe
    assert probe.period_seconds * probe.failure_threshold > 2 * FIRST_POLL_SECONDS


def test_the_probes_ask_what_needs_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    paths = create_app().openapi()["paths"]
    container = _container()
    asked = {probe: getattr(container, probe).http_get.path for probe in PROBES}
    assert asked == {"startup_probe": "/healthz", "readiness_probe": "/readyz", "liveness_probe": "/healthz"}
    for path in asked.values():
        assert "security" not in paths[path]["get"]


def test_its_settings_are_settings_and_its_image_is_the_others() -> None:
    known = {f"MLOPS_{name.upper()}" for name in Settings.model_fields}
    container = _container()
    assert known.issuperset(each.name for each in container.env)
    (token,) = [each for each in container.env if each.value is None]
    assert token.name == token.value_from.secret_key_ref.key == "MLOPS_SERVE_TOKEN"
    helm = yaml.safe_load((DEPLOY / "helm-values.yaml").read_text(encoding="utf-8"))
    (deployment,) = helm["dagster-user-deployments"]["deployments"]
    assert [each.secret_ref.name for each in container.env_from] == [each["name"] for each in deployment["envSecrets"]]
    assert container.image == _compose()["services"]["serve"]["image"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as made:
        make_registry(tmp_path_factory.mktemp("training"), made.uri)
        yield made


def _as_written(where: str) -> tuple[list[str], dict[str, str], list[str]]:
    """Command and environment, without what only the user has, and the command that asks after its health."""
    if where == "compose":
        service = _compose()["services"]["serve"]
        own = {name: value for name, value in service["environment"].items() if not value.startswith("${")}
        return service["command"], own, service["healthcheck"]["test"][1:]
    container = _container()
    probe = "import urllib.request as r; r.urlopen('http://127.0.0.1:8000" + container.readiness_probe.http_get.path
    return container.command, {e.name: e.value for e in container.env if e.value}, ["python", "-c", f"{probe}')"]


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_the_command_starts_and_answers(server: MlflowServer, tmp_path: Path, where: str) -> None:
    """BigQuery is not there: the key file that it is told of is missing, which must not keep it from answering."""
    command, own, health = _as_written(where)
    program, *arguments = command
    assert program == "mlops"
    given: Mapping[str, str] = {
        **own,
        "MLOPS_HOME": str(tmp_path / "home"),
        "MLOPS_MLFLOW_URI": server.uri,
        "MLOPS_SERVE_TOKEN": "secret",
        "MLOPS_BIGQUERY_PROJECT": "a-project",
        "MLOPS_BIGQUERY_KEYFILE": str(tmp_path / "missing.json"),
        "MLOPS_SERVE_LOG_SECONDS": "0.5",
    }
    token = {"Authorization": "Bearer secret"}
    program_here = [sys.executable, "-m", "mlops_platform.cli.main", *arguments]
    with served(tmp_path / "home", command=program_here, settings=given) as service:
        asked = [part.replace("http://127.0.0.1:8000", service.url) for part in health[1:]]
        subprocess.run([sys.executable, *asked], check=True, timeout=60)
        assert requests.get(f"{service.url}/model", timeout=60).status_code == 401
        answer = requests.post(f"{service.url}/predict", json={"title": "a"}, headers=token, timeout=60)
        (told,) = answer.json()["predictions"]

        said: list[str] = []  # once: another worker, which has nothing to ship, may be asked next

        def is_said() -> bool:
            found: str | None = requests.get(f"{service.url}/model", headers=token, timeout=60).json()["log_problem"]
            said.extend([found] if found else [])
            return bool(said)

        wait_for(is_said)
        assert "missing.json" in said[0]
        os.kill(service.process.pid, signal.SIGTERM)
        service.process.wait(60)
    # what BigQuery has not taken waits for the next start
    log = count(tmp_path / "home", [told["id"]])
    assert (log.events, log.lost) == (1, 0)
