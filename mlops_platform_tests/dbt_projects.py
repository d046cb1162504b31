"""A dbt project that a test needs with its manifest, and at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlops_platform.resources.dbt_manifest import Preparation, PreparedProject


def prepared_project(
    project_dir: Path, state_dir: Path, variables: Mapping[str, str], target: str = "duckdb"
) -> PreparedProject:
    """Prepare a project, and wait for it; see `Preparation`."""
    with Preparation(project_dir, state_dir, variables, target) as preparation:
        return preparation.finish()
