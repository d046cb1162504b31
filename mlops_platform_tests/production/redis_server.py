"""A real Redis server from Debian's package, and Celery workers on it, on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlops_platform.errors import PlatformError
from mlops_platform.resources.celery_workers import celery_workers
from mlops_platform.settings import PROJECT_ROOT, Settings
from mlops_platform_tests.production.postgres import free_port

PASSWORD = "s3cret-of-redis"  # noqa: S105 - of a server that lives as long as the tests
START_SECONDS = 90.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds, and fail the test after 90 s."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}, within {START_SECONDS:g} s", pytrace=False)
        time.sleep(0.1)


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Start a server with a password, and stop it at the end.

    Yields:
        Its address.
    """
    import redis

    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("No Redis server is installed: run `apt-get install redis-server`.", pytrace=False)
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", ""]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log, cwd=folder)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    try:
        with redis.Redis(port=port, password=PASSWORD) as client:
            wait_until(answers, "Redis did not start")
        yield f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(timeout=30)


@dataclass
class Workers:
    """Celery workers of one home and one broker; each is a process group of its own."""

    home: Path
    broker: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *names: str, **settings: str) -> None:
        """Start workers, and wait until they answer.

        Args:
            names: What they are called.
            settings: Environment variables of theirs.
        """
        for name in names:
            with (self.home / f"{name}.log").open("wb") as log:
                self.processes[name] = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "celery",
                        "--app",
                        "mlops_platform.celery_app",
                        "worker",
                        "-n",
                        f"{name}@test",
                    ],
                    cwd=PROJECT_ROOT,
                    env={**os.environ, "MLOPS_HOME": str(self.home), "MLOPS_CELERY_BROKER": self.broker, **settings},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        settings_of_run = Settings(celery_broker=self.broker)

        def answer() -> bool:
            try:
                return {f"{name}@test" for name in names} <= set(celery_workers(settings_of_run))
            except PlatformError:
                return False

        wait_until(answer, f"The workers {', '.join(names)} did not start")

    def kill(self, name: str) -> None:
        """Kill a worker and the process of its step, as the loss of a machine does."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Stop all workers at once."""
        for name in list(self.processes):
            self.kill(name)
