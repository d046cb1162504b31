"""The files under deploy/, as far as they can be tried without Docker and a cluster."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance import DagsterInstance
from dagster._core.instance.config import ConcurrencyConfig
from dagster_k8s import K8sRunLauncher
from dagster_k8s.job import DagsterK8sJobConfig, UserDefinedDagsterK8sConfig, construct_dagster_k8s_job
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes import client as kubernetes

from mlops_platform.cli.serve import STOP_SECONDS
from mlops_platform.serving import log_uploader
from mlops_platform.settings import PROJECT_ROOT, Settings

DEPLOY = PROJECT_ROOT / "deploy"
BIN = Path(sys.executable).parent


def _yaml(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    return loaded


def _commands() -> list[tuple[str, list[str]]]:
    services = _yaml("docker-compose.yml")["services"]
    ours = {name: each for name, each in services.items() if each["image"].startswith("mlops-platform")}
    found = [(name, each["command"]) for name, each in ours.items()]
    checks = [(name, each["healthcheck"]["test"][1:]) for name, each in ours.items() if "healthcheck" in each]
    lines = re.findall(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    return [*found, *checks, *(("Dockerfile", yaml.safe_load(line)) for line in lines)]


@pytest.mark.parametrize(("service", "command"), _commands(), ids=lambda value: str(value)[:60])
def test_the_image_has_the_commands_that_are_run(service: str, command: list[str]) -> None:
    program, *arguments = command
    if program == "python":
        compile(arguments[1], service, "exec")
        return
    assert program in {each.name for each in entry_points(group="console_scripts")}
    words = []
    for argument in arguments:
        if argument.startswith("-"):
            break
        words.append(argument)
    told = subprocess.run([BIN / program, *words, "--help"], capture_output=True, text=True, check=True)
    known = set(re.findall(r"--[a-z-]+", told.stdout))
    assert known.issuperset(each for each in arguments if each.startswith("--"))


def test_the_services_are_there_and_find_each_other() -> None:
    compose = _yaml("docker-compose.yml")
    services = compose["services"]
    assert set(services) == {"postgres", "mlflow", "code", "webserver", "daemon", "redis", "worker", "serve"}
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in services[needed]
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in compose["volumes"]
        # the UIs have no login
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    # Dagster keeps what the steps print in the folder `storage` of its home; the services of steps and of the UI use it
    home = re.findall(r"DAGSTER_HOME=(\S+)", (DEPLOY / "Dockerfile").read_text())[0]
    for name in ("code", "webserver", "worker"):
        assert f"storage:{home}/storage" in services[name]["volumes"]
    (server,) = _yaml("workspace.yaml")["load_from"]
    assert server["grpc_server"]["host"] in services
    command = services["code"]["command"]
    assert str(server["grpc_server"]["port"]) == command[command.index("--port") + 1]
    assert command[command.index("--module-name") + 1] == "mlops_platform.definitions"


def test_workers_start_with_their_profile_and_find_the_broker() -> None:
    services = _yaml("docker-compose.yml")["services"]
    assert {name for name, service in services.items() if "profiles" in service} == {"redis", "worker"}
    assert services["worker"]["environment"]["MLOPS_CELERY_BROKER"] == "redis://redis:6379/0"
    assert services["code"]["environment"] == services["worker"]["environment"]


def test_the_workers_of_kubernetes_run_as_those_of_compose() -> None:
    """Read into the model of Kubernetes' client, which knows no other keys."""
    plain = _yaml("worker.yaml")
    deployment = k8s_model_from_dict(kubernetes.V1Deployment, k8s_snake_case_dict(kubernetes.V1Deployment, plain))
    assert kubernetes.ApiClient().sanitize_for_serialization(deployment) == plain
    pod = deployment.spec.template
    assert pod.metadata.labels == deployment.spec.selector.match_labels
    (container,) = pod.spec.containers
    compose, helm = _yaml("docker-compose.yml")["services"]["worker"], _yaml("helm-values.yaml")
    assert (container.image, container.command) == (compose["image"], compose["command"])
    assert compose["stop_grace_period"] == f"{pod.spec.termination_grace_period_seconds // 60}m"
    assert {mount.name for mount in container.volume_mounts} == {volume.name for volume in pod.spec.volumes}
    secrets = {variable.name: variable.value_from for variable in container.env if variable.value_from}
    assert secrets["DAGSTER_PG_PASSWORD"].secret_key_ref.name == helm["global"]["postgresqlSecretName"]
    (deployed,) = helm["dagster-user-deployments"]["deployments"]
    assert [source.secret_ref.name for source in container.env_from] == [
        each["name"] for each in deployed["envSecrets"]
    ]


def test_the_service_keeps_its_log_in_a_volume_of_its_own_and_asks_for_a_token() -> None:
    services = _yaml("docker-compose.yml")["services"]
    serve = services["serve"]
    (home,) = re.findall(r"MLOPS_HOME=(\S+?)(?: |$)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    (volume,) = serve["volumes"]
    name, _, place = volume.partition(":")
    assert place == home
    users = [each for each in services.values() if any(v.startswith(f"{name}:") for v in each["volumes"])]
    assert users == [serve]
    assert serve["environment"]["MLOPS_SERVE_TOKEN"].startswith("${MLOPS_SERVE_TOKEN:?")
    port = serve["command"][serve["command"].index("--port") + 1]
    assert serve["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f":{port}/healthz" in serve["healthcheck"]["test"][-1]
    # uvicorn ends the requests under way, then the log is uploaded
    assert int(serve["stop_grace_period"].removesuffix("s")) > STOP_SECONDS + log_uploader.STOP_SECONDS


def test_the_settings_in_the_files_are_settings() -> None:
    known = {f"MLOPS_{name.upper()}" for name in Settings.model_fields}
    compose, helm = _yaml("docker-compose.yml"), _yaml("helm-values.yaml")
    (deployment,) = helm["dagster-user-deployments"]["deployments"]
    named = [each for name in ("code", "serve") for each in compose["services"][name]["environment"]]
    named += deployment["env"]
    settings = [name for name in named if name.startswith("MLOPS_")]
    assert settings
    assert known.issuperset(settings)
    Settings(**{name.removeprefix("MLOPS_").lower(): value for name, value in deployment["env"].items()})


def test_no_file_holds_a_secret() -> None:
    for path in DEPLOY.iterdir():
        text = path.read_text(encoding="utf-8")
        # what stands where an address has its password
        for password in re.findall(r"://[^\s:@/]+:([^\s@]+)@", text):
            assert re.fullmatch(r"\$\{\w+:\?[^}]*\}", password) or password == "password", path  # noqa: S105
        for name, value in re.findall(r"^\s*(\w*(?:PASSWORD|SECRET|TOKEN|Password)\w*): *(\S.*)$", text, re.MULTILINE):
            allowed = value.startswith("${") or name.endswith(("SecretName", "PasswordSecret"))
            assert allowed, f"{path}: {name}"


def test_kubernetes_runs_by_the_same_limits() -> None:
    helm, dagster = _yaml("helm-values.yaml"), _yaml("dagster.yaml")
    assert helm["additionalInstanceConfig"]["concurrency"] == dagster["concurrency"]
    daemon = helm["dagsterDaemon"]
    assert daemon["runRetries"]["maxRetries"] == dagster["run_retries"]["max_retries"]
    assert helm["retention"]["sensor"]["purgeAfterDays"] == dagster["retention"]["sensor"]["purge_after_days"]
    # a pod may take longer to start than a process
    assert dagster["run_monitoring"].pop("start_timeout_seconds") < daemon["runMonitoring"]["startTimeoutSeconds"]
    assert dagster["run_monitoring"].items() <= _snake(daemon["runMonitoring"]).items()
    images = [helm["dagsterWebserver"]["image"], daemon["image"], *_deployment_images(helm)]
    assert all(image == images[0] for image in images)
    compose = _yaml("docker-compose.yml")["services"]["code"]["image"]
    assert compose == f"{images[0]['repository']}:{images[0]['tag']}"
    pinned = re.search(r"^dagster==(\S+)$", (PROJECT_ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert f"--version {pinned[1]}" in (DEPLOY / "helm-values.yaml").read_text()


def _deployment_images(helm: dict[str, Any]) -> list[dict[str, str]]:
    return [each["image"] for each in helm["dagster-user-deployments"]["deployments"]]


def _snake(values: Any) -> Any:
    """The chart writes Dagster's own names of what its values call in camel case."""
    if not isinstance(values, dict):
        return values
    return {re.sub("([A-Z])", r"_\1", key).lower(): _snake(value) for key, value in values.items()}


def _limits(home: Path, instance: dict[str, Any]) -> ConcurrencyConfig:
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(instance))
    with DagsterInstance.from_config(str(home)) as made:
        return made.get_concurrency_config()


def test_dagster_takes_the_instance_of_the_values(tmp_path: Path) -> None:
    """A key that Dagster does not know is an error there, and so would the webserver's pod be."""
    helm = _yaml("helm-values.yaml")
    retention = _snake(helm["retention"])
    assert retention.pop("enabled")
    coordinator = helm["dagsterDaemon"]["runCoordinator"]
    # disabled, the chart writes a coordinator without a queue, and its own queue brings a limit that ours contradicts
    assert coordinator["enabled"]
    assert coordinator["type"] == "CustomRunCoordinator"
    instance = {
        "run_coordinator": coordinator["config"]["customRunCoordinator"],
        "run_monitoring": _snake(helm["dagsterDaemon"]["runMonitoring"]),
        "run_retries": _snake(helm["dagsterDaemon"]["runRetries"]),
        "telemetry": helm["telemetry"],
        "retention": retention,
    }
    # the chart appends these keys to the ones it writes: one that is there twice is no YAML
    assert not set(instance) & set(helm["additionalInstanceConfig"])
    dagster = _yaml("dagster.yaml")
    del dagster["storage"]
    limits = _limits(tmp_path / "chart", {**instance, **helm["additionalInstanceConfig"]})
    assert limits == _limits(tmp_path / "compose", dagster)
    assert limits.run_queue_config is not None


def test_the_launcher_takes_its_values() -> None:
    launcher = _snake(_yaml("helm-values.yaml")["runLauncher"]["config"]["k8sRunLauncher"])
    names = {
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": _yaml("helm-values.yaml")["global"]["postgresqlSecretName"],
        "dagster_home": "/opt/dagster/dagster_home",
    }
    taken = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), {**names, **launcher})
    assert taken.success, taken.errors


def test_kubernetes_takes_the_job_of_a_run() -> None:
    """The library makes the job; a key that Kubernetes does not know is an error there."""
    helm = _yaml("helm-values.yaml")
    launcher = helm["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    own = {re.sub("([A-Z])", r"_\1", key).lower(): value for key, value in launcher.items()}
    config = UserDefinedDagsterK8sConfig.from_dict(own)
    (deployment,) = helm["dagster-user-deployments"]["deployments"]
    image = f"{deployment['image']['repository']}:{deployment['image']['tag']}"
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(
            dagster_home="/opt/dagster",
            job_image=image,
            env_secrets=[each["name"] for each in deployment["envSecrets"]],
            volumes=deployment["volumes"],
            volume_mounts=deployment["volumeMounts"],
        ),
        args=["dagster", "api", "execute_run"],
        job_name="a-run",
        user_defined_k8s_config=config,
    ).to_dict()
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == image
    assert container["resources"]["limits"] == {"memory": "4Gi"}
    assert pod["volumes"][0]["persistent_volume_claim"]["claim_name"] == "mlops-home"
    assert container["volume_mounts"][0]["mount_path"] == deployment["env"]["MLOPS_HOME"]
    assert pod["security_context"]["fs_group"] == 1000
    assert job["spec"]["ttl_seconds_after_finished"] == 86400


def test_the_image_is_made_of_what_is_there() -> None:
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        *sources, _ = [word for word in shlex.split(line) if not word.startswith("--")]
        for source in sources:
            assert (PROJECT_ROOT / source).exists(), source
    assert "pip install --constraint constraints.txt --editable '.[production]'" in text


def test_nothing_else_gets_into_the_image() -> None:
    """What lies in a checkout is not all tracked: environments of hundreds of megabytes, data, secrets."""
    first, *lines = [each for each in (DEPLOY / "Dockerfile.dockerignore").read_text().split("\n")[1:] if each]
    assert first == "*"
    taken = {line[1:] for line in lines if line.startswith("!")}
    needed = {"pyproject.toml", "setup.py", "constraints.txt", "README.md", "LICENSE", "dagster.yaml"}
    assert taken == needed | {"deploy", "mlops_platform", "dbt_transforms", "great_expectations"}
    # the last line that fits a file decides
    assert lines.index("**/.env") > max(lines.index(f"!{each}") for each in taken)


def test_mlflow_answers_by_the_name_that_the_services_call_it(tmp_path: Path) -> None:
    command = list(_yaml("docker-compose.yml")["services"]["mlflow"]["command"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for option, value in {
        "--port": str(port),
        "--host": "127.0.0.1",
        "--workers": "1",
        "--artifacts-destination": str(tmp_path / "artifacts"),
    }.items():
        command[command.index(option) + 1] = value
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
    }
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, start_new_session=True, cwd=tmp_path
        )
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                named = requests.get(url, headers={"Host": "mlflow:5000"}, timeout=10)
                break
            except requests.ConnectionError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()  # noqa: PT018
                time.sleep(0.3)
        assert named.status_code == 200, named.text
        assert requests.get(url, headers={"Host": "elsewhere.example"}, timeout=10).status_code == 403
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
