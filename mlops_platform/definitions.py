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
        from mlops_platform.graph import build_definitions

        return build_definitions()
    finally:
        gc.freeze()
        if collects:
            gc.enable()


defs = _load()
