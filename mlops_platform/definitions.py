"""The code location that `dagster` and `dg` load: the graph, built from the environment."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg


def _load() -> dg.Definitions:
    # what is made here lives as long as the process: looking through it for garbage took 0.3 of the load's 2 s, and
    # a look after it would copy every page that forked steps share
    collects = gc.isenabled()
    gc.disable()
    try:
        from mlops_platform.resources.dbt_preparation import prepare_dbt
        from mlops_platform.settings import Settings

        settings = Settings()
        # on a new home dbt parses for seconds, in a process of its own: meanwhile this one imports
        with prepare_dbt(settings) as preparation:
            from mlops_platform.graph import build_definitions

            return build_definitions(settings, preparation)
    finally:
        gc.freeze()
        if collects:
            gc.enable()


defs = _load()
