"""What Dagster's Helm chart makes of deploy/helm-values.yaml, as far as a run and its steps see it.

The chart itself is not here: the names are those that its templates write into the instance's file and into the
environment of the code server.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from mlops_platform.settings import PROJECT_ROOT
from mlops_platform_tests.production.kubernetes_double import NAMESPACE

VALUES: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "deploy" / "helm-values.yaml").read_text(encoding="utf-8"))
(DEPLOYMENT,) = VALUES["dagster-user-deployments"]["deployments"]
IMAGE = f"{DEPLOYMENT['image']['repository']}:{DEPLOYMENT['image']['tag']}"
CONFIG_MAP = f"mlops-dagster-user-deployments-{DEPLOYMENT['name']}-user-env"
SERVICE_ACCOUNT = "mlops-dagster-user-deployments-user-deployments"


def _snake(values: dict[str, Any]) -> dict[str, Any]:
    return {re.sub("([A-Z])", r"_\1", key).lower(): value for key, value in values.items()}


def container_context() -> dict[str, Any]:
    """What the code server tells of the pods of its runs."""
    assert DEPLOYMENT["includeConfigInLaunchedRuns"]["enabled"]
    return {
        "k8s": {
            "image_pull_policy": DEPLOYMENT["image"]["pullPolicy"],
            "env_config_maps": [CONFIG_MAP],
            "env_secrets": [each["name"] for each in DEPLOYMENT["envSecrets"]],
            "volumes": DEPLOYMENT["volumes"],
            "volume_mounts": DEPLOYMENT["volumeMounts"],
            "namespace": NAMESPACE,
            "service_account_name": SERVICE_ACCOUNT,
            "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
        }
    }


def instance(dagster_home: str, kubeconfig: str, database: dict[str, Any]) -> dict[str, Any]:
    """The instance's file.

    Args:
        dagster_home: Its folder in the pods.
        kubeconfig: Where the cluster is, as the test is not in it.
        database: What differs from the values: the host, port, name of the database.

    Returns:
        The content of dagster.yaml.
    """
    daemon, launcher = VALUES["dagsterDaemon"], VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    monitoring, retries = _snake(daemon["runMonitoring"]), _snake(daemon["runRetries"])
    storage = {
        "username": VALUES["postgresql"]["postgresqlUsername"],
        "password": {"env": "DAGSTER_PG_PASSWORD"},
        "scheme": VALUES["postgresql"]["postgresqlScheme"],
        **database,
    }
    return {
        "storage": {"postgres": {"postgres_db": storage}},
        "run_launcher": {
            "module": "dagster_k8s",
            "class": VALUES["runLauncher"]["type"],
            "config": {
                "load_incluster_config": False,
                "kubeconfig_file": kubeconfig,
                "job_namespace": NAMESPACE,
                "image_pull_policy": launcher["imagePullPolicy"],
                "service_account_name": "mlops-dagster",
                "dagster_home": dagster_home,
                "instance_config_map": "mlops-dagster-instance",
                "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
                "run_k8s_config": _snake(launcher["runK8sConfig"]),
            },
        },
        # a minute is long in a test
        "run_monitoring": {**monitoring, "poll_interval_seconds": 2},
        "run_retries": retries,
        "telemetry": VALUES["telemetry"],
        **VALUES["additionalInstanceConfig"],
    }
