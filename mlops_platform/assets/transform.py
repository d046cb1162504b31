"""The transform stage: dbt models as assets, dbt tests as their checks.

Here a dbt node becomes an asset or a check, and a dbt result becomes a Dagster event. How dbt runs is in
``resources.dbt.runner``; the SQL is in `dbt_transforms/`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject, dbt_assets
from pydantic import Field

from mlops_platform.assets.preconditions import require_tables
from mlops_platform.errors import TransformError, platform_errors_as_failures
from mlops_platform.resources.dbt.column_lineage import column_lineage
from mlops_platform.resources.dbt.manifest import PreparedProject, first_lines
from mlops_platform.resources.dbt.runner import BuildResult, Dbt, NodeResult
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.sql import SQL, sql

_UNIQUE_ID = "dagster_dbt/unique_id"  # the metadata in which dagster-dbt names the node of a spec or check spec


class TransformConfig(dg.Config):
    """Run config of the transform stage."""

    full_refresh: bool = Field(default=False, description="Rebuild incremental tables instead of appending to them.")


class TransformTranslator(DagsterDbtTranslator):
    """Gives dbt models, sources and tests their asset keys, group, owners and descriptions."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Return the table name, for models and sources alike."""
        return dg.AssetKey([dbt_resource_props["name"]])

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Return the description in the YAML file without the SQL, which is on each materialization."""
        return str(dbt_resource_props["description"])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Return the group `transform`."""
        return "transform"

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        """Return the team that owns the tables."""
        return ["team:data"]

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """Return the check of dagster-dbt with the description of the dbt test."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None:
            return None
        return dg.AssetCheckSpec(
            spec.name,
            asset=spec.asset_key,
            description=manifest["nodes"][unique_id]["description"] or None,
            additional_deps=spec.additional_deps,
            blocking=spec.blocking,
            metadata=spec.metadata,
        )


def build_transform_assets(
    project: PreparedProject, translator: DagsterDbtTranslator | None = None
) -> dg.AssetsDefinition:
    """Return the models of the dbt project as assets, with its tests as their checks.

    The assets need the resources `dbt` (a `Dbt`) and `warehouse`. The data version of a table is a hash of its content,
    so a rebuild with the same result changes nothing downstream.

    Args:
        project: The project, from `prepare_project`.
        translator: How dbt nodes become assets; by default a `TransformTranslator`.

    Raises:
        TransformError: A test belongs to no model.
    """
    manifest = project.manifest

    @dbt_assets(
        name="transform",
        manifest=manifest,
        project=project.dbt_project,
        dagster_dbt_translator=translator or TransformTranslator(),
        pool="warehouse",
    )
    def transform(
        context: dg.AssetExecutionContext, config: TransformConfig, dbt: Dbt, warehouse: Warehouse
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        keys = _selected_keys(context)
        # dbt shares this connection: opening it here waits for the lock and names its holder, dbt would only fail
        with platform_errors_as_failures(), warehouse.connect():
            require_tables(warehouse, *sorted(source["identifier"] for source in manifest["sources"].values()))
            select = [".".join(manifest["nodes"][unique_id]["fqn"]) for unique_id in keys]
            build = _build(dbt, select, config.full_refresh, warehouse)
            if build.log:
                context.log.info(build.log)
            for node in build.nodes:
                key = keys[node.unique_id]
                if isinstance(key, dg.AssetKey) and node.status == "success":
                    yield _materialization(key, node, manifest, warehouse, build.url)
                elif isinstance(key, dg.AssetCheckKey) and node.status in {"pass", "fail", "warn"}:
                    yield _check_result(key, node, manifest, warehouse)
            _raise_errors(build.nodes, manifest, warehouse)

    _require_models_for_tests(transform, manifest)
    return transform


def _require_models_for_tests(assets: dg.AssetsDefinition, manifest: Mapping[str, Any]) -> None:
    tests = {unique_id for unique_id, node in manifest["nodes"].items() if node["resource_type"] == "test"}
    tests -= {(spec.metadata or {})[_UNIQUE_ID] for spec in assets.check_specs}
    if tests:
        # it would never run, and nobody would notice
        name = manifest["nodes"][min(tests)]["name"]
        raise TransformError(f"The dbt test {name} belongs to no model: name one under meta.dagster.ref in its config.")


def _build(dbt: Dbt, select: Sequence[str], full_refresh: bool, warehouse: Warehouse) -> BuildResult:
    try:
        return dbt.build(select, full_refresh=full_refresh)
    except TransformError as error:
        refusal = warehouse.refusal(str(error))
        if refusal is None:
            raise
        raise TransformError(f"dbt could not start: {refusal}") from error


def _selected_keys(context: dg.AssetExecutionContext) -> dict[str, dg.AssetKey | dg.AssetCheckKey]:
    """Return the selected assets and checks of this step by dbt's unique id."""
    assets = context.assets_def
    keys: dict[str, dg.AssetKey | dg.AssetCheckKey] = {
        assets.get_asset_spec(key).metadata[_UNIQUE_ID]: key for key in context.selected_asset_keys
    }
    for spec in assets.check_specs:
        if spec.key in context.selected_asset_check_keys:
            keys[(spec.metadata or {})[_UNIQUE_ID]] = spec.key
    return keys


def _check_result(
    key: dg.AssetCheckKey, node: NodeResult, manifest: Mapping[str, Any], warehouse: Warehouse
) -> dg.AssetCheckResult:
    severity = manifest["nodes"][node.unique_id]["config"]["severity"].lower()
    metadata: dict[str, Any] = {
        "failing_rows": node.failures,
        "seconds": node.seconds,
        "sql": dg.MetadataValue.md(f"```sql\n{node.sql}\n```"),
    }
    if node.failures:
        rows = warehouse.fetch_rows(sql("select * from (\n{test}\n) as failing limit 5", test=SQL(node.sql)))
        metadata["examples"] = dg.MetadataValue.json([[str(value) for value in row] for row in rows])
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=node.status == "pass",
        severity=dg.AssetCheckSeverity.WARN if "warn" in (node.status, severity) else dg.AssetCheckSeverity.ERROR,
        metadata=metadata,
    )


def _materialization(
    key: dg.AssetKey, node: NodeResult, manifest: Mapping[str, Any], warehouse: Warehouse, url: str | None
) -> dg.MaterializeResult:
    model = manifest["nodes"][node.unique_id]
    table, columns = model["alias"], warehouse.describe(model["alias"])
    descriptions = {name: column["description"] for name, column in model["columns"].items()}
    schema = dg.TableSchema(
        [dg.TableColumn(name, type=kind, description=descriptions.get(name) or None) for name, kind in columns]
    )
    nodes = {**manifest["sources"], **manifest["nodes"]}
    parents = [nodes[unique_id] for unique_id in model["depends_on"]["nodes"]]
    parent_tables = {parent.get("identifier") or parent["alias"] for parent in parents}
    lineage = column_lineage(
        node.sql,
        [name for name, _ in columns],
        {parent: warehouse.describe(parent) for parent in parent_tables},
        manifest["metadata"]["adapter_type"],
    )
    return dg.MaterializeResult(
        asset_key=key,
        data_version=dg.DataVersion(warehouse.content_version(table)),
        metadata={
            "dagster/row_count": warehouse.row_count(table),
            "dagster/column_schema": schema,
            "seconds": node.seconds,
            "sql": dg.MetadataValue.md(f"```sql\n{node.sql}\n```"),
            **({"dagster/column_lineage": lineage} if lineage else {}),
            **({"run": dg.MetadataValue.url(url)} if url else {}),
        },
    )


def _raise_errors(nodes: Sequence[NodeResult], manifest: Mapping[str, Any], warehouse: Warehouse) -> None:
    """Raise for nodes that could not run, which are neither a built table nor a failed check."""
    # sorted, as dbt's threads finish in any order
    errors = sorted(
        (node for node in nodes if node.status in {"error", "runtime error"}), key=lambda node: node.unique_id
    )
    if not errors:
        return
    props = manifest["nodes"][errors[0].unique_id]
    verb = "run the test" if props["resource_type"] == "test" else "build"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    # the first line of dbt's message repeats the name of the node
    reason = first_lines(re.sub(r"^\w+ Error in (model|test) .*\n", "", errors[0].message))
    remedy = f"{reason}; correct {props['original_file_path']} or the tables that it reads."
    raise TransformError(f"dbt could not {verb} {props['name']}{more}: {warehouse.refusal(reason) or remedy}")
