"""The code location that `dagster` and `dg` load: the graph, and the definitions in `mlops_platform/defs/`."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from mlops_platform.build import build_definitions

_DEFS_FOLDER = Path(__file__).parent / "defs"


@dg.definitions
def defs() -> dg.Definitions:
    """Return the graph for the settings in the environment, merged with the user's own definitions."""
    # `load_from_defs_folder` also imports all installed plugins, among them pandas and google.cloud: 1.1 s
    user_defs = dg.ComponentTree.for_project(_DEFS_FOLDER).build_defs(_DEFS_FOLDER)
    return dg.Definitions.merge(build_definitions(), user_defs)
