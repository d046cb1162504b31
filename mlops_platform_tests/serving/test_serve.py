"""`mlops serve` as processes under load: promotions, a kill, and the log counted against what clients were told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from mlops_platform.resources.tracking import CHAMPION
from mlops_platform.serving.prediction_log import records, seal_abandoned, segments
from mlops_platform.settings import PROJECT_ROOT
from mlops_platform_tests.conftest import run_mlops
from mlops_platform_tests.serving.conftest import tracking_of, wait_for

CLIENTS = 4


class Served:
    """A running `mlops serve`."""

    def __init__(self, home: Path, port: int, process: subprocess.Popen[str]) -> None:
        self.home, self.process, self.url = home, process, f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        try:
            return requests.get(f"{self.url}/readyz", timeout=10).ok
        except requests.ConnectionError:
            return False

    def logged(self) -> list[str]:
        folder = self.home / "prediction_log"
        return [record["id"] for segment in segments(folder) for record in records(segment)]


@contextmanager
def served(home: Path, *arguments: str, **settings: str) -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_", "PROMETHEUS_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_platform.cli", "serve", "--port", str(port), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT_ROOT,
        env={**clean, "MLOPS_HOME": str(home), "MLOPS_SERVE_FOLLOW_SECONDS": "0.1", **settings},
        start_new_session=True,
    )
    try:
        service = Served(home, port, process)
        wait_for(service.ready)
        yield service
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


class Clients:
    """Threads that ask until they are stopped."""

    def __init__(self, url: str) -> None:
        self.told: list[str] = []
        self.versions: set[str] = set()
        self.failed: list[str] = []
        self._url, self._stop = url, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                try:
                    answer = session.post(f"{self._url}/predict", json={"texts": [{"title": "a"}] * 2}, timeout=30)
                    answer.raise_for_status()
                except requests.RequestException as error:
                    self.failed.append(str(error))
                    continue
                told = answer.json()
                self.versions.add(told["model_version"])
                self.told += [each["id"] for each in told["predictions"]]


def test_promotions_under_load_fail_no_request_and_lose_no_line(home: Path) -> None:
    tracking = tracking_of(home)
    with served(home, "--workers", "2", MLOPS_SERVE_LOG_BYTES="20000") as service:
        clients = Clients(service.url)
        for promotion in range(10):
            tracking.set_alias(CHAMPION, "2" if promotion % 2 == 0 else "1", {})
            time.sleep(0.4)
        clients.stop()
        assert clients.failed == []
        assert clients.versions == {"1", "2"}
        figures = requests.get(f"{service.url}/metrics", timeout=10).text.splitlines()
        counted = [float(line.split()[-1]) for line in figures if line.startswith("mlops_predictions_total")]
        assert sum(counted) == len(clients.told)  # over both workers
        os.kill(service.process.pid, signal.SIGTERM)
        service.process.wait(30)
        assert len(clients.told) > 50
        assert sorted(service.logged()) == sorted(clients.told)
        assert len(segments(home / "prediction_log")) > 2


def test_a_kill_under_load_loses_no_prediction_that_a_client_has(home: Path) -> None:
    with served(home, "--workers", "2") as service:
        clients = Clients(service.url)
        wait_for(lambda: len(clients.told) > 50)
        os.killpg(service.process.pid, signal.SIGKILL)
        wait_for(lambda: len(clients.failed) > 0)
        clients.stop()
        assert seal_abandoned(home / "prediction_log") in (1, 2)  # one worker may have had all connections
        logged = service.logged()
        assert len(logged) == len(set(logged))
        assert set(logged) >= set(clients.told)
        # what was written and not answered: two texts of each client at most
        assert len(logged) <= len(clients.told) + 2 * CLIENTS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to(home: Path, number: signal.Signals) -> None:
    with served(home) as service:
        requests.post(f"{service.url}/predict", json={"title": "a"}, timeout=10).raise_for_status()
        os.kill(service.process.pid, number)
        out, err = service.process.communicate(timeout=30)
        assert "Traceback" not in err
        assert out.splitlines()[0].startswith("Predictions  http://127.0.0.1:")
        assert len(service.logged()) == 1


def test_what_keeps_it_from_starting_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        answer = run_mlops(tmp_path, "serve", "--port", port)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"mlops: Port {port} on 127.0.0.1 cannot be had (Address already in use): ")
    answer = run_mlops(tmp_path, "serve", "--host", "0.0.0.0")  # noqa: S104
    assert answer.returncode == 1
    assert answer.stderr.startswith("mlops: The service would be open to all who reach 0.0.0.0: set MLOPS_SERVE_TOKEN")
    answer = run_mlops(tmp_path, "serve", "--port", "0")
    assert answer.returncode == 2
    assert answer.stderr.startswith("mlops: MLOPS_SERVE_PORT='0' does not fit") or "MLOPS_SERVE_PORT=0" in answer.stderr
