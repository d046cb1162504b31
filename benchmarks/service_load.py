"""`mlops serve` as a subprocess, clients that send requests, and its log counted against the answers.

The benchmark of the service and its tests use it. Clients are threads of the caller's process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import IO, Any

import requests

from mlops_platform.resources.event_log import EventLog
from mlops_platform.resources.prediction_log import FEEDBACK, PREDICTION
from mlops_platform.settings import PROJECT_ROOT

START_SECONDS = 120.0
STOP_SECONDS = 60.0
ANSWER_SECONDS = 120.0  # while no worker is up, connections wait
_NOT_FOR_IT = ("MLOPS_", "DAGSTER_", "DBT_", "MLFLOW_", "PROMETHEUS_")


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Served:
    """A running `mlops serve`."""

    home: Path
    url: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]

    def ready(self) -> bool:
        """Return whether a model is loaded.

        Raises:
            RuntimeError: The process has ended.
        """
        if self.process.poll() is not None:
            raise RuntimeError(f"The service has ended: {self.said()}")
        try:
            return requests.get(f"{self.url}/readyz", timeout=10).ok
        except requests.ConnectionError:
            return False

    def said(self) -> str:
        """Return what it has printed and logged so far."""
        size = self.output.seek(0, os.SEEK_END)
        return os.pread(self.output.fileno(), size, 0).decode()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it as a supervisor would."""
        self.process.send_signal(number)
        self.process.wait(STOP_SECONDS)

    def workers(self) -> list[int]:
        """Return the ids of its worker processes, if it has several."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        # beside the workers there is multiprocessing's resource tracker
        return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@contextmanager
def served(
    home: Path,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    command: Sequence[str] = (),
    ready: bool = True,
) -> Iterator[Served]:
    """Run the service on a free port, and kill whatever of it remains at the end.

    Args:
        home: Its MLOPS_HOME.
        arguments: Of `mlops serve`, beside the port.
        settings: Environment variables; the caller's own settings don't reach it.
        command: Instead of `python -m mlops_platform.cli.main serve`.
        ready: Wait until a model is loaded.
    """
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_IT)}
    program = command or [sys.executable, "-m", "mlops_platform.cli.main", "serve"]
    # a file: a pipe that nobody reads would stop the service once it is full
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*program, "--port", str(port), *arguments],
            stdout=output,
            stderr=output,
            cwd=PROJECT_ROOT,
            env={**clean, "MLOPS_HOME": str(home), "MLOPS_SERVE_FOLLOW_SECONDS": "0.1", **(settings or {})},
            start_new_session=True,
        )
        try:
            service = Served(home, f"http://127.0.0.1:{port}", process, output)
            end = time.monotonic() + START_SECONDS
            while ready and not service.ready():
                if time.monotonic() > end:
                    raise RuntimeError(f"The service did not start: {service.said()}")
                time.sleep(0.05)
            yield service
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers that have outlived their parent, too
            process.wait()


@dataclass
class Answers:
    """The answers that the clients received.

    Attributes:
        seconds: Latency of each answered request.
        told: The ids of the predictions that clients received.
        versions: The model version of each answer.
        failures: The error of each request without a prediction.
    """

    seconds: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Load:
    """Clients that send one request after the other until stopped, each over one connection."""

    def __init__(self, url: str, clients: int, bodies: Sequence[Mapping[str, Any]]) -> None:
        """Start them.

        Args:
            url: Of the service.
            clients: How many.
            bodies: What they send, in turn.
        """
        self.answers = Answers()
        self._url, self._bodies, self._stop = url, bodies, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> Answers:
        """End after the requests under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.answers

    def _ask(self, number: int) -> None:
        first = number % len(self._bodies)
        bodies = cycle([*self._bodies[first:], *self._bodies[:first]])
        with requests.Session() as session:
            while not self._stop.is_set():
                begun = time.perf_counter()
                try:
                    answer = session.post(f"{self._url}/predict", json=next(bodies), timeout=ANSWER_SECONDS)
                except requests.RequestException as error:
                    self.answers.failures.append(type(error).__name__)
                    continue
                if not answer.ok:
                    self.answers.failures.append(f"{answer.status_code} {answer.text}")
                    continue
                self.answers.seconds.append(time.perf_counter() - begun)
                body = answer.json()
                self.answers.versions.append(body["model_version"])
                self.answers.told += [prediction["id"] for prediction in body["predictions"]]


@dataclass(frozen=True)
class Count:
    """The log compared with the answers.

    Attributes:
        events: Predictions and feedback in the log.
        lost: Predictions that a client received and the log lacks.
        doubled: Events with the id of another one.
        unanswered: Predictions that no client received.
    """

    events: int
    lost: int
    doubled: int
    unanswered: int


def count(home: Path, told: Sequence[str]) -> Count:
    """Count the events of a home's log.

    Args:
        home: MLOPS_HOME of the service.
        told: Ids that clients received.
    """
    log = EventLog(home / "events.db")
    logged = [event.body["id"] for kind in (PREDICTION, FEEDBACK) for event in log.read(kind)]
    ids = set(logged)
    return Count(len(logged), len(set(told) - ids), len(logged) - len(ids), len(ids - set(told)))
