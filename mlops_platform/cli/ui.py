"""`mlops ui`: serve Dagster, the MLflow UI and the Data Docs on 127.0.0.1, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import typer

from mlops_platform.cli.http_server import HOST, require_free
from mlops_platform.cli.instance import prepare_home
from mlops_platform.settings import RegistrySettings, Settings

STOP_SECONDS = 10.0
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # it would start eight more processes for evaluation jobs, which the platform does not use
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore",
}


def ui() -> None:
    """Start Dagster's UI and daemon, the MLflow UI and the Data Docs on 127.0.0.1."""
    raise typer.Exit(_serve(Settings()))


def _serve(settings: Settings) -> int:
    """Start the servers and wait for Dagster, whose end stops the others; return its exit code, or 0 after Ctrl-C."""
    require_free("MLOPS_UI_PORT", settings.ui_port)
    require_free("MLOPS_DOCS_PORT", settings.docs_port)
    if settings.mlflow_uri is None:
        require_free("MLOPS_MLFLOW_PORT", settings.mlflow_port)
    prepare_home(settings)
    # `kill` must stop the children, too, and a shell starts background jobs with interrupts ignored
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    settings.data_docs_dir.mkdir(parents=True, exist_ok=True)
    print(f"Dagster    http://{HOST}:{settings.ui_port}")
    print(f"MLflow     {settings.mlflow_url}")
    print(f"Data Docs  {settings.data_docs_url}")
    print("Ctrl-C stops them.", flush=True)
    children: list[subprocess.Popen[bytes]] = []
    try:
        docs = ["--bind", HOST, "--directory", str(settings.data_docs_dir)]
        children.append(_start(["http.server", str(settings.docs_port), *docs], quiet=True))
        if settings.mlflow_uri is None:
            settings.mlflow_dir.mkdir(parents=True, exist_ok=True)
            children.append(_start(_mlflow(settings), quiet=True))
        address = ["--host", HOST, "--port", str(settings.ui_port)]
        dagster = _start(["dagster", "dev", "-m", "mlops_platform.definitions", *address, "--log-level", "warning"])
        children.append(dagster)
        return dagster.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(children)


def _mlflow(settings: RegistrySettings) -> list[str]:
    artifacts = (settings.mlflow_dir / "artifacts").as_uri()
    store = ["--backend-store-uri", settings.tracking_uri, "--default-artifact-root", artifacts]
    return ["mlflow", "server", *store, "--host", HOST, "--port", str(settings.mlflow_port), "--workers", "1"]


def _start(command: list[str], *, quiet: bool = False) -> subprocess.Popen[bytes]:
    module, *arguments = command
    sink = subprocess.DEVNULL if quiet else None
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # with their own process groups, Ctrl-C reaches this process only, which stops each server and its children
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", module, *arguments],
        stdout=sink,
        stderr=sink,
        start_new_session=True,
        env={**os.environ, **_ENVIRONMENT, "PATH": path},
    )


def _stop(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
