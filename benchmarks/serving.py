"""`python -m benchmarks.serving`: the service under load while the champion changes every second.

Makes two small versions in a temporary home, starts `mlops serve` on it, has clients ask for some seconds, and counts:
requests, failures, predictions that a client was given and the log lacks, requests a second, p50 and p99.
Clients are threads of this process and share the machine's cores with the service.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import requests

from mlops_platform.resources.assembly import build_resources
from mlops_platform.resources.tracking import CHAMPION, MlflowTracking
from mlops_platform.serving.prediction_log import records, seal_abandoned, segments
from mlops_platform.settings import PROJECT_ROOT, SAMPLE_DIR, Settings

_STARTING_SECONDS = 120.0


def make_versions(home: Path) -> tuple[MlflowTracking, list[str]]:
    """Train and register two versions on the sample, with the default parameters and with a stronger penalty.

    Args:
        home: An empty home.

    Returns:
        The registry, and the titles of the sample.
    """
    from mlops_platform.ml import model as models

    tracking: MlflowTracking = build_resources(Settings(_env_file=None, home=home))["tracking"]
    with (SAMPLE_DIR / "tags.csv").open(encoding="utf-8", newline="") as file:
        tags = {row["id"]: row["tag"] for row in csv.DictReader(file)}
    with (SAMPLE_DIR / "projects.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["id"] in tags]
    texts = models.frame([row["title"] for row in rows], [row["description"] for row in rows])
    experiment = tracking.experiment("baselines")
    for number in (1, 2):
        tracking.register(
            models.fit(texts, [tags[row["id"]] for row in rows], models.Params(alpha=float(number))),
            texts.head(2),
            experiment_id=experiment,
            run_name="benchmark",
            params={},
            metrics={},
            tags={"fingerprint": f"benchmark-{number}", "data_version": "sample", "dagster_run_id": ""},
            artifacts={},
            trusted_types=list(models.TRUSTED_TYPES),
        )
    tracking.set_alias(CHAMPION, "1", {})
    return tracking, [row["title"] for row in rows]


class Load:
    """Clients that ask one after the other until they are stopped."""

    def __init__(self, url: str, clients: int, titles: list[str]) -> None:
        """Start them.

        Args:
            url: Of the service.
            clients: How many.
            titles: What they ask about, in turn.
        """
        self.seconds: list[float] = []
        self.told: list[str] = []
        self.versions: set[str] = set()
        self.failures: list[str] = []
        self._url, self._titles, self._stop = url, titles, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the requests under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        titles = cycle(self._titles[number:] + self._titles[:number])
        with requests.Session() as session:
            while not self._stop.is_set():
                begun = time.perf_counter()
                try:
                    answer = session.post(f"{self._url}/predict", json={"title": next(titles)}, timeout=30)
                    answer.raise_for_status()
                except requests.RequestException as error:
                    self.failures.append(str(error))
                    continue
                self.seconds.append(time.perf_counter() - begun)
                told = answer.json()
                self.versions.add(told["model_version"])
                self.told += [each["id"] for each in told["predictions"]]


@contextmanager
def service(home: Path, workers: int) -> Iterator[str]:
    """Run `mlops serve` on a free port, and end it as a supervisor would.

    Args:
        home: Has a champion.
        workers: Its processes.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_", "PROMETHEUS_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_platform.cli", "serve", "--port", str(port), "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        cwd=PROJECT_ROOT,
        env={**kept, "MLOPS_HOME": str(home), "MLOPS_SERVE_FOLLOW_SECONDS": "0.2"},
        start_new_session=True,
    )
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + _STARTING_SECONDS
        while True:
            try:
                requests.get(f"{url}/readyz", timeout=10).raise_for_status()
                break
            except requests.RequestException:
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit("The service did not start.") from None
                time.sleep(0.2)
        yield url
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def main() -> None:
    """Measure and print; leave with 1 if a request failed or a line is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="how long, with a promotion each second")
    parser.add_argument("--clients", type=int, default=4, help="clients that ask side by side")
    parser.add_argument("--workers", type=int, default=2, help="processes of the service")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlops-bench-serving-") as name:
        home = Path(name)
        tracking, titles = make_versions(home)
        with service(home, asked.workers) as url:
            load, begun = Load(url, asked.clients, titles), time.perf_counter()
            for second in range(asked.seconds):
                tracking.set_alias(CHAMPION, "2" if second % 2 == 0 else "1", {})
                time.sleep(max(0.0, begun + second + 1 - time.perf_counter()))
            load.stop()
            took = time.perf_counter() - begun
        folder = home / "prediction_log"
        seal_abandoned(folder)
        logged = [record["id"] for segment in segments(folder) for record in records(segment)]
    lost, doubled = len(set(load.told) - set(logged)), len(logged) - len(set(logged))
    if len(load.seconds) < 2:
        raise SystemExit(f"No figures: {load.failures[:1] or 'too few answers'}.")
    cuts = statistics.quantiles(load.seconds, n=100, method="inclusive")
    print(f"{asked.clients} clients, {asked.workers} workers, {took:.1f} s, {asked.seconds} promotions")
    print(f"requests      {len(load.seconds) + len(load.failures):,}, versions {', '.join(sorted(load.versions))}")
    print(f"failed        {len(load.failures)}")
    print(f"log lines     {len(logged):,} for {len(load.told):,} predictions; lost {lost}, doubled {doubled}")
    print(f"requests/s    {len(load.seconds) / took:.0f}")
    print(f"p50, p99      {cuts[49] * 1000:.1f} ms, {cuts[98] * 1000:.1f} ms")
    if load.failures or lost or doubled:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
