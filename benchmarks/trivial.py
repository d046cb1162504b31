"""`python -m benchmarks.trivial in_process`: ten assets in a row that do nothing, on our executors.

It prints the seconds from the start of the run to its end, by its events.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import dagster as dg

from mlops_platform.executor import build_executor
from mlops_platform.resources.json_io_manager import JsonValues
from mlops_platform.settings import PROJECT_ROOT, Settings

STEPS = 10


def _asset(number: int) -> dg.AssetsDefinition:
    @dg.asset(name=f"step_{number}", deps=[f"step_{number - 1}"] if number else [])
    def nothing() -> None:
        """Do nothing."""

    return nothing


def in_process() -> dg.JobDefinition:
    """Return the job in one process."""
    return _job("in_process")


def multiprocess() -> dg.JobDefinition:
    """Return the job with a process for each step."""
    return _job("multiprocess")


def _job(executor: str) -> dg.JobDefinition:
    settings = Settings(executor=executor)
    defs = dg.Definitions(
        assets=[_asset(number) for number in range(STEPS)],
        jobs=[dg.define_asset_job("trivial")],
        resources={"io_manager": JsonValues(base_dir=str(settings.values_dir))},
        executor=build_executor(settings),
    )
    return defs.resolve_job_def("trivial")


def main(executor: str) -> None:
    """Run the job once and print its duration."""
    from benchmarks import trivial

    home = Path(tempfile.mkdtemp(prefix="mlops-trivial-"))
    shutil.copy(PROJECT_ROOT / "dagster.yaml", home)
    try:
        with (
            dg.DagsterInstance.from_config(str(home)) as instance,
            dg.execute_job(
                dg.reconstructable(getattr(trivial, executor)),
                instance,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=True,
            ) as result,
        ):
            stats = instance.get_run_stats(result.run_id)
            assert stats.steps_succeeded == STEPS
            assert stats.start_time is not None
            assert stats.end_time is not None
            print("seconds", stats.end_time - stats.start_time)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
