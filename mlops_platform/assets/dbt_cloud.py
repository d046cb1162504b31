"""The transform stage run by dbt Cloud: the assets and checks of ``transform`` with another resource `dbt`.

The assets come from the project's local manifest, so that the code location loads while dbt Cloud is down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DbtProject

from mlops_platform.assets.transform import TransformTranslator, build_transform_assets
from mlops_platform.resources.dbt.manifest import PreparedProject


class DbtCloudTranslator(TransformTranslator):
    """Shows in the UI that dbt Cloud builds the tables."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """Return the spec of the stage, of the kind dbtcloud."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(kinds={"dbtcloud"} | (spec.kinds - {"dbt"}))


def build_dbt_cloud_assets(project: PreparedProject) -> dg.AssetsDefinition:
    """Return the same assets as `build_transform_assets`, for a resource `dbt` that is a `DbtCloudRunner`."""
    return build_transform_assets(project, DbtCloudTranslator())
