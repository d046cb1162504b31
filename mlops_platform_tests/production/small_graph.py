"""A graph that is quick to load: what the instance and the executors do with it is what is tested."""

import os
import signal
import time

import dagster as dg

from mlops_platform.errors import PlatformError
from mlops_platform.executor import build_executor
from mlops_platform.resources.json_io_manager import JsonValues
from mlops_platform.settings import Settings

SECONDS = 1.5


@dg.asset(pool="warehouse")
def first() -> dg.MaterializeResult[dict[str, int]]:
    """Take a while, as a load into the warehouse does."""
    time.sleep(SECONDS)
    return dg.MaterializeResult(value={"pid": os.getpid(), "number": 20}, metadata={"pid": os.getpid()})


@dg.asset
def second(first: dict[str, int]) -> dg.MaterializeResult[dict[str, int]]:
    """Take what another step, perhaps in another process, has left."""
    pids = {"pid": os.getpid(), "upstream_pid": first["pid"]}
    return dg.MaterializeResult(value={**pids, "number": first["number"] + 1}, metadata=dict(pids))


@dg.asset
def checked() -> None:
    """What a blocking check finds bad."""


@dg.asset_check(asset=checked, blocking=True, name="is_good")
def is_good() -> dg.AssetCheckResult:
    """Never satisfied."""
    return dg.AssetCheckResult(passed=False)


@dg.asset(deps=[checked])
def behind() -> None:
    """What must not be made then."""


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
def flaky(context: dg.AssetExecutionContext) -> None:
    """Fail at the first try."""
    if context.retry_number == 0:
        raise RuntimeError("the first try")


@dg.asset
def broken() -> None:
    """Fail as a step of the platform does."""
    raise PlatformError("The source has no rows: fill it, and run again.")


@dg.asset
def slow() -> None:
    """Never come to an end."""
    time.sleep(600)


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=1))
def patient(context: dg.AssetExecutionContext) -> None:
    """Come to an end at the second try only."""
    if context.retry_number == 0:
        time.sleep(600)


@dg.asset(pool="warehouse")
def rival() -> dg.MaterializeResult[None]:
    """Compete with `first` for a slot of its pool."""
    time.sleep(SECONDS)
    return dg.MaterializeResult(metadata={"pid": os.getpid()})


@dg.asset
def stalls_once() -> None:
    """Hang in the first process that runs this step, and succeed in the next one."""
    marker = settings.home / "stalled"
    if not marker.exists():
        marker.write_text(str(os.getpid()))
        time.sleep(600)


@dg.asset
def dies() -> None:
    """Die as a process does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


settings = Settings()
defs = dg.Definitions(
    assets=[first, second, checked, behind, flaky, broken, slow, patient, rival, stalls_once, dies],
    asset_checks=[is_good],
    jobs=[
        dg.define_asset_job("both", selection=["first", "second"]),
        dg.define_asset_job("guarded", selection=["checked", "behind"]),
        dg.define_asset_job("flaky_job", selection=["flaky"]),
        dg.define_asset_job("broken_job", selection=["broken"]),
        dg.define_asset_job("slow_job", selection=["slow"]),
        dg.define_asset_job("slow_and_patient", selection=["slow", "patient"]),
        dg.define_asset_job("rivals", selection=["first", "rival"]),
        dg.define_asset_job("dies_job", selection=["dies"]),
        dg.define_asset_job("stalls_once_job", selection=["stalls_once"]),
        dg.define_asset_job("stalls_once_beside_both", selection=["stalls_once", "first", "second"]),
    ],
    resources={"io_manager": JsonValues(base_dir=str(settings.values_dir))},
    executor=build_executor(settings),
)
