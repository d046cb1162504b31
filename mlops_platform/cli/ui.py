"""`mlops ui`: serve Dagster, the MLflow UI and the Data Docs on 127.0.0.1, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from mlops_platform.cli.instance import prepare_home
from mlops_platform.errors import PlatformError
from mlops_platform.settings import RegistrySettings, Settings, UiSettings

HOST = "127.0.0.1"
STOP_SECONDS = 10.0
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # it would start eight more processes, for evaluation jobs that nothing here uses
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore",
}


def serve(settings: Settings) -> int:
    """Start the servers and wait for Dagster, whose end stops the others.

    Args:
        settings: Ports and folders.

    Returns:
        Dagster's exit code; 0 after Ctrl-C.

    Raises:
        PlatformError: A port is taken.
    """
    ports = {"MLOPS_UI_PORT": settings.ui_port, "MLOPS_DOCS_PORT": settings.docs_port}
    if settings.mlflow_uri is None:
        ports["MLOPS_MLFLOW_PORT"] = settings.mlflow_port
    for setting, port in ports.items():
        require_free(setting, port)
    prepare_home(settings)
    # `kill` has to stop the children, too; and a shell starts background jobs with interrupts ignored
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    settings.data_docs_dir.mkdir(parents=True, exist_ok=True)
    print(f"Dagster    http://{HOST}:{settings.ui_port}")
    print(f"MLflow     {settings.mlflow_url}")
    print(f"Data Docs  {settings.data_docs_url}")
    print("Ctrl-C stops them.", flush=True)
    children: list[subprocess.Popen[bytes]] = []
    try:
        children.append(_start(_docs(settings), quiet=True))
        if settings.mlflow_uri is None:
            settings.mlflow_dir.mkdir(parents=True, exist_ok=True)
            children.append(_start(_mlflow(settings), quiet=True))
        dagster = _start(_dagster(settings))
        children.append(dagster)
        return dagster.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(children)


def _dagster(settings: UiSettings) -> list[str]:
    module = ["-m", "mlops_platform.definitions"]
    where = ["--host", HOST, "--port", str(settings.ui_port)]
    return ["dagster", "dev", *module, *where, "--log-level", "warning"]


def _mlflow(settings: RegistrySettings) -> list[str]:
    artifacts = (settings.mlflow_dir / "artifacts").as_uri()
    store = ["--backend-store-uri", settings.tracking_uri, "--default-artifact-root", artifacts]
    return ["mlflow", "server", *store, "--host", HOST, "--port", str(settings.mlflow_port), "--workers", "1"]


def _docs(settings: UiSettings) -> list[str]:
    where = ["--bind", HOST, "--directory", str(settings.data_docs_dir)]
    return ["http.server", str(settings.docs_port), *where]


def _start(command: list[str], *, quiet: bool = False) -> subprocess.Popen[bytes]:
    module, *arguments = command
    sink = subprocess.DEVNULL if quiet else None
    # with their own process groups, Ctrl-C reaches this process only, which stops each server and its children
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", module, *arguments],
        stdout=sink,
        stderr=sink,
        start_new_session=True,
        env={**os.environ, **_ENVIRONMENT, "PATH": _path()},
    )


def _path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


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


def require_free(setting: str, port: int, host: str = HOST) -> None:
    """Check that a port is free.

    Args:
        setting: The setting of the port.
        port: The port.
        host: The address to listen on.

    Raises:
        PlatformError: It is taken, or the address is not available.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise PlatformError(
            f"Port {port} on {host} is not available ({error.strerror}): stop what listens there, or set {setting} to "
            "another port."
        ) from None
