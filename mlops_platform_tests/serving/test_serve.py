"""`mlops serve` as processes under load: promotions, kills, a full disk; the log counted against what clients got."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from pathlib import Path

import pytest
import requests

from benchmarks.service_load import Load, Served, count, served
from mlops_platform.resources.registry.model_registry import CHAMPION
from mlops_platform_tests.conftest import run_mlops
from mlops_platform_tests.serving.conftest import tracking_of, wait_for

CLIENTS = 4
TWO_TEXTS = {"texts": [{"title": "a"}] * 2}


def _counted(service: Served) -> float:
    """Texts predicted, over all workers, as Prometheus reads them."""
    figures = requests.get(f"{service.url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.split()[-1]) for line in figures if line.startswith("mlops_predictions_total"))


def test_promotions_under_load_fail_no_request_and_lose_no_event(home: Path) -> None:
    tracking = tracking_of(home)
    with served(home, "--workers", "2") as service:
        load = Load(service.url, CLIENTS, [TWO_TEXTS])
        for promotion in range(10):
            tracking.set_alias(CHAMPION, "2" if promotion % 2 == 0 else "1", {})
            time.sleep(0.4)
        answers = load.stop()
        assert answers.failures == []
        assert set(answers.versions) == {"1", "2"}
        assert _counted(service) == len(answers.told)
        service.stop()
        assert len(answers.told) > 50
        log = count(home, answers.told)
        assert (log.events, log.lost, log.doubled) == (len(answers.told), 0, 0)
        # the workers' shared figures go with them
        port = service.url.rpartition(":")[2]
        assert not list(Path("/dev/shm").glob(f"mlops-metrics-*-{port}"))  # noqa: S108


def test_kills_under_load_lose_no_prediction_that_a_client_has(home: Path) -> None:
    with served(home, "--workers", "2") as service:
        load = Load(service.url, CLIENTS, [TWO_TEXTS])
        wait_for(lambda: len(load.answers.told) > 50)
        first = service.workers()
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        wait_for(lambda: len(service.workers()) == 2 and first[0] not in service.workers())
        assert service.ready()
        answered = len(load.answers.told)
        wait_for(lambda: len(load.answers.told) > answered + 50)
        # those under way on its connections, one of a client; the second error where an answer had begun
        assert set(load.answers.failures) <= {"ConnectionError", "ChunkedEncodingError"}
        assert len(load.answers.failures) <= CLIENTS
        assert _counted(service) >= answered  # what the killed one has counted is still there

        failed = len(load.answers.failures)
        os.killpg(service.process.pid, signal.SIGKILL)
        wait_for(lambda: len(load.answers.failures) > failed)
        answers = load.stop()
        log = count(home, answers.told)
        assert (log.lost, log.doubled) == (0, 0)
        # what was written and not answered: two texts of each client at most, for each kill
        assert log.unanswered <= 2 * 2 * CLIENTS


def test_a_full_disk_stops_predictions_and_nothing_else_until_there_is_room(home: Path) -> None:
    """The system refuses to let a file grow beyond a limit, as a full disk would; then it is lifted."""
    with served(home, "--workers", "2") as service:
        workers = service.workers()
        load = Load(service.url, CLIENTS, [TWO_TEXTS])
        wait_for(lambda: len(load.answers.told) > 50)
        assert load.answers.failures == []
        _limit(workers, 2000)
        wait_for(lambda: len(load.answers.failures) > 50)
        given = len(load.answers.told)
        wait_for(lambda: len(load.answers.failures) > 100)
        assert len(load.answers.told) == given
        detail = "The event log cannot be written, so no prediction or label is accepted: try again later."
        assert set(load.answers.failures) == {f'503 {{"detail":"{detail}"}}'}
        _limit(workers, resource.RLIM_INFINITY)
        wait_for(lambda: len(load.answers.told) > given + 50)
        answers = load.stop()
        wait_for(service.ready)
        assert service.workers() == workers
        assert _counted(service) == len(answers.told)
        service.stop()
        # once for each worker that met it, not once for each request
        assert 1 <= service.said().count("events.db cannot be written (") <= 2
        log = count(home, answers.told)
        assert (log.events, log.lost, log.doubled) == (len(answers.told), 0, 0)


def _limit(workers: list[int], size: int) -> None:
    for worker in workers:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to(home: Path, number: signal.Signals) -> None:
    with served(home) as service:
        requests.post(f"{service.url}/predict", json={"title": "a"}, timeout=10).raise_for_status()
        service.stop(number)
        assert "Traceback" not in service.said()
        assert service.said().splitlines()[0].startswith("Predictions  http://127.0.0.1:")
        assert count(home, []).events == 1


def test_what_keeps_it_from_starting_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        answer = run_mlops(tmp_path, "serve", "--port", port)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"mlops: Port {port} on 127.0.0.1 is not available (Address already in use): ")
    answer = run_mlops(tmp_path, "serve", "--host", "0.0.0.0")  # noqa: S104
    assert answer.returncode == 1
    assert answer.stderr.startswith("mlops: The service would be open to everyone who can reach 0.0.0.0: set MLOPS_")
    answer = run_mlops(tmp_path, "serve", "--port", "0")
    assert answer.returncode == 2
    assert answer.stderr.startswith("mlops: MLOPS_SERVE_PORT='0' does not fit") or "MLOPS_SERVE_PORT=0" in answer.stderr
