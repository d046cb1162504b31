"""Airflow's servers on loopback, with a Postgres of their own, and runs of its DAGs.

Settings that depart from Airflow's defaults make it faster, or keep it on this machine; `TUNED` has the former.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import requests

from mlops_platform.settings import PROJECT_ROOT
from mlops_platform_tests.production.postgres import Server, free_port, running

ENVIRONMENT = PROJECT_ROOT / ".venv-airflow"
DAGS = Path(__file__).with_name("dags")
_STARTING_SECONDS, _RUN_SECONDS = 180.0, 900.0

TUNED = {
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
    "AIRFLOW__CORE__PARALLELISM": "4",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
}

# imported by the scheduler before it forks its workers, so that no task imports them again
PRELOADED = ("dagster", "dagster_dbt", "duckdb", "great_expectations", "mlflow", "optuna", "pandas", "sklearn")


@dataclass(frozen=True)
class Airflow:
    """Running servers.

    Attributes:
        url: Of the API server.
        database: Its metadata database's server.
        address: Of the metadata database.
        groups: Process groups of the servers and their workers.
    """

    url: str
    database: Server
    address: str
    groups: Sequence[int]

    def run(self, dag: str, conf: Mapping[str, Any]) -> float:
        """Run a DAG to its end.

        Args:
            dag: Its name.
            conf: Its parameters.

        Returns:
            Seconds from the request for the run to its end, by Airflow's own clock.

        Raises:
            RuntimeError: The run failed, or did not end.
        """
        name = f"bench-{uuid.uuid4().hex}"
        with requests.Session() as session:
            session.trust_env = False
            token = session.get(f"{self.url}/auth/token", timeout=60).json()["access_token"]
            response = session.post(
                f"{self.url}/api/v2/dags/{dag}/dagRuns",
                json={"dag_run_id": name, "logical_date": None, "conf": dict(conf)},
                headers={"Authorization": f"Bearer {token}"},
                timeout=60,
            )
        if not response.ok:
            raise RuntimeError(f"Airflow refuses a run of {dag}: {response.text[:500]}")
        end = time.monotonic() + _RUN_SECONDS
        while True:
            # query the database and not the API server, which is busy with the tasks
            rows = self.database.query(
                self.address,
                f"select state, extract(epoch from end_date - queued_at) from dag_run where run_id = '{name}'",  # noqa: S608
            )
            state, seconds = rows[0]
            if state == "success":
                return float(seconds)
            if state == "failed" or time.monotonic() > end:
                raise RuntimeError(f"Airflow's run of {dag} is {state}; its logs are under AIRFLOW_HOME/logs.")
            time.sleep(0.5)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of the servers and their workers so far, ended tasks included."""
        leaders = [psutil.Process(group) for group in self.groups]
        processes = [process for leader in leaders for process in (leader, *leader.children(recursive=True))]
        times = [process.cpu_times() for process in processes]
        return sum(t.user + t.system + t.children_user + t.children_system for t in times)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause the servers, so that they don't disturb a measurement."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for group in self.groups:
            os.killpg(group, number)

    def wait_for(self, dag: str) -> None:
        """Wait until a DAG has been read."""
        _wait(lambda: bool(self.database.query(self.address, f"select 1 from serialized_dag where dag_id = '{dag}'")))  # noqa: S608


@contextmanager
def serving(*, tuned: bool, preload: bool) -> Iterator[Airflow]:
    """Start Postgres, the API server, the scheduler with the LocalExecutor and the DAG processor; stop them at the end.

    Args:
        tuned: Whether Airflow has the settings of `TUNED`.
        preload: Whether the scheduler imports `PRELOADED` before it forks.
    """
    home = Path(tempfile.mkdtemp(prefix="mlops-airflow-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        server = stack.enter_context(running())
        address = server.new_database()
        # Airflow's migrations cannot take the signs in the other role's password
        server.query("postgres", "create role airflow login superuser password 'airflow'")
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        store = f"postgresql+psycopg2://airflow:airflow@127.0.0.1:{server.port}/{address.rsplit('/', 1)[1]}"
        env = {**_environment(home, store, port), **(TUNED if tuned else {})}
        airflow = str(ENVIRONMENT / "bin" / "airflow")
        subprocess.run([airflow, "db", "migrate"], env=env, check=True, capture_output=True)
        if preload:
            (home / "config").mkdir()
            lines = [
                "import sys",
                "if 'scheduler' in sys.argv:",
                *(f"    import {name}" for name in PRELOADED),
            ]
            (home / "config" / "airflow_local_settings.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
        groups = [
            stack.enter_context(_process([airflow, command], env, home / f"{command}.log"))
            for command in ("api-server", "dag-processor", "scheduler")
        ]
        _wait(lambda: _healthy(url))
        servers = Airflow(url, server, address, groups)
        for dag in ("dataops", "mlops", "trivial"):
            servers.wait_for(dag)
        yield servers


def _environment(home: Path, store: str, port: int) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_", "PYTHON", "AIRFLOW"))}
    url = f"http://127.0.0.1:{port}"
    return {
        **inherited,
        "PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{inherited['PATH']}",
        "PYTHONPATH": str(PROJECT_ROOT),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": store,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_PROXY": "127.0.0.1",
    }


@contextmanager
def _process(command: list[str], env: Mapping[str, str], log: Path) -> Iterator[int]:
    """Start a server, and yield the id of its process, which leads a group."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            # its own session: the workers that it forked
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _healthy(url: str) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            health = session.get(f"{url}/api/v2/monitor/health", timeout=10).json()
    except (requests.RequestException, ValueError):
        return False
    return all(health[name]["status"] == "healthy" for name in ("metadatabase", "scheduler", "dag_processor"))


def _wait(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + _STARTING_SECONDS
    while not ready():
        if time.monotonic() > end:
            raise RuntimeError("Airflow did not start; its logs are under AIRFLOW_HOME.")
        time.sleep(0.5)
