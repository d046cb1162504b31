"""The transform stage when dbt Cloud runs it: the same assets and checks, with `dbt` another resource.

The assets come from the project's own manifest, as always, so that the code location loads while dbt Cloud is down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DbtProject
from dagster_dbt.cloud_v2.resources import DbtCloudCredentials, DbtCloudWorkspace

from mlops_platform.assets.transform import TransformTranslator, build_transform_assets
from mlops_platform.resources.dbt import PreparedProject
from mlops_platform.resources.dbt_cloud import DbtCloudRunner
from mlops_platform.settings import Settings


class DbtCloudTranslator(TransformTranslator):
    """Shows in the UI that dbt Cloud makes the tables."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """Return the spec of the stage, of the kind dbtcloud."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(kinds={"dbtcloud"} | (spec.kinds - {"dbt"}))


def build_dbt_cloud_assets(project: PreparedProject) -> dg.AssetsDefinition:
    """Return the same assets as `build_transform_assets`; their resource `dbt` is a `DbtCloudRunner`.

    Args:
        project: The project with its manifest, as the Cloud environment should run it.
    """
    return build_transform_assets(project, DbtCloudTranslator())


def dbt_cloud_runner(
    settings: Settings, variables: Mapping[str, str] | None = None, timeout: float = 3600.0
) -> DbtCloudRunner:
    """Return the runner for the account in the settings; nothing is asked of dbt Cloud yet.

    Args:
        settings: The address, the account, the project, the environment and the token.
        variables: dbt variables for all runs.
        timeout: Seconds after which a run is cancelled.
    """
    credentials = DbtCloudCredentials(
        account_id=settings.dbt_cloud_account_id,
        token=settings.dbt_cloud_token.get_secret_value(),
        access_url=settings.dbt_cloud_url,
    )
    workspace = DbtCloudWorkspace(
        credentials=credentials,
        project_id=settings.dbt_cloud_project_id,
        environment_id=settings.dbt_cloud_environment_id,
    )
    return DbtCloudRunner(workspace=workspace, variables=dict(variables or {}), timeout=timeout)
