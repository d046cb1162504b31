"""Our orchestration compared with Airflow 3: the lesson's two DAGs, and ten steps that do nothing.

It creates `.venv-airflow` once (1.4 GB) and needs Python 3.11 and Debian's Postgres.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.airflow import servers
from benchmarks.harness import Goal, Row, Section, Size, Unavailable, measure, set_up
from mlops_platform_tests.production.postgres import installed

STEPS = 10
_PLATFORM = f"PYTHONPATH={servers.PROJECT_ROOT}"  # the environment has its libraries only
AIRFLOWS = {
    "airflow": {"tuned": False, "preload": False},
    "tuned": {"tuned": True, "preload": False},
    "loaded": {"tuned": True, "preload": True},
}


def run(size: Size) -> Section:
    """Measure; "quick" takes about seven minutes, "full" about fourteen.

    Raises:
        Unavailable: There is no Postgres, or Airflow could not be installed.
    """
    if installed() is None:
        raise Unavailable("Airflow needs a Postgres server: run `apt-get install postgresql`.")
    set_up("airflow.sh")
    return _section(_measured(1 if size == "quick" else 3))


def _section(ways: Mapping[str, _Way]) -> Section:
    mlops, job, airflow, tuned, loaded = (ways[name] for name in ("mlops", "job", *AIRFLOWS))
    third = Goal(0.333)
    loaded_name = "tuned Airflow whose scheduler has loaded all libraries before it forks"
    return Section(
        title="Beside Airflow",
        about=_about(),
        rows=[
            Row("end_to_end: `mlops run` / Airflow, wall", "s", mlops.wall, airflow.wall, third),
            Row("end_to_end: `mlops run` / Airflow, cpu", "s", mlops.cpu, airflow.cpu),
            Row("end_to_end: `dagster job execute` / Airflow, wall", "s", job.wall, airflow.wall, third),
            Row("end_to_end: `mlops run` / tuned Airflow, wall", "s", mlops.wall, tuned.wall, third),
            Row("end_to_end: `mlops run` / tuned Airflow, cpu", "s", mlops.cpu, tuned.cpu),
            Row(f"end_to_end: `mlops run` / {loaded_name}, wall", "s", mlops.wall, loaded.wall),
            Row(f"end_to_end: `mlops run` / {loaded_name}, cpu", "s", mlops.cpu, loaded.cpu),
            Row("a step that does nothing: in process / Airflow, wall", "s", ways["in_process"].step, airflow.step),
            Row("a step that does nothing: a process each / Airflow, wall", "s", ways["forked"].step, airflow.step),
            Row("a step that does nothing: in process / tuned Airflow, wall", "s", ways["in_process"].step, tuned.step),
        ],
        notes=(
            "By its defaults Airflow's scheduler polls for work once a second; tuned, ten times. A task of Airflow is a"
            " fork that imports the libraries it needs, Dagster too, whose classes our resources are. The rows with"
            " loaded libraries take that cost away: Airflow does not load them by itself, and a"
            " file `airflow_local_settings.py` makes it. Airflow's CPU time holds its servers and workers without"
            " Postgres. Not measured: the Celery and Kubernetes executors, many DAGs or runs at once, a scheduler on a"
            " machine of its own, and what ours records and Airflow does not (data versions, a check for each"
            " expectation, metadata)."
        ),
    )


@dataclass
class _Way:
    """Seconds of each turn: of the whole, and of one step that does nothing."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)


def _measured(rounds: int) -> dict[str, _Way]:
    ways = {name: _Way() for name in ("mlops", "job", "in_process", "forked", *AIRFLOWS)}
    with ExitStack() as opened:
        running: dict[str, servers.Airflow] = {}
        for name, options in AIRFLOWS.items():
            with _standing(running):
                running[name] = opened.enter_context(servers.serving(**options))
        for turn in range(rounds + 1):
            timings = {name: _Way() for name in ways} if turn == 0 else ways  # the first turn has cold caches
            with _standing(running):
                _ours(timings)
            for name, airflow in running.items():
                with _standing(running, but=name):
                    _theirs(airflow, timings[name])
            print(f"turn {turn} of {rounds}: {timings}", flush=True)
    return ways


@contextmanager
def _standing(running: Mapping[str, servers.Airflow], but: str = "") -> Iterator[None]:
    """Pause all servers but one."""
    with ExitStack() as stack:
        for name, airflow in running.items():
            if name != but:
                stack.enter_context(airflow.paused())
        yield


def _theirs(airflow: servers.Airflow, way: _Way) -> None:
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as home:
        before = airflow.cpu_seconds()
        way.wall.append(sum(airflow.run(dag, {"home": home}) for dag in ("dataops", "mlops")))
        way.cpu.append(airflow.cpu_seconds() - before)
    way.step.append(airflow.run("trivial", {}) / STEPS)


def _ours(ways: dict[str, _Way]) -> None:
    python = servers.ENVIRONMENT / "bin" / "python"
    commands = {
        "mlops": ["mlops_platform.cli.main", "run"],
        "job": ["dagster", "job", "execute", "-m", "mlops_platform.definitions", "-j", "end_to_end"],
    }
    for name, command in commands.items():
        with tempfile.TemporaryDirectory(prefix="mlops-bench-") as home:
            instance = Path(home) / "dagster"
            instance.mkdir()
            (instance / "dagster.yaml").write_bytes((servers.PROJECT_ROOT / "dagster.yaml").read_bytes())
            # Dagster starts `dbt` by its name
            path = f"PATH={python.parent}:/usr/bin:/bin"
            env = ["/usr/bin/env", path, _PLATFORM, f"MLOPS_HOME={home}", f"DAGSTER_HOME={instance}"]
            cost = measure([*env, str(python), "-W", "ignore", "-m", *command])
            ways[name].wall.append(cost.wall)
            ways[name].cpu.append(cost.cpu)
    for name, job in (("in_process", "in_process"), ("forked", "multiprocess")):
        output = measure(
            ["/usr/bin/env", _PLATFORM, str(python), "-W", "ignore", "-m", "benchmarks.trivial", job]
        ).output
        seconds = next(line.split()[1] for line in output.splitlines() if line.startswith("seconds "))
        ways[name].step.append(float(seconds) / STEPS)


def _about() -> str:
    packages = next(servers.ENVIRONMENT.glob("lib/*/site-packages"))
    version = next(
        package.version for package in distributions(path=[str(packages)]) if package.name == "apache-airflow"
    )
    tuned = ", ".join(
        f"`{name.removeprefix('AIRFLOW__').replace('__', '.').lower()}` {value}"
        for name, value in servers.TUNED.items()
    )
    return (
        f"Airflow {version}: LocalExecutor with the scheduler, DAG processor and API server, all up before the clock"
        " starts, on Postgres; wall time from the request for a run to its end, by Airflow's own clock. The"
        " lesson's two DAGs (`dataops`, then `mlops`; 12 tasks, the two loads and their validations side by side) call"
        " the same functions (`benchmarks/steps.py`), from an environment that holds Airflow and the platform's"
        " libraries, so that no task starts a second Python. Ours runs in the same environment, is timed from the start"
        " of its process, and has the checks and metadata besides. Airflow as it comes, with its defaults, and *tuned*:"
        f" {tuned}. Its Postgres does not wait for the disk. While one is measured, the others are stopped."
    )
