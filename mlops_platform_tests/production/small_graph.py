"""A graph that is quick to load: what the instance and the executors do with it is what is tested."""

from __future__ import annotations

import os
import time

import dagster as dg

from mlops_platform.executors import build_executor
from mlops_platform.resources.values import JsonValues
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


settings = Settings()
defs = dg.Definitions(
    assets=[first, second],
    jobs=[dg.define_asset_job("both", selection="*")],
    resources={"io_manager": JsonValues(base_dir=str(settings.values_dir))},
    executor=build_executor(settings),
)
