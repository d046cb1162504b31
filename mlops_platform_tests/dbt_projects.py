"""A prepared dbt project for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlops_platform.resources.dbt.manifest import PreparedProject, prepare_project


def prepared_project(
    project_dir: Path, state_dir: Path, variables: Mapping[str, str], target: str = "duckdb"
) -> PreparedProject:
    """Return `prepare_project` for the target that most tests use."""
    return prepare_project(project_dir, state_dir, variables, target)
