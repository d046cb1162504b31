"""The platform's own graph, on the executor that MLOPS_EXECUTOR names."""

from __future__ import annotations

from dagster_shared.record import replace

from mlops_platform.executors import build_executor
from mlops_platform.graph import build_definitions
from mlops_platform.settings import Settings

settings = Settings()
defs = replace(build_definitions(settings), executor=build_executor(settings))
