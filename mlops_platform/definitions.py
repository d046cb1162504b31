"""The code location that `dagster` and `dg` load: the graph, built from the environment."""

from __future__ import annotations

from mlops_platform.graph import build_definitions

defs = build_definitions()
