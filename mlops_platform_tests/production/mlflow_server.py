"""A real MLflow server, that can be stopped and come back: SQLite behind it, and a folder of its own for artifacts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from benchmarks.service_load import free_port

START_SECONDS = 120.0


class MlflowServer:
    """The server, on a port that it keeps.

    Attributes:
        uri: Its address.
        artifacts: Where it keeps files.
    """

    def __init__(self, folder: Path) -> None:
        """Start nothing yet.

        Args:
            folder: Takes the database, the artifacts and the log.
        """
        self._folder, self._port = folder, free_port()
        self.uri, self.artifacts = f"http://127.0.0.1:{self._port}", folder / "artifacts"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        store = [
            "--backend-store-uri",
            f"sqlite:///{self._folder / 'mlflow.db'}",
            "--artifacts-destination",
            str(self.artifacts),
        ]
        where = ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *store, *where],
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        self._process, end = process, time.monotonic() + START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"mlflow server did not start:\n{(self._folder / 'log').read_text()}")
            time.sleep(0.2)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is None or self._process.poll() is not None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.uri}/health", timeout=5).ok
        except requests.ConnectionError:
            return False


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """Run a server.

    Args:
        folder: An empty folder for all that it writes.
    """
    server = MlflowServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
